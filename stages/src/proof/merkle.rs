//! What an entry with transactions mixes into the chain: the root of a Merkle tree over their signatures.

use sha2::{Digest, Sha256};

use super::chain::Signature;

/// What tells a leaf from an inner node, so that neither can pass for the other.
const LEAF: [u8; 1] = [0];
const NODE: [u8; 1] = [1];

/// The root over signatures in order; an odd node is paired with itself. `None` if there are no signatures.
pub(super) fn root(signatures: &[Signature]) -> Option<[u8; 32]> {
    let leaf = |signature| Sha256::new().chain_update(LEAF).chain_update(signature).finalize().into();
    let mut level: Vec<[u8; 32]> = signatures.iter().map(leaf).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| node(&pair[0], pair.last().unwrap_or(&pair[0]))).collect();
    }
    level.first().copied()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(NODE).chain_update(left).chain_update(right).finalize().into()
}

/// The hash that takes a root in.
pub(super) fn mix(state: &[u8; 32], root: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(state).chain_update(root).finalize().into()
}
