//! How long to wait before the next attempt: doubling from a base to a limit, with jitter so that
//! many who failed together do not come back together.
//!
//! "Equal jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015): half of
//! the wait is fixed, so an attempt is never immediate, and half is random.

use std::time::Duration;

use rand::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    limit: Duration,
}

impl Backoff {
    /// The first wait is at most `base`, none is longer than `limit`.
    pub const fn new(base: Duration, limit: Duration) -> Self {
        Self { base, limit }
    }

    /// The wait after failed attempt number `attempt`, counted from zero.
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        let ceiling = self.ceiling(attempt);
        ceiling.div_f64(2.0) + ceiling.mul_f64(rng.random_range(0.0..=0.5))
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.checked_mul(factor).unwrap_or(Duration::MAX).min(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_limit() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let ceilings = [0, 1, 2, 3, 4, 40].map(|attempt| backoff.ceiling(attempt).as_millis());
        assert_eq!(ceilings, [100, 200, 400, 800, 1_000, 1_000]);
    }

    proptest! {
        #[test]
        fn a_delay_is_between_half_of_the_ceiling_and_the_ceiling(
            base in 1_u64..10_000, limit in 1_u64..100_000, attempt in 0_u32..100, seed in any::<u64>(),
        ) {
            let backoff = Backoff::new(Duration::from_millis(base), Duration::from_millis(limit));
            let delay = backoff.delay(attempt, &mut StdRng::seed_from_u64(seed));
            let ceiling = backoff.ceiling(attempt);
            let slack = Duration::from_micros(1);
            prop_assert!(delay + slack >= ceiling / 2 && delay <= ceiling + slack, "{delay:?} of {ceiling:?}");
        }
    }
}
