//! Archives that are damaged in every way that a seed can think of: they end in blocks and an error, never in a panic, and
//! damage that the CIDs don't cover up is never taken for whole.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use sluice_cluster::ledger::car::{BlockHead, CarWriter};
use sluice_cluster::ledger::{GeneratedLedger, Ledger};

use super::accumulator::{Accumulator, CarError};
use super::convert;
use super::section::Sections;
use crate::slot::Hash;

/// Bytes of a CID of a node: version, codec, hash, length, digest.
const CID_BYTES: usize = 36;
const SEEDS: u64 = 400;

/// A small archive with all kinds of nodes: payloads in several frames, rewards, protobuf and bincode.
fn archive() -> Vec<u8> {
    let mut writer = CarWriter::default();
    writer.frame_bytes = 200;
    let ledger = Ledger::generated(GeneratedLedger {
        slots: Some(6),
        transactions_per_slot: 2..=4,
        mainnet_blocks: false,
        ..GeneratedLedger::default()
    });
    let slots = (0..ledger.length().expect("it has an end")).filter_map(|position| ledger.at(position));
    let mut last = 0;
    for block in slots.filter_map(|slot| slot.canonical().map(|version| version.block.clone())) {
        writer.block(&block);
        last = block.slot;
    }
    let stored = (0_u32, 5_000_u64, vec![9_u64], vec![4_u64], Some(Vec::<u8>::new()), Some(vec!["log"]));
    let stored = bincode::serialize(&stored).expect("in memory");
    let packed = zstd::encode_all(stored.as_slice(), 1).expect("in memory");
    let transaction = writer.transaction(last + 1, 0, &[0; 70], &packed);
    let head = BlockHead { slot: last + 1, parent_slot: last, block_time: 0, block_height: None };
    writer.block_of(head, &[(vec![7; 32], vec![transaction])], None);
    writer.end()
}

/// Reads as far as it goes; what can't be converted is a hole, as in the source.
fn read(file: &[u8], chunk: usize) -> Result<usize, CarError> {
    let (mut sections, mut accumulator, mut blocks) = (Sections::default(), Accumulator::default(), 0);
    for part in file.chunks(chunk) {
        sections.push(part);
        while let Some(section) = sections.next()? {
            if let Some(raw) = accumulator.accept(section)? {
                blocks += usize::from(convert::frames(&raw, Hash([0; 32])).is_ok());
            }
        }
    }
    sections.end()?;
    accumulator.end(sections.root()).map(|()| blocks)
}

fn mutilated(bytes: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at.max(1)),
            3 => drop(bytes.drain(at..(at + random.random_range(1..20)).min(bytes.len() - 1).max(at))),
            _ => {
                let copied: Vec<u8> = bytes[at..(at + 20).min(bytes.len())].to_vec();
                let to = random.random_range(0..bytes.len());
                bytes.splice(to..to, copied);
            }
        }
    }
    bytes
}

/// The length that stands at the beginning, and how many bytes it takes.
fn varint(bytes: &[u8]) -> (usize, usize) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a whole file");
    let number = bytes[..=end].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f));
    (number, end + 1)
}

fn replace(bytes: &mut [u8], changed: &[([u8; 32], [u8; 32])]) {
    for (old, new) in changed {
        for at in 0..bytes.len().saturating_sub(31) {
            if bytes[at..at + 32] == *old {
                bytes[at..at + 32].copy_from_slice(new);
            }
        }
    }
}

/// The file with one node mutilated and all CIDs made to fit again, so that damage gets as deep as it can.
fn with_a_mutilated_node(file: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let (length, width) = varint(file);
    let mut header = file[..width + length].to_vec();
    let mut sections = Vec::new();
    let mut rest = &file[width + length..];
    while !rest.is_empty() {
        let (length, width) = varint(rest);
        sections.push(rest[width..width + length].to_vec());
        rest = &rest[width + length..];
    }
    let (chosen, mut changed, mut out) = (random.random_range(0..sections.len()), Vec::new(), Vec::new());
    for (place, mut section) in sections.into_iter().enumerate() {
        let old: [u8; 32] = section[4..CID_BYTES].try_into().expect("a digest");
        let mut node = section.split_off(CID_BYTES);
        replace(&mut node, &changed);
        if place == chosen {
            node = mutilated(&node, random);
        }
        let new: [u8; 32] = Sha256::digest(&node).into();
        if old != new {
            changed.push((old, new));
        }
        out.extend(sluice_cluster::ledger::car::varint((CID_BYTES + node.len()) as u64));
        out.extend(&section[..4]);
        out.extend(new);
        out.extend(node);
    }
    replace(&mut header, &changed);
    [header, out].concat()
}

#[test]
fn damage_that_no_cid_covers_up_is_never_taken_for_whole() {
    let file = archive();
    let whole = read(&file, file.len()).expect("whole");
    assert_eq!(read(&file, 7).expect("whole, in small parts"), whole);
    for seed in 0..SEEDS {
        let mut random = SmallRng::seed_from_u64(seed);
        let damaged = mutilated(&file, &mut random);
        let read = read(&damaged, random.random_range(1..5_000));
        assert!(read.is_err() || damaged == file, "seed {seed}: {read:?}");
    }
}

#[test]
fn a_node_that_was_made_up_ends_in_an_error_or_a_hole_never_in_a_panic() {
    let file = archive();
    let whole = read(&file, file.len()).expect("whole");
    let mut outcomes = [0; 3];
    for seed in 0..SEEDS {
        let mut random = SmallRng::seed_from_u64(seed);
        match read(&with_a_mutilated_node(&file, &mut random), file.len()) {
            Err(_) => outcomes[0] += 1,
            Ok(blocks) if blocks < whole => outcomes[1] += 1,
            Ok(_) => outcomes[2] += 1,
        }
    }
    assert!(
        outcomes.iter().all(|&count| count > 0),
        "errors, holes, and changes of content alone: {outcomes:?}"
    );
}
