//! Changes bytes of an input in place, which libFuzzer's own mutations do to one byte in a long while.
//!
//! Readers of text decide by one byte at one place. Coverage does not lead there, as nothing is nearly equal to a byte: it takes
//! many tries, each at another place. Half of the mutations stay libFuzzer's, which make what lengths and words there are.

use crate::pieces::MARK;

/// Bytes that one mutation changes at most.
const CHANGES_MAX: u32 = 4;

/// The size, at most `size_max`, that the first `size` bytes of `input` have after a mutation that `seed` chooses.
pub fn mutate(input: &mut [u8], size: usize, size_max: usize, seed: u32) -> usize {
    let mut draw = Draw(seed);
    if !(2..=size_max).contains(&size) || draw.below(2) == 0 {
        return libfuzzer_sys::fuzzer_mutate(input, size, size_max);
    }
    for _ in 0..=draw.below(CHANGES_MAX) {
        // The first byte chooses the rules.
        let at = 1 + draw.below(u32::try_from(size - 1).unwrap_or(u32::MAX)) as usize;
        let marks = input[at] == MARK || input[at - 1] == MARK;
        if !marks {
            input[at] = match draw.below(4) {
                0 => draw.byte(),
                _ => b' ' + draw.byte() % 95,
            };
        }
    }
    size
}

/// A few numbers from a seed (splitmix).
struct Draw(u32);

impl Draw {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x21f0_aaad);
        mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x735a_2d97);
        (mixed ^ (mixed >> 15)) % bound
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}
