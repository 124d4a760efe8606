//! Chains side by side in vectors: word `i` of all chains is one vector, so every step of the algorithm is an operation on
//! whole vectors. Written on arrays, which the compiler turns into the vectors of whatever the function is compiled for.

use std::array::from_fn;

use crate::Words;
use crate::constants::{END_OF_MESSAGE, INITIAL, LENGTH_BITS, ROUNDS};

/// One word of each chain.
type Vector<const N: usize> = [u32; N];

/// Hashes each state `hashes` times, with vectors of 512 bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) fn advance_avx512<const N: usize>(states: &mut [Words; N], hashes: u64) {
    advance(states, hashes);
}

/// Hashes each state `hashes` times.
// Inlined always, so that it is compiled for the CPU features of its caller.
#[inline(always)]
pub(crate) fn advance<const N: usize>(states: &mut [Words; N], hashes: u64) {
    let mut columns: [Vector<N>; 8] = from_fn(|word| from_fn(|lane| states[lane][word]));
    for _ in 0..hashes {
        columns = hash(columns);
    }
    for (lane, state) in states.iter_mut().enumerate() {
        *state = from_fn(|word| columns[word][lane]);
    }
}

/// Calls a macro with each place of the message schedule as a constant: vectors stay in registers only then.
macro_rules! each_place {
    ($step:ident) => {
        $step!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    };
}

#[inline(always)]
fn hash<const N: usize>(message: [Vector<N>; 8]) -> [Vector<N>; 8] {
    let mut schedule = [[0; N]; 16];
    schedule[..8].copy_from_slice(&message);
    schedule[8] = [END_OF_MESSAGE; N];
    schedule[15] = [LENGTH_BITS; N];
    let mut state: [Vector<N>; 8] = INITIAL.map(|word| [word; N]);
    for group in 0..4 {
        macro_rules! step {
            ($($place:literal),*) => {$(
                if group > 0 {
                    schedule[$place] = extend(&schedule, $place);
                }
                state = round(state, schedule[$place], ROUNDS[16 * group + $place]);
            )*};
        }
        each_place!(step);
    }
    from_fn(|word| from_fn(|lane| state[word][lane].wrapping_add(INITIAL[word])))
}

/// The word of the message schedule that takes the place of the one sixteen before it.
#[inline(always)]
fn extend<const N: usize>(schedule: &[Vector<N>; 16], place: usize) -> Vector<N> {
    let (oldest, second) = (schedule[place], schedule[(place + 1) % 16]);
    let (tenth, newest_but_one) = (schedule[(place + 9) % 16], schedule[(place + 14) % 16]);
    from_fn(|lane| {
        let (low, high) = (second[lane], newest_but_one[lane]);
        let low = low.rotate_right(7) ^ low.rotate_right(18) ^ (low >> 3);
        let high = high.rotate_right(17) ^ high.rotate_right(19) ^ (high >> 10);
        oldest[lane].wrapping_add(low).wrapping_add(tenth[lane]).wrapping_add(high)
    })
}

#[inline(always)]
fn round<const N: usize>(state: [Vector<N>; 8], word: Vector<N>, constant: u32) -> [Vector<N>; 8] {
    let [a, b, c, d, e, f, g, h] = state;
    let first: Vector<N> = from_fn(|lane| {
        let mixed = e[lane].rotate_right(6) ^ e[lane].rotate_right(11) ^ e[lane].rotate_right(25);
        let chosen = (e[lane] & f[lane]) ^ (!e[lane] & g[lane]);
        let sum = h[lane].wrapping_add(mixed).wrapping_add(chosen);
        sum.wrapping_add(constant).wrapping_add(word[lane])
    });
    let second: Vector<N> = from_fn(|lane| {
        let mixed = a[lane].rotate_right(2) ^ a[lane].rotate_right(13) ^ a[lane].rotate_right(22);
        let majority = (a[lane] & b[lane]) ^ (a[lane] & c[lane]) ^ (b[lane] & c[lane]);
        mixed.wrapping_add(majority)
    });
    let new_a = from_fn(|lane| first[lane].wrapping_add(second[lane]));
    let new_e = from_fn(|lane| d[lane].wrapping_add(first[lane]));
    [new_a, a, b, c, new_e, e, f, g]
}
