//! A sliding window: no stretch of time of the window's length has more than the limit. Pure.
//!
//! Time is cut into slots, ten to the window, and each counts what it let through. A stretch of one window's length touches
//! eleven slots at most, and eleven following ones never hold more than the limit: so there is no double burst at an edge,
//! and the price is that what was used comes back up to a tenth of the window late. An exact log of requests would need
//! memory for each of them; one counter with the weighted one before it (as Cloudflare's) lets up to twice the limit through.

use std::time::Duration;

use super::Refused;

/// Slots of a window.
pub const SLOTS: u64 = 10;
/// Counters: those of a window and one for the slot that it has partly left.
pub const COUNTERS: usize = SLOTS as usize + 1;

/// The rule. Times are nanoseconds since a moment of the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    limit: u32,
    /// Nanoseconds of a slot.
    slot: u64,
}

/// What was let through: a counter for each of the last slots, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    newest: u64,
    counts: [u32; COUNTERS],
}

impl Window {
    /// Lets `limit` through in each stretch of `length`, which is at least a microsecond.
    pub fn new(limit: u32, length: Duration) -> Self {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX / 4).clamp(1_000, u64::MAX / 4);
        Self { limit, slot: length.div_ceil(SLOTS) }
    }

    /// How many it lets through.
    pub const fn limit(self) -> u32 {
        self.limit
    }

    /// Nanoseconds of a slot.
    pub const fn slot(self) -> u64 {
        self.slot
    }

    /// The window's length.
    pub const fn length(self) -> Duration {
        Duration::from_nanos(self.slot * SLOTS)
    }

    /// One of `count` equal parts, at least one.
    #[must_use]
    pub fn share_of(self, count: u32) -> Self {
        let limit = (self.limit / count.max(1)).max(u32::from(self.limit > 0));
        Self { limit, ..self }
    }

    /// Counts `tokens` at `now`.
    ///
    /// # Errors
    /// When the limit does not allow them; nothing was counted.
    pub fn take(self, counts: Counts, tokens: u32, now: u64) -> Result<Counts, Refused> {
        if tokens > self.limit {
            return Err(Refused { retry_after: None });
        }
        let mut counts = self.at(counts, now);
        let used = counts.sum();
        if used + u64::from(tokens) > u64::from(self.limit) {
            let needed = used + u64::from(tokens) - u64::from(self.limit);
            return Err(Refused { retry_after: Some(self.free_in(&counts, needed, now)) });
        }
        counts.counts[0] += tokens;
        Ok(counts)
    }

    /// Takes back what was counted at `when` and not used.
    #[must_use]
    pub fn give_back(self, mut counts: Counts, tokens: u32, when: u64) -> Counts {
        let age = counts.newest.saturating_sub(when / self.slot);
        if let Some(count) = usize::try_from(age).ok().and_then(|age| counts.counts.get_mut(age)) {
            *count = count.saturating_sub(tokens);
        }
        counts
    }

    /// What of the limit is used at `now`.
    pub fn used(self, counts: Counts, now: u64) -> u32 {
        u32::try_from(self.at(counts, now).sum()).unwrap_or(u32::MAX)
    }

    /// Until all of the limit is there again.
    pub fn free_again_in(self, counts: Counts, now: u64) -> Duration {
        let counts = self.at(counts, now);
        self.free_in(&counts, counts.sum(), now)
    }

    /// With the slots that have passed since. A time before the newest slot counts as in it.
    fn at(self, mut counts: Counts, now: u64) -> Counts {
        let slot = now / self.slot;
        let passed = usize::try_from(slot.saturating_sub(counts.newest)).unwrap_or(COUNTERS).min(COUNTERS);
        counts.counts.rotate_right(passed % COUNTERS);
        counts.counts[..passed].fill(0);
        counts.newest = counts.newest.max(slot);
        counts
    }

    /// Until the oldest slots that hold `needed` have left the window.
    fn free_in(self, counts: &Counts, needed: u64, now: u64) -> Duration {
        let mut free = 0;
        for age in (0..COUNTERS).rev() {
            if free >= needed {
                break;
            }
            free += u64::from(counts.counts[age]);
            if free >= needed {
                let leaves = counts.newest - age as u64 + COUNTERS as u64;
                return Duration::from_nanos((leaves * self.slot).saturating_sub(now));
            }
        }
        Duration::ZERO
    }
}

