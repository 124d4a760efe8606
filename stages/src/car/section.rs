//! A CARv1 file cut into its sections, each checked against its CID. Pure: bytes are pushed in as they come.

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::cbor::{CborError, Reader, TEXT};

/// Largest section: what go-car, which writes these files, accepts.
const MAX_SECTION_BYTES: u64 = 32 << 20;
/// Largest header: a few roots.
const MAX_HEADER_BYTES: u64 = 4 << 10;
/// Bytes of the longest number in a varint.
const MAX_VARINT_BYTES: usize = 9;
const VERSION: u64 = 1;
const RAW: u64 = 0x55;
const DAG_CBOR: u64 = 0x71;
const IDENTITY: u64 = 0x00;
const SHA2_256: u64 = 0x12;
const DIGEST_BYTES: usize = 32;

/// What a link names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Cid {
    /// A node with this SHA-256.
    Node([u8; DIGEST_BYTES]),
    /// Nothing: the identity of no bytes, which stands where there are no rewards.
    Nothing,
}

/// Why bytes are not a CID that these files have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CidError {
    /// They end too early.
    #[error("a CID ends early")]
    Truncated,
    /// They go on behind it.
    #[error("bytes follow a CID")]
    Trailing,
    /// Another version, codec or hash.
    #[error("a CID of version {version}, codec {codec:#x}, hash {hash:#x} is not one of this archive's")]
    Kind {
        /// The version.
        version: u64,
        /// The codec.
        codec: u64,
        /// The hash function.
        hash: u64,
    },
}

impl Cid {
    /// The CID that `bytes` begin with, and its length.
    fn first(bytes: &[u8]) -> Result<(Self, usize), CidError> {
        let mut rest = bytes;
        let mut number = || match varint(rest) {
            Ok(Some((number, length))) => {
                rest = &rest[length..];
                Ok(number)
            }
            Ok(None) | Err(_) => Err(CidError::Truncated),
        };
        let (version, codec, hash, length) = (number()?, number()?, number()?, number()?);
        let before = bytes.len() - rest.len();
        match (version, codec, hash, length) {
            (1, DAG_CBOR, SHA2_256, 32) => {
                let digest = rest.first_chunk::<DIGEST_BYTES>().ok_or(CidError::Truncated)?;
                Ok((Self::Node(*digest), before + DIGEST_BYTES))
            }
            (1, RAW, IDENTITY, 0) => Ok((Self::Nothing, before)),
            _ => Err(CidError::Kind { version, codec, hash }),
        }
    }

    /// The bytes that name it.
    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Node(digest) => {
                [&[1, DAG_CBOR as u8, SHA2_256 as u8, DIGEST_BYTES as u8][..], &digest].concat()
            }
            Self::Nothing => vec![1, RAW as u8, IDENTITY as u8, 0],
        }
    }

    /// The CID that fills `bytes`.
    pub(super) fn whole(bytes: &[u8]) -> Result<Self, CidError> {
        match Self::first(bytes)? {
            (cid, length) if length == bytes.len() => Ok(cid),
            _ => Err(CidError::Trailing),
        }
    }
}

/// Why a file can't be read on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum SectionError {
    /// A length that is none.
    #[error("at byte {at}: a section of {length} bytes; the file is damaged, or not a CAR file")]
    Length {
        /// Where.
        at: u64,
        /// What it claims.
        length: u64,
    },
    /// It does not begin like a CARv1 file.
    #[error("not a CARv1 file: {0}")]
    Header(String),
    /// A CID that these files don't have.
    #[error("at byte {at}: {source}")]
    Cid {
        /// Where.
        at: u64,
        /// Why not.
        source: CidError,
    },
    /// A section that was changed.
    #[error("at byte {at}: the section is not what its CID says; the file is damaged")]
    Digest {
        /// Where.
        at: u64,
    },
    /// The file ends in the middle of something.
    #[error("at byte {at}: the file ends in the middle of a section")]
    Truncated {
        /// Where that begins.
        at: u64,
    },
}

/// A section whose content is what its CID says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// Its SHA-256.
    pub(super) digest: [u8; DIGEST_BYTES],
    /// Its content.
    pub(super) data: Bytes,
}

/// Cuts a file.
#[derive(Debug, Default)]
pub(super) struct Sections {
    buffer: BytesMut,
    /// Where `buffer` begins in the file.
    at: u64,
    root: Option<Cid>,
}

impl Sections {
    /// The next bytes of the file.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The first root that the header names, once that was read.
    pub(super) fn root(&self) -> Option<Cid> {
        self.root
    }

