//! A token bucket: bursts up to the capacity, then the rate at which tokens come back. Pure.
//!
//! Promises: in any stretch of time of length `t` no more tokens are given than the capacity and what comes back in `t`;
//! whoever stays below the rate is never refused. Kept as one number, the time at which the bucket is full again: the
//! generic cell rate algorithm of ITU-T I.371, so that taking is one step and no refill is ever lost to rounding.

use std::time::Duration;

use super::Refused;

const SECOND: u64 = 1_000_000_000;

/// The rule. Times are nanoseconds since a moment of the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    capacity: u32,
    /// Nanoseconds until a token is back, rounded up: never faster than the rate.
    interval: u64,
}

/// What has been taken: when the bucket is full again. A bucket that nobody took from is full at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level(u64);

impl Bucket {
    /// Holds `capacity` tokens, of which `refill_rate` come back a second; with 0 none does.
    pub const fn new(capacity: u32, refill_rate: u32) -> Self {
        // So that no sum overflows: a bucket takes 146 years at most.
        let longest = u64::MAX / 4 / if capacity == 0 { 1 } else { capacity as u64 };
        let interval = if refill_rate == 0 { longest } else { SECOND.div_ceil(refill_rate as u64) };
        Self { capacity, interval: if interval < longest { interval } else { longest } }
    }

    /// How many tokens it holds.
    pub const fn capacity(self) -> u32 {
        self.capacity
    }

    /// Nanoseconds until a token is back.
    pub const fn interval(self) -> u64 {
        self.interval
    }

    /// One of `count` equal parts, at least one token.
    #[must_use]
    pub fn share_of(self, count: u32) -> Self {
        let count = count.max(1);
        let capacity = (self.capacity / count).max(u32::from(self.capacity > 0));
        let longest = u64::MAX / 4 / u64::from(capacity.max(1));
        Self { capacity, interval: self.interval.saturating_mul(count.into()).min(longest) }
    }

    /// Takes tokens that are there at `now`, or that will be within `patience`; answers how long until they are. A caller
    /// who gets a wait has the tokens and uses them after it.
    ///
    /// # Errors
    /// When they will not be there; nothing was taken.
    pub fn take(self, level: Level, tokens: u32, now: u64, patience: u64) -> Result<(Level, u64), Refused> {
        if tokens > self.capacity {
            return Err(Refused { retry_after: None });
        }
        let full = level.0.max(now) + u64::from(tokens) * self.interval;
        let wait = (full - now).saturating_sub(u64::from(self.capacity) * self.interval);
        if wait <= patience {
            Ok((Level(full), wait))
        } else {
            Err(Refused { retry_after: Some(Duration::from_nanos(wait)) })
        }
    }

    /// Puts tokens back that were taken and not used.
    #[must_use]
    pub fn give_back(self, level: Level, tokens: u32) -> Level {
        Level(level.0.saturating_sub(u64::from(tokens) * self.interval))
    }

    /// Tokens that are missing at `now`, begun ones included.
    pub fn missing(self, level: Level, now: u64) -> u32 {
        let missing = level.0.saturating_sub(now).div_ceil(self.interval);
        u32::try_from(missing).unwrap_or(u32::MAX)
    }

    /// Until the bucket is full.
    pub fn full_in(self, level: Level, now: u64) -> Duration {
        Duration::from_nanos(level.0.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate() {
        let bucket = Bucket::new(3, 2);
        let mut level = Level::default();
        let mut ask = |now| {
            let taken = bucket.take(level, 1, now, 0);
            level = taken.map_or(level, |(level, _)| level);
            taken.map(|_| ())
        };
        assert_eq!([0, 1, 2].map(&mut ask), [Ok(()); 3]);
        let half = Duration::from_nanos(SECOND / 2 - 3);
        assert_eq!(ask(3), Err(Refused { retry_after: Some(half) }));
        assert_eq!(ask(SECOND / 2), Ok(()));
        assert!(ask(SECOND / 2 + 1).is_err());
    }

    #[test]
    fn more_than_it_ever_holds_is_refused_for_good() {
        assert_eq!(
            Bucket::new(3, 2).take(Level::default(), 4, 0, u64::MAX),
            Err(Refused { retry_after: None })
        );
        let none = Bucket::new(0, 5);
        assert!(none.take(Level::default(), 1, SECOND, 0).is_err());
    }

    #[test]
    fn without_a_refill_nothing_comes_back() {
        let bucket = Bucket::new(u32::MAX, 0);
        let (level, _) = bucket.take(Level::default(), u32::MAX, 5, 0).expect("the capacity");
        assert!(bucket.take(level, 1, SECOND * 3600 * 24 * 365, 0).is_err());
    }

    proptest! {
        /// The promise, for every stretch between two grants, with and without patience: what counts is when tokens are used.
        #[test]
        fn never_more_than_the_capacity_and_the_refill_in_any_stretch(
            capacity in 1..20_u32, rate in 1..2_000_u32, patience in 0..SECOND,
            asks in proptest::collection::vec((1..4_u32, 0..SECOND / 10), 1..120),
        ) {
            let bucket = Bucket::new(capacity, rate);
            let (mut level, mut now) = (Level::default(), 0);
            let mut used: Vec<(u64, u32)> = Vec::new();
            for (tokens, later) in asks {
                now += later;
                if let Ok((next, wait)) = bucket.take(level, tokens, now, patience) {
                    prop_assert!(wait <= patience);
                    level = next;
                    used.push((now + wait, tokens));
                }
            }
            for (first, &(from, _)) in used.iter().enumerate() {
                let mut sum = 0_u64;
                for &(at, tokens) in &used[first..] {
                    sum += u64::from(tokens);
                    let back = (at - from) / bucket.interval();
                    prop_assert!(sum <= u64::from(capacity) + back + 1, "{sum} in {} ns", at - from);
                }
            }
        }

        #[test]
        fn who_stays_below_the_rate_is_never_refused(capacity in 1..5_u32, rate in 1..1_000_u32, gaps in proptest::collection::vec(0..SECOND, 1..50)) {
            let bucket = Bucket::new(capacity, rate);
            let (mut level, mut now) = (Level::default(), 0);
            for gap in gaps {
                now += bucket.interval() + gap;
                level = bucket.take(level, 1, now, 0).expect("below the rate").0;
            }
        }

        #[test]
        fn what_was_given_back_can_be_taken_again(capacity in 1..20_u32, rate in 0..100_u32, taken in 1..20_u32) {
            let bucket = Bucket::new(capacity, rate);
            let taken = taken.min(capacity);
            let (level, _) = bucket.take(Level::default(), taken, SECOND, 0).expect("it is full");
            let level = bucket.give_back(level, taken);
            prop_assert!(bucket.take(level, capacity, SECOND, 0).is_ok());
        }

        #[test]
        fn all_shares_together_give_no_more_than_the_whole(capacity in 10..1_000_u32, rate in 1..1_000_u32, count in 1..10_u32) {
            let (whole, share) = (Bucket::new(capacity, rate), Bucket::new(capacity, rate).share_of(count));
            prop_assert!(share.capacity() * count <= whole.capacity());
            prop_assert!(share.interval() >= whole.interval() * u64::from(count));
        }
    }
}
