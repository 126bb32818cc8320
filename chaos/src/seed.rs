//! One seed for a run, an independent stream for each of its parts: interleaving cannot shift anybody's draws.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Random stream of one part of a run, named by a path such as `["proxy", "redis", "connection 4", "upstream"]`.
///
/// The same seed and path give the same stream on every machine and release: the path is hashed with FNV-1a
/// (Fowler, Noll, Vo; 64 bit), each part followed by a separator byte, and the result keys a ChaCha8 generator.
pub fn stream(seed: u64, path: &[&str]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(derive(seed, path))
}

/// The 64-bit value that [`stream`] starts from; for parts that want a seed and not a generator.
pub fn derive(seed: u64, path: &[&str]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    let mut feed = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    seed.to_le_bytes().into_iter().for_each(&mut feed);
    for part in path {
        part.bytes().for_each(&mut feed);
        // 0xff never occurs in UTF-8, so ["ab", "c"] and ["a", "bc"] differ.
        feed(0xff);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn same_seed_and_path_give_the_same_stream() {
        let a: Vec<u32> = stream(7, &["client", "1"]).random_iter().take(8).collect();
        let b: Vec<u32> = stream(7, &["client", "1"]).random_iter().take(8).collect();
        assert_eq!(a, b);
        assert_ne!(a[0], stream(7, &["client", "2"]).random::<u32>());
    }

    #[test]
    fn parts_are_separated() {
        assert_ne!(derive(1, &["ab", "c"]), derive(1, &["a", "bc"]));
        assert_ne!(derive(1, &["a"]), derive(2, &["a"]));
    }

    #[test]
    fn derived_values_never_change_between_releases() {
        assert_eq!(derive(0, &[]), 0xa8c7_f832_281a_39c5);
    }
}
