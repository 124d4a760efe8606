use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

/// The chain's end by `sha2`, hash by hash.
fn expected(chain: Chain) -> Chain {
    let hash = |state: [u8; 32], _| Sha256::digest(state).into();
    Chain { state: (0..chain.hashes).fold(chain.state, hash), hashes: 0 }
}

fn chains() -> impl Strategy<Value = Vec<Chain>> {
    let hashes = prop_oneof![Just(0), 1..4_u64, 0..200_u64];
    vec((any::<[u8; 32]>(), hashes).prop_map(|(state, hashes)| Chain { state, hashes }), 0..40)
}

proptest! {
    #[test]
    fn every_kernel_ends_each_chain_where_sha2_does(chains in chains()) {
        let expected: Vec<Chain> = chains.iter().copied().map(expected).collect();
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
            let mut run = chains.clone();
            kernel.run(&mut run);
            prop_assert_eq!(&run, &expected, "{:?}", kernel);
        }
    }
}

#[test]
fn a_kernel_fills_its_lanes_and_the_rest() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        for count in 0..=2 * kernel.lanes() + 1 {
            let chain = |number: usize| Chain { state: [number as u8; 32], hashes: number as u64 % 5 };
            let mut run: Vec<Chain> = (0..count).map(chain).collect();
            let expected: Vec<Chain> = run.iter().copied().map(expected).collect();
            kernel.run(&mut run);
            assert_eq!(run, expected, "{count} chains on {kernel:?}");
        }
    }
}

#[test]
fn the_portable_kernel_is_there_everywhere() {
    assert!(Kernel::Portable.is_available());
    assert!(Kernel::best().is_available());
}
