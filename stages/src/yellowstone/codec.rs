//! The tonic codec of a subscription: requests go out through prost, updates come in as the bytes they are.
//!
//! Without compression an update is a slice of tonic's read buffer: nothing is copied or decoded. With compression
//! tonic unpacks each message into one buffer that it uses again; there the update is copied out at its exact size,
//! since a slice would keep the whole buffer (64 KiB) alive for an update of some hundred bytes.
//!
//! The limit on a message's size is tonic's own, which holds for the bytes on the wire and, where they are compressed,
//! for the unpacked bytes as well: `the_limit_holds_on_the_wire_and_after_decompression`.

use bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use yellowstone_grpc_proto::geyser::SubscribeRequest;

/// Size of the read buffer's blocks: some 60 transactions share an allocation, and an update that outlives its
/// neighbours keeps no more than this alive. The largest that `BytesMut` re-uses for its next block.
const READ_BLOCK_BYTES: usize = 64 << 10;

/// Tonic's default; requests are small and rare.
const YIELD_THRESHOLD_BYTES: usize = 32 << 10;

/// Encodes [`SubscribeRequest`]s and hands updates over as [`Bytes`].
#[derive(Debug, Clone, Copy)]
pub struct FrameCodec {
    /// Whether the server was told that it may compress.
    pub compressed: bool,
}

impl Codec for FrameCodec {
    type Encode = SubscribeRequest;
    type Decode = Bytes;
    type Encoder = RequestEncoder;
    type Decoder = FrameDecoder;

    fn encoder(&mut self) -> RequestEncoder {
        RequestEncoder
    }

    fn decoder(&mut self) -> FrameDecoder {
        FrameDecoder { compressed: self.compressed }
    }
}

/// Writes requests.
#[derive(Debug, Clone, Copy)]
pub struct RequestEncoder;

impl Encoder for RequestEncoder {
    type Item = SubscribeRequest;
    type Error = Status;

    fn encode(&mut self, request: SubscribeRequest, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Cuts updates out of the read buffer.
#[derive(Debug, Clone, Copy)]
pub struct FrameDecoder {
    compressed: bool,
}

impl Decoder for FrameDecoder {
    type Item = Bytes;
    type Error = Status;

    #[inline]
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        if !self.compressed || buffer.chunk().len() < length {
            return Ok(Some(buffer.copy_to_bytes(length)));
        }
        let bytes = Bytes::copy_from_slice(buffer.chunk());
        buffer.advance(length);
        Ok(Some(bytes))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(READ_BLOCK_BYTES, YIELD_THRESHOLD_BYTES)
    }
}
