//! A codec that sends updates as the bytes they already are.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use yellowstone_grpc_proto::prelude::SubscribeRequest;

/// Bytes out, subscription requests in.
#[derive(Debug, Default)]
pub(super) struct RawCodec;

/// Copies bytes into the message.
#[derive(Debug)]
pub(super) struct RawEncoder;

/// Reads requests.
#[derive(Debug)]
pub(super) struct RequestDecoder(PhantomData<SubscribeRequest>);

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = SubscribeRequest;
    type Encoder = RawEncoder;
    type Decoder = RequestDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RequestDecoder {
    type Item = SubscribeRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<SubscribeRequest>, Status> {
        let request = SubscribeRequest::decode(buffer);
        request.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
