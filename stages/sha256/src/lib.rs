//! SHA-256 of its own result, again and again, for many independent chains at once.
//!
//! In: [`Chain`]s, each a state and how often to hash it. Out: the states behind. One chain can't use a core's units for
//! more than half of the time, since each round waits for the one before; several chains side by side can. So [`run`]
//! keeps as many chains under way as the CPU has lanes, and gives a lane that is done the next chain.
//!
//! | CPU | kernel | lanes |
//! | --- | --- | --- |
//! | x86-64 with SHA extensions | [`Kernel::ShaExtensions`] | 4 |
//! | x86-64 with AVX-512 | [`Kernel::Avx512`] | 16 |
//! | any other | [`Kernel::Portable`]: the `sha2` crate | 1 |
//!
//! Why this exists beside `sha2`: that has one lane, and measures 24 to 27 million hashes a second on a core that does
//! 60 with four. The only unsafe code is the call of functions compiled for a CPU feature that was found to be there.
//!
//! Format: FIPS 180-4. A 32-byte state is one block, of which the second half is always the same padding.

mod constants;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod sha_extensions;

use std::sync::LazyLock;

use sha2::digest::generic_array::GenericArray;

use constants::{INITIAL, PADDING};

/// A SHA-256 state as the algorithm has it: eight big-endian words.
type Words = [u32; 8];

/// A state, and how often it is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Where the chain begins; behind [`run`], where it ends.
    pub state: [u8; 32],
    /// Hashes to make; 0 leaves the state as it is.
    pub hashes: u64,
}

/// A way to hash several chains at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The SHA extensions, four chains at once.
    ShaExtensions,
    /// Vectors of 512 bits, sixteen chains at once.
    Avx512,
    /// The `sha2` crate, one chain at a time.
    Portable,
}

impl Kernel {
    /// Every kernel, the fastest first.
    pub const ALL: [Self; 3] = [Self::ShaExtensions, Self::Avx512, Self::Portable];

    /// Whether this CPU can run it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            // AVX is there wherever a server has the extensions, and saves the copies of two-operand instructions.
            Self::ShaExtensions => is_x86_feature_detected!("sha") && is_x86_feature_detected!("avx"),
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl"),
            Self::Portable => true,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// The fastest that this CPU can run.
    pub fn best() -> Self {
        static BEST: LazyLock<Kernel> = LazyLock::new(|| {
            Kernel::ALL.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Kernel::Portable)
        });
        *BEST
    }

    /// Chains that it has under way at once.
    pub fn lanes(self) -> usize {
        match self {
            Self::ShaExtensions => 4,
            Self::Avx512 => 16,
            Self::Portable => 1,
        }
    }

    /// Runs every chain to its end, as [`run`] does, on this kernel.
    ///
    /// # Panics
    /// If this CPU can't run it.
    pub fn run(self, chains: &mut [Chain]) {
        assert!(self.is_available(), "{self:?} was asked for on a CPU that has it not");
        match self {
            Self::ShaExtensions => schedule::<4>(chains, advance_extensions),
            Self::Avx512 => schedule::<16>(chains, advance_vectors),
            Self::Portable => chains.iter_mut().for_each(|chain| {
                chain.state = bytes_of(portable(words_of(chain.state), chain.hashes));
                chain.hashes = 0;
            }),
        }
    }
}

/// Runs every chain to its end, on the fastest kernel of this CPU and on this thread: behind it each state is where its
/// chain ends, and `hashes` is 0. The order of the chains is kept.
pub fn run(chains: &mut [Chain]) {
    Kernel::best().run(chains);
}

/// Keeps N lanes busy: all go on until the first of them is done, which then takes the next chain.
fn schedule<const N: usize>(chains: &mut [Chain], mut advance: impl FnMut(&mut [Words; N], usize, u64)) {
    // The longest first, so that what is left at the end is short.
    let mut waiting: Vec<usize> = (0..chains.len()).filter(|&at| chains[at].hashes > 0).collect();
    waiting.sort_unstable_by_key(|&at| chains[at].hashes);
    let mut busy: Vec<usize> = Vec::with_capacity(N);
    let mut lanes = [[0; 8]; N];
    loop {
        while busy.len() < N
            && let Some(at) = waiting.pop()
        {
            lanes[busy.len()] = words_of(chains[at].state);
            busy.push(at);
        }
        let Some(hashes) = busy.iter().map(|&at| chains[at].hashes).min() else { return };
        advance(&mut lanes, busy.len(), hashes);
        for lane in (0..busy.len()).rev() {
            let chain = &mut chains[busy[lane]];
            chain.hashes -= hashes;
            if chain.hashes == 0 {
                chain.state = bytes_of(lanes[lane]);
                busy.swap_remove(lane);
                lanes[lane] = lanes[busy.len()];
            }
        }
    }
}

/// Hashes the first `busy` of the lanes; with less to do, fewer lanes are faster.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn advance_extensions(lanes: &mut [Words; 4], busy: usize, hashes: u64) {
    // SAFETY: `Kernel::run` found the features that these functions are compiled for.
    unsafe {
        match lanes.split_at_mut(busy).0 {
            [one] => *one = sha_extensions::advance([*one], hashes)[0],
            [one, two] => [*one, *two] = sha_extensions::advance([*one, *two], hashes),
            _ => *lanes = sha_extensions::advance(*lanes, hashes),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn advance_vectors(lanes: &mut [Words; 16], _: usize, hashes: u64) {
    // SAFETY: `Kernel::run` found the features that this function is compiled for.
    unsafe { lanes::advance_avx512(lanes, hashes) }
}

// Never reached: no other CPU has these kernels.
#[cfg(not(target_arch = "x86_64"))]
fn advance_extensions(lanes: &mut [Words; 4], _: usize, hashes: u64) {
    lanes::advance(lanes, hashes);
}

#[cfg(not(target_arch = "x86_64"))]
fn advance_vectors(lanes: &mut [Words; 16], _: usize, hashes: u64) {
    lanes::advance(lanes, hashes);
}

fn portable(mut state: Words, hashes: u64) -> Words {
    let mut block = GenericArray::default();
    block[32..].copy_from_slice(&PADDING);
    for _ in 0..hashes {
        block[..32].copy_from_slice(&bytes_of(state));
        state = INITIAL;
        sha2::compress256(&mut state, std::slice::from_ref(&block));
    }
    state
}

fn words_of(bytes: [u8; 32]) -> Words {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

fn bytes_of(words: Words) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests;
