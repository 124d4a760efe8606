//! Chains side by side on the SHA extensions of x86-64.
//!
//! `sha256rnds2` does two rounds and takes four cycles until its result is there, in which another chain's can begin; so
//! N chains are written out one beside the other, and the CPU overlaps them.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_setzero_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32, _mm_unpackhi_epi64,
    _mm_unpacklo_epi64,
};

use crate::Words;
use crate::constants::{END_OF_MESSAGE, INITIAL, LENGTH_BITS, ROUNDS};

/// Turns four lanes around.
const REVERSED: i32 = 0b00_01_10_11;
/// The upper half of four lanes, moved down.
const UPPER: i32 = 0b00_00_11_10;

/// Four words, the first in the lowest lane.
#[inline]
#[target_feature(enable = "avx")]
fn four(words: [u32; 4]) -> __m128i {
    let [a, b, c, d] = words.map(u32::cast_signed);
    _mm_set_epi32(d, c, b, a)
}

#[inline]
#[target_feature(enable = "avx")]
fn words(four: __m128i) -> [u32; 4] {
    [
        _mm_extract_epi32::<0>(four),
        _mm_extract_epi32::<1>(four),
        _mm_extract_epi32::<2>(four),
        _mm_extract_epi32::<3>(four),
    ]
    .map(i32::cast_unsigned)
}

/// Hashes each state `hashes` times.
#[target_feature(enable = "sha,avx")]
pub(crate) fn advance<const N: usize>(states: [Words; N], hashes: u64) -> [Words; N] {
    let [a, b, c, d, e, f, g, h] = INITIAL;
    let (initial_abef, initial_cdgh) = (four([f, e, b, a]), four([h, g, d, c]));
    let padding = [four([END_OF_MESSAGE, 0, 0, 0]), four([0, 0, 0, LENGTH_BITS])];
    let mut halves = [[_mm_setzero_si128(); 2]; N];
    for (half, [a, b, c, d, e, f, g, h]) in halves.iter_mut().zip(states) {
        *half = [four([a, b, c, d]), four([e, f, g, h])];
    }
    for _ in 0..hashes {
        let mut abef = [initial_abef; N];
        let mut cdgh = [initial_cdgh; N];
        let mut schedule = halves.map(|[first, second]| [first, second, padding[0], padding[1]]);
        for quarter in 0..4 {
            macro_rules! groups {
                ($($place:literal),*) => {$(
                    for lane in 0..N {
                        if quarter > 0 {
                            extend(&mut schedule[lane], $place);
                        }
                        let added = _mm_add_epi32(schedule[lane][$place], constants(4 * quarter + $place));
                        cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], added);
                        let added = _mm_shuffle_epi32::<UPPER>(added);
                        abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], added);
                    }
                )*};
            }
            groups!(0, 1, 2, 3);
        }
        for lane in 0..N {
            let abef = _mm_shuffle_epi32::<REVERSED>(_mm_add_epi32(abef[lane], initial_abef));
            let cdgh = _mm_shuffle_epi32::<REVERSED>(_mm_add_epi32(cdgh[lane], initial_cdgh));
            halves[lane] = [_mm_unpacklo_epi64(abef, cdgh), _mm_unpackhi_epi64(abef, cdgh)];
        }
    }
    let mut states = [[0; 8]; N];
    for (state, [first, second]) in states.iter_mut().zip(halves) {
        let ([a, b, c, d], [e, f, g, h]) = (words(first), words(second));
        *state = [a, b, c, d, e, f, g, h];
    }
    states
}

/// The constants of four rounds.
#[inline]
#[target_feature(enable = "avx")]
fn constants(group: usize) -> __m128i {
    let constants = &ROUNDS[4 * group..];
    four([constants[0], constants[1], constants[2], constants[3]])
}

/// Makes the next four words of the message schedule, in the place of the oldest.
#[inline]
#[target_feature(enable = "sha,avx")]
fn extend(message: &mut [__m128i; 4], place: usize) {
    let (oldest, second) = (message[place], message[(place + 1) % 4]);
    let (third, newest) = (message[(place + 2) % 4], message[(place + 3) % 4]);
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, second), _mm_alignr_epi8::<4>(newest, third));
    message[place] = _mm_sha256msg2_epu32(sum, newest);
}
