//! What time it is. Nothing else in this crate asks the operating system, so a test owns the time.
//!
//! `now` is for measuring and deadlines, `utc` for what is stored or shown.

use std::fmt::Debug;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;

pub trait Clock: Debug + Send + Sync + 'static {
    /// Monotonic; only differences mean something.
    fn now(&self) -> Instant;

    /// Wall-clock time, which may jump either way.
    fn utc(&self) -> DateTime<Utc>;
}

/// The machine's clocks. `now` follows tokio's paused time in tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the date")]
    fn utc(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that stands still until it is told to advance.
#[derive(Debug)]
pub struct TestClock {
    base: Instant,
    start: DateTime<Utc>,
    elapsed: Mutex<Duration>,
}

impl TestClock {
    pub fn new(start: DateTime<Utc>) -> Self {
        Self { base: Instant::now(), start, elapsed: Mutex::new(Duration::ZERO) }
    }

    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock() += by;
    }
}

impl Default for TestClock {
    /// Starts at the Unix epoch.
    fn default() -> Self {
        Self::new(DateTime::UNIX_EPOCH)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.base + *self.elapsed.lock()
    }

    fn utc(&self) -> DateTime<Utc> {
        let elapsed = TimeDelta::from_std(*self.elapsed.lock()).unwrap_or(TimeDelta::MAX);
        self.start.checked_add_signed(elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_readings_of_the_test_clock_advance_together() {
        let clock = TestClock::default();
        let (now, utc) = (clock.now(), clock.utc());
        clock.advance(Duration::from_secs(90));
        assert_eq!(clock.now() - now, Duration::from_secs(90));
        assert_eq!(clock.utc() - utc, TimeDelta::seconds(90));
    }
}