    /// The next section, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Section>, SectionError> {
        if self.root.is_none() {
            let Some(header) = self.cut(MAX_HEADER_BYTES)? else { return Ok(None) };
            self.root = Some(root_of(&header)?);
        }
        let at = self.at;
        let Some(mut section) = self.cut(MAX_SECTION_BYTES)? else { return Ok(None) };
        let (cid, length) = Cid::first(&section).map_err(|source| SectionError::Cid { at, source })?;
        section.advance(length);
        match cid {
            Cid::Node(digest) if Sha256::digest(&section)[..] == digest => {
                Ok(Some(Section { digest, data: section }))
            }
            Cid::Node(_) | Cid::Nothing => Err(SectionError::Digest { at }),
        }
    }

    /// There is no more to come.
    pub(super) fn end(&self) -> Result<(), SectionError> {
        match self.buffer.is_empty() && self.root.is_some() {
            true => Ok(()),
            false => Err(SectionError::Truncated { at: self.at }),
        }
    }

    /// Cuts off a length and as many bytes.
    fn cut(&mut self, max_bytes: u64) -> Result<Option<Bytes>, SectionError> {
        let at = self.at;
        let wrong = |length| SectionError::Length { at, length };
        let Some((length, width)) = varint(&self.buffer).map_err(wrong)? else { return Ok(None) };
        if length == 0 || length > max_bytes {
            return Err(wrong(length));
        }
        let length = usize::try_from(length).map_err(|_| wrong(length))?;
        if self.buffer.len() < width + length {
            return Ok(None);
        }
        self.at += (width + length) as u64;
        self.buffer.advance(width);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The number that `bytes` begin with and its length; `None` if more bytes are needed.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, u64> {
    let mut number = 0_u64;
    for (position, &byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(Some((number, position + 1)));
        }
    }
    if bytes.len() < MAX_VARINT_BYTES { Ok(None) } else { Err(number) }
}

fn root_of(header: &[u8]) -> Result<Cid, SectionError> {
    let read = || -> Result<(Option<u64>, Vec<Cid>), CborError> {
        let mut reader = Reader::new(header);
        let (mut version, mut roots) = (None, Vec::new());
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"version" => version = Some(reader.number()?),
                b"roots" => roots = reader.links()?,
                _ => return Err(CborError::Unexpected { wanted: "roots or version", found: TEXT << 5 }),
            }
        }
        reader.end()?;
        Ok((version, roots))
    };
    match read() {
        Ok((Some(VERSION), roots)) => {
            roots.first().copied().ok_or_else(|| SectionError::Header("it names no root".to_owned()))
        }
        Ok((version, _)) => Err(SectionError::Header(format!("its version is {version:?}"))),
        Err(error) => Err(SectionError::Header(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use sluice_cluster::ledger::car::{CarWriter, varint};

    use super::{Cid, Section, SectionError, Sections};

    fn read(file: &[u8], step: usize) -> Result<Vec<Section>, SectionError> {
        read_with_root(file, step).map(|(_, sections)| sections)
    }

    fn read_with_root(file: &[u8], step: usize) -> Result<(Option<Cid>, Vec<Section>), SectionError> {
        let (mut sections, mut found) = (Sections::default(), Vec::new());
        for chunk in file.chunks(step) {
            sections.push(chunk);
            while let Some(section) = sections.next()? {
                found.push(section);
            }
        }
        sections.end().map(|()| (sections.root(), found))
    }

    fn file() -> Vec<u8> {
        let mut writer = CarWriter::default();
        writer.add(&[1; 10]);
        writer.add(&[2; 300]);
        let root = writer.add(&[3]);
        writer.finish(root)
    }

    #[test]
    fn sections_are_the_same_however_the_file_is_cut() {
        let file = file();
        let whole = read(&file, file.len()).expect("whole");
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[1].data, vec![2; 300]);
        for step in [1, 7, 100] {
            assert_eq!(read(&file, step).expect("whole"), whole);
        }
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_told_and_never_read_on() {
        let file = file();
        for length in 0..file.len() {
            let ended = read(&file[..length], 64);
            // Between two sections nothing shows yet: the epoch at the end does.
            let is_cut = ended.as_ref().is_ok_and(|sections| sections.len() < 3);
            assert!(is_cut || matches!(ended, Err(SectionError::Truncated { .. })), "{length}: {ended:?}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x40;
            assert_ne!(read_with_root(&changed, 64).ok(), read_with_root(&file, 64).ok(), "byte {at}");
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_read() {
        let mut file = file();
        file.extend(varint(u64::from(u32::MAX)));
        assert!(matches!(read(&file, 64), Err(SectionError::Length { .. })));
        let mut endless = self::file();
        endless.extend([0xff; 10]);
        assert!(matches!(read(&endless, 64), Err(SectionError::Length { .. })));
        assert!(matches!(read(b"<html>", 64), Err(SectionError::Truncated { .. } | SectionError::Header(_))));
    }
}
