//! Random numbers that depend on nothing but what they are for.

use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

/// The generator for one purpose: equal parts give equal numbers, whatever was drawn for other purposes.
pub(crate) fn random(purpose: &str, parts: &[u64]) -> StdRng {
    StdRng::from_seed(digest(purpose, parts))
}

/// 32 bytes for one purpose.
pub(crate) fn digest(purpose: &str, parts: &[u64]) -> [u8; 32] {
    let mut hasher = Sha256::new().chain_update(purpose);
    for part in parts {
        hasher.update(part.to_le_bytes());
    }
    hasher.finalize().into()
}