impl Counts {
    fn sum(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn minute(limit: u32) -> Window {
        Window::new(limit, Duration::from_secs(60))
    }

    #[test]
    fn there_is_no_double_burst_at_an_edge() {
        let window = minute(100);
        let counts = window.take(Counts::default(), 100, 59 * SECOND).expect("the limit");
        for now in [60, 61, 90, 118] {
            assert!(window.take(counts, 1, now * SECOND).is_err(), "{now} s");
        }
        assert!(window.take(counts, 100, 120 * SECOND).is_ok());
    }

    #[test]
    fn whoever_is_refused_hears_when_there_is_room() {
        let window = minute(10);
        let counts = window.take(Counts::default(), 4, 0).expect("room");
        let counts = window.take(counts, 6, 30 * SECOND).expect("room");
        let refused = window.take(counts, 4, 31 * SECOND).expect_err("full");
        let wait = refused.retry_after.expect("once").as_nanos() as u64;
        assert_eq!(wait, 35 * SECOND, "the first slot leaves at 66 s");
        assert!(window.take(counts, 4, 31 * SECOND + wait - 1).is_err());
        assert!(window.take(counts, 4, 31 * SECOND + wait).is_ok());
        assert_eq!(window.take(counts, 11, 0), Err(Refused { retry_after: None }));
    }

    proptest! {
        /// Slots are short here, so that cases meet every edge. The clock may step back a little, as that of threads that
        /// wait for a lock does; each grant then counts from the time that it was given at.
        #[test]
        fn no_stretch_of_one_window_has_more_than_the_limit(
            limit in 1..12_u32, asks in proptest::collection::vec((1..3_u32, 0..400_u64), 1..150),
        ) {
            let window = Window::new(limit, Duration::from_micros(1));
            let (mut counts, mut now) = (Counts::default(), 0);
            let mut granted: Vec<(u64, u32)> = Vec::new();
            for (tokens, later) in asks {
                now += later;
                if let Ok(next) = window.take(counts, tokens, now) {
                    counts = next;
                    granted.push((now, tokens));
                }
            }
            for (first, &(from, _)) in granted.iter().enumerate() {
                let inside = granted[first..].iter().take_while(|(at, _)| at - from < 1_000);
                prop_assert!(inside.map(|(_, tokens)| tokens).sum::<u32>() <= limit);
            }
        }

        #[test]
        fn a_promised_wait_is_kept(limit in 1..10_u32, asks in proptest::collection::vec((1..3_u32, 0..300_u64), 1..60)) {
            let window = Window::new(limit, Duration::from_micros(1));
            let (mut counts, mut now) = (Counts::default(), 0);
            for (tokens, later) in asks {
                now += later;
                match window.take(counts, tokens, now) {
                    Ok(next) => counts = next,
                    Err(Refused { retry_after: Some(wait) }) => {
                        let then = now + wait.as_nanos() as u64;
                        prop_assert!(window.take(counts, tokens, then).is_ok());
                    }
                    Err(Refused { retry_after: None }) => prop_assert!(tokens > limit),
                }
            }
        }

        #[test]
        fn what_was_given_back_can_be_taken_again(limit in 1..10_u32, when in 0..3_000_u64, later in 0..3_000_u64) {
            let window = Window::new(limit, Duration::from_micros(1));
            let counts = window.take(Counts::default(), limit, when).expect("it is empty");
            let back = window.give_back(window.at(counts, when + later), limit, when);
            prop_assert_eq!(window.used(back, when + later), 0);
        }
    }
}
