//! What an entry with transactions mixes into the chain: the root of a Merkle tree over their signatures.
//!
//! An odd node is paired with itself, so `a b c` has the root of `a b c c`, and `a b c d e f` that of `a b c d e f e f`: a
//! root stands for one list only among those in which nothing is there twice. For these it does. Leaves and nodes are
//! hashed apart, so equal roots are trees of equal depth whose leaves are equal when filled up, and what fills a list up
//! are repeats; the list is what comes first of each. Hence signatures that stand in a block twice prove nothing.

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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn signature(number: u8) -> Signature {
        [number; 64]
    }

    fn root_of(numbers: &[u8]) -> Option<[u8; 32]> {
        root(&numbers.iter().map(|&number| signature(number)).collect::<Vec<_>>())
    }

    /// All lists without repeats over some signatures.
    fn lists(all: u8) -> Vec<Vec<u8>> {
        let (mut lists, mut at) = (vec![Vec::new()], 0);
        while at < lists.len() {
            let list: Vec<u8> = lists[at].clone();
            let longer = (0..all).filter(|next| !list.contains(next));
            lists.extend(longer.map(|next| [list.as_slice(), &[next]].concat()).collect::<Vec<_>>());
            at += 1;
        }
        lists
    }

    #[test]
    fn no_two_lists_without_repeats_have_the_same_root() {
        let mut seen = HashMap::new();
        let lists = lists(7);
        assert_eq!(lists.len(), 13_700);
        for list in lists {
            let root = root_of(&list);
            assert_eq!(root.is_none(), list.is_empty());
            assert_eq!(seen.insert(root, list.clone()), None, "{list:?}");
        }
    }

    #[test]
    fn what_fills_an_odd_tree_up_is_repeats_and_has_the_same_root() {
        let same: [(&[u8], &[u8]); 3] = [
            (&[0, 1, 2], &[0, 1, 2, 2]),
            (&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5, 4, 5]),
            (&[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4, 4, 4, 4]),
        ];
        assert!(same.iter().all(|(short, long)| root_of(short) == root_of(long)));
    }

    #[test]
    fn a_signature_never_passes_for_a_node_nor_a_node_for_a_signature() {
        let leaf = |number| root_of(&[number]).expect("a leaf");
        let as_signature: Signature = [leaf(0), leaf(1)].concat().try_into().expect("64 bytes");
        assert_ne!(root(&[as_signature]), root_of(&[0, 1]));
    }

    proptest! {
        #[test]
        fn long_lists_without_repeats_with_the_same_root_are_the_same(
            pool in Just((0..=255).collect::<Vec<u8>>()).prop_shuffle(),
            lengths in [1_usize..100, 1_usize..100],
            begin in prop::sample::select(vec![0_usize, 0, 0, 1]),
        ) {
            let (one, other) = (&pool[..lengths[0]], &pool[begin..begin + lengths[1]]);
            prop_assert_eq!(root_of(one) == root_of(other), one == other);
        }
    }
}
