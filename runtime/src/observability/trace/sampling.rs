//! Which traces are exported before it is known how they end. Pure.

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampling {
    /// 0 to 1.
    pub(super) rate: f64,
    /// Whether who began the trace decides.
    pub(super) follow_parent: bool,
}

impl Sampling {
    pub(super) fn decides(self, trace_id: u128, parent: Option<bool>) -> bool {
        if self.follow_parent
            && let Some(sampled) = parent
        {
            return sampled;
        }
        is_drawn(trace_id, self.rate)
    }
}

/// Whether an id is one of this share of all, 0 to 1: by its last 56 bits, which are the random ones of level 2 of W3C Trace
/// Context, and random in UUIDs of versions 4 and 7. Of two shares the larger has all ids of the smaller.
#[expect(
    clippy::cast_precision_loss,
    reason = "56 bits of which f64 keeps 53: the share is as exact as that"
)]
pub fn is_drawn(id: u128, share: f64) -> bool {
    let drawn = (id & ((1 << 56) - 1)) as f64 / (1u64 << 56) as f64;
    drawn < share
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn rule(rate: f64) -> Sampling {
        Sampling { rate, follow_parent: true }
    }

    #[test]
    fn the_share_is_what_was_asked_for() {
        let mut rng = StdRng::seed_from_u64(7);
        let ids: Vec<u128> = (0..100_000).map(|_| rng.random()).collect();
        for rate in [0.01, 0.1, 0.5] {
            let share = ids.iter().filter(|id| rule(rate).decides(**id, None)).count() as f64 / 1e5;
            // Five standard deviations of the binomial distribution.
            assert!((share - rate).abs() < 5.0 * (rate * (1.0 - rate) / 1e5).sqrt(), "{rate}: {share}");
        }
    }

    #[test]
    fn a_parent_decides_where_it_is_followed() {
        for sampled in [true, false] {
            assert_eq!(rule(0.5).decides(7, Some(sampled)), sampled);
            assert!(Sampling { rate: 1.0, follow_parent: false }.decides(7, Some(sampled)));
        }
    }

    proptest! {
        #[test]
        fn all_and_none_are_exact_and_a_larger_share_has_the_smaller(id: u128, low in 0.0..=1.0, high in 0.0..=1.0) {
            prop_assert!(rule(1.0).decides(id, None));
            prop_assert!(!rule(0.0).decides(id, None));
            let (low, high) = if low < high { (low, high) } else { (high, low) };
            prop_assert!(!rule(low).decides(id, None) || rule(high).decides(id, None));
        }
    }
}
