//! Cutting a chunk as Toxiproxy's slicer does: in about half, again and again, until a piece is small enough.
//!
//! A piece is small enough when it is at most `variation` bytes above `average`, so the mean lies below the average.
//! Each cut lies in the middle, give or take `variation`. Unlike there, a piece never has fewer than one byte and the
//! work is bounded by the chunk, whatever the numbers are.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The pieces of one chunk that are still to come.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// Sizes of the parts that follow the current one, the next one last; each may have to be cut further.
    rest: Vec<usize>,
}

impl Slices {
    /// Size of the next piece, 1 to `size`; a chunk of `size` bytes is begun when the one before is used up.
    pub fn next(&mut self, size: usize, average: u64, variation: u64, rng: &mut ChaCha8Rng) -> usize {
        let limit = usize::try_from(average.saturating_add(variation)).unwrap_or(usize::MAX);
        let Some(mut part) = self.rest.pop().or(Some(size)).filter(|_| limit > 0) else { return size };
        while part > limit {
            let reach = i64::try_from(variation.min(part as u64)).unwrap_or(0);
            let offset = if reach > 0 { rng.random_range(-reach..reach) } else { 0 };
            let middle = i64::try_from(part / 2).unwrap_or(0) + offset;
            let left = usize::try_from(middle).unwrap_or(0).clamp(1, part - 1);
            self.rest.push(part - left);
            part = left;
        }
        part.min(size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seed;

    fn cut(size: usize, average: u64, variation: u64) -> Vec<usize> {
        let mut rng = seed::stream(3, &["slices"]);
        let mut slices = Slices::default();
        let mut left = size;
        let mut pieces = Vec::new();
        while left > 0 {
            let piece = slices.next(left, average, variation, &mut rng);
            pieces.push(piece);
            left -= piece;
        }
        assert!(slices.rest.is_empty(), "nothing is left over for the next chunk");
        pieces
    }

    #[test]
    fn the_mean_is_below_the_average_as_halving_makes_it() {
        let pieces = cut(32 * 1024, 100, 20);
        assert!(pieces.iter().all(|piece| (40..=120).contains(piece)), "{pieces:?}");
        let mean = 32 * 1024 / pieces.len();
        assert!((65..=95).contains(&mean), "the mean is {mean}");
    }

    #[test]
    fn a_chunk_that_is_small_enough_and_a_slicer_without_a_size_cut_nothing() {
        assert_eq!(cut(110, 100, 10), [110]);
        assert_eq!(cut(5_000, 0, 0), [5_000]);
        assert_eq!(cut(4, 1, 0), [1, 1, 1, 1]);
    }

    proptest! {
        #[test]
        fn whatever_the_numbers_are_the_pieces_make_up_the_chunk(
            size in 1_usize..70_000, average: u64, variation: u64, small in 0_u64..300,
        ) {
            for (average, variation) in [(average, variation), (small, variation), (average, small), (1, small)] {
                let pieces = cut(size, average, variation);
                prop_assert_eq!(pieces.iter().sum::<usize>(), size);
                prop_assert!(pieces.iter().all(|piece| *piece > 0));
            }
        }
    }
}
