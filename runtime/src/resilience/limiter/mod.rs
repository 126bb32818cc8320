//! How often something may happen: token buckets for rates, sliding windows for quotas, and a store of both in memory.
//!
//! Promises: what is checked and what is taken is one step, so that no number of concurrent callers gets more than a rule
//! gives; several rules are taken all or none; memory is bounded, and what is forgotten first is who used least.

pub mod bucket;
pub mod memory;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::bucket::Bucket;
use self::memory::Memory;
use self::window::Window;
use crate::clock::{Clock, SystemClock};
use crate::error::{Classify, ErrorKind};

/// Clients that a [`RateLimiter`] remembers.
const CLIENTS_MAX: usize = 10_000;

/// Why there are no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When there will be; `None` for more than there ever are.
    pub retry_after: Option<Duration>,
}

/// A rule of one of both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A rate, with bursts.
    Bucket(Bucket),
    /// A quota for each stretch of time.
    Window(Window),
}

impl Rule {
    /// What it gives at once at most.
    pub const fn limit(self) -> u32 {
        match self {
            Self::Bucket(bucket) => bucket.capacity(),
            Self::Window(window) => window.limit(),
        }
    }

    /// The time in which it gives so much again.
    pub const fn period(self) -> Duration {
        match self {
            Self::Bucket(bucket) => Duration::from_nanos(bucket.interval() * bucket.capacity() as u64),
            Self::Window(window) => window.length(),
        }
    }

    /// The rule for one of `count` replicas which do not hear of each other. Each gives one at least, so that more replicas
    /// than the limit allows give more than the limit.
    #[must_use]
    pub fn share_of(self, count: u32) -> Self {
        match self {
            Self::Bucket(bucket) => Self::Bucket(bucket.share_of(count)),
            Self::Window(window) => Self::Window(window.share_of(count)),
        }
    }
}

/// What is asked of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Tells the rules of one client apart.
    pub id: u16,
    /// The rule.
    pub rule: Rule,
    /// How much of it.
    pub tokens: u32,
    /// How long the caller will wait for them; only a bucket has waits.
    pub patience: Duration,
}

impl Ask {
    /// One token now.
    pub const fn one(id: u16, rule: Rule) -> Self {
        Self { id, rule, tokens: 1, patience: Duration::ZERO }
    }
}

/// The answer of several rules together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Which of the asks decided: the one that refused, else the one with the smallest share left.
    pub at: usize,
    /// What the rule still gives at once.
    pub remaining: u32,
    /// Until it gives all of its limit again.
    pub reset: Duration,
    /// How long to wait before the tokens are used; nothing was taken when it is an error.
    pub taken: Result<Duration, Refused>,
}

/// A client has used up its rate. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} has used up its rate", .client)]
pub struct Limited {
    /// Who.
    pub client: String,
    /// When to try again; `None` when more was asked for than there ever is.
    pub retry_after: Option<Duration>,
}

impl Classify for Limited {
    fn kind(&self) -> ErrorKind {
        ErrorKind::TooManyRequests
    }
}

/// One rule for each of many clients, in this process. Clones share what was taken.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    rule: Rule,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
    start: Instant,
}

impl RateLimiter {
    /// A token bucket for each client: `capacity` at once, and `refill_rate` a second.
    pub fn new(capacity: u32, refill_rate: u32) -> Self {
        Self::with(Rule::Bucket(Bucket::new(capacity, refill_rate)), Arc::new(SystemClock))
    }

    /// The rule for each client.
    pub fn with(rule: Rule, clock: Arc<dyn Clock>) -> Self {
        let start = clock.now();
        Self { rule, memory: Arc::new(Memory::new(CLIENTS_MAX)), clock, start }
    }

    /// Takes tokens of a client's.
    ///
    /// # Errors
    /// When they are not there now.
    #[expect(clippy::unused_async, reason = "the given signature; a shared store would need it")]
    pub async fn acquire(&self, client_id: &str, tokens: u32) -> Result<(), Limited> {
        self.take(client_id, tokens, Duration::ZERO).map(|_| ())
    }

    /// Takes tokens of a client's and waits until they are there, for `patience` at most.
    ///
    /// # Errors
    /// When they will not be there by then, at once.
    pub async fn acquire_within(
        &self,
        client_id: &str,
        tokens: u32,
        patience: Duration,
    ) -> Result<(), Limited> {
        let wait = self.take(client_id, tokens, patience)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn take(&self, client_id: &str, tokens: u32, patience: Duration) -> Result<Duration, Limited> {
        let ask = Ask { tokens, patience, ..Ask::one(0, self.rule) };
        let now = self.clock.now().saturating_duration_since(self.start);
        let answer = self.memory.take(client_id, &[ask], now);
        answer.taken.map_err(|Refused { retry_after }| Limited { client: client_id.to_owned(), retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    #[tokio::test]
    async fn two_hundred_calls_in_one_millisecond_get_ten_through() {
        let clock = Arc::new(TestClock::default());
        for rule in [Rule::Bucket(Bucket::new(10, 10)), Rule::Window(Window::new(10, Duration::from_secs(1)))]
        {
            let limiter = RateLimiter::with(rule, clock.clone());
            let calls = (0..200).map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move { limiter.acquire("one", 1).await })
            });
            let results = futures::future::join_all(calls).await;
            let passed = results.iter().filter(|result| matches!(result, Ok(Ok(())))).count();
            assert_eq!(passed, 10, "{rule:?}");
            assert!(limiter.acquire("another", 1).await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_burst_then_the_steady_rate() {
        let clock = Arc::new(TestClock::default());
        let limiter = RateLimiter::with(Rule::Bucket(Bucket::new(20, 10)), clock.clone());
        let mut passed = Vec::new();
        for _ in 0..4 {
            let mut second = 0;
            for _ in 0..50 {
                second += u32::from(limiter.acquire("one", 1).await.is_ok());
                clock.advance(Duration::from_millis(20));
            }
            passed.push(second);
        }
        assert_eq!(passed, [29, 10, 10, 10], "20 at once and what comes back meanwhile");
        let refused = limiter.acquire("one", 21).await.expect_err("more than there ever is");
        assert_eq!((refused.retry_after, refused.kind()), (None, ErrorKind::TooManyRequests));
    }

    #[tokio::test(start_paused = true)]
    async fn a_patient_caller_waits_its_turn() {
        let limiter = RateLimiter::new(1, 10);
        let start = Instant::now();
        let calls = (0..5).map(|_| limiter.acquire_within("slack", 1, Duration::from_millis(250)));
        let results = futures::future::join_all(calls).await;
        let passed: Vec<bool> = results.iter().map(Result::is_ok).collect();
        assert_eq!(passed, [true, true, true, false, false]);
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(200) && taken < Duration::from_millis(250), "{taken:?}");
    }
}
