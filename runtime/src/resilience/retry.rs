//! Whether a failed call is made again, and when. Pure: the random source and what is left of the deadline come from outside.
//!
//! Promises: what may have been done is repeated only where that does no harm; a permanent error never; nobody waits for
//! longer than five minutes, or than his deadline; retries of a dependency are at most a fifth of its calls and a few, so that
//! they cannot keep it down. "Full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015); the budget is
//! that of Finagle.

use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;

use crate::error::ErrorKind;

/// No wait is longer.
pub const LONGEST: Duration = Duration::from_secs(300);

/// How waits grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Doubles from here.
    Exponential(Duration),
    /// Grows by this each time.
    Linear(Duration),
    /// Is always this.
    Fixed(Duration),
}

/// How a call is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How waits grow.
    pub strategy: Strategy,
    /// Where they stop to; at most [`LONGEST`].
    pub longest: Duration,
    /// Calls at most, the first included.
    pub attempts: u32,
}

impl Default for Policy {
    /// From 100 ms, doubled, four calls at most.
    fn default() -> Self {
        Self { strategy: Strategy::Exponential(Duration::from_millis(100)), longest: LONGEST, attempts: 4 }
    }
}

impl Policy {
    /// The wait after failed attempt number `attempt`, counted from zero: anything up to the strategy's.
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        self.ceiling(attempt).mul_f64(rng.random_range(0.0..=1.0))
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        let wait = match self.strategy {
            Strategy::Exponential(base) => base.checked_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)),
            Strategy::Linear(step) => step.checked_mul(attempt.saturating_add(1)),
            Strategy::Fixed(wait) => Some(wait),
        };
        wait.unwrap_or(LONGEST).min(self.longest).min(LONGEST)
    }
}

/// A call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// How.
    pub kind: ErrorKind,
    /// Number of the attempt, counted from zero.
    pub attempt: u32,
    /// Whether doing it twice does no harm: it reads, or has a key that makes it one.
    pub idempotent: bool,
    /// When the dependency wants to be asked again.
    pub retry_after: Option<Duration>,
    /// What is left until nobody waits for the answer any more.
    pub left: Duration,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Ask again after this time.
    Retry(Duration),
    /// The error is the answer.
    GiveUp(Reason),
}

/// Why a call is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It would fail again.
    Permanent,
    /// It may have been done, and must not be done twice.
    NotIdempotent,
    /// It was made often enough.
    Attempts,
    /// The answer would come too late.
    Deadline,
    /// Too many calls of this dependency are repetitions already.
    Budget,
}

impl Reason {
    /// The label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::NotIdempotent => "not_idempotent",
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

/// Decides what follows from a failed call. Only a decision for a retry takes from the budget.
pub fn decide(policy: &Policy, failed: &Failed, budget: &Budget, rng: &mut impl Rng) -> Decision {
    if !failed.kind.is_retryable() {
        return Decision::GiveUp(Reason::Permanent);
    }
    if !failed.idempotent {
        return Decision::GiveUp(Reason::NotIdempotent);
    }
    if failed.attempt + 1 >= policy.attempts {
        return Decision::GiveUp(Reason::Attempts);
    }
    // Jitter goes on top of what the dependency asks for: others were told the same.
    let wait = failed.retry_after.unwrap_or_default().saturating_add(policy.delay(failed.attempt, rng));
    if wait >= failed.left || wait > LONGEST {
        return Decision::GiveUp(Reason::Deadline);
    }
    if !budget.take() {
        return Decision::GiveUp(Reason::Budget);
    }
    Decision::Retry(wait)
}

/// How many retries a dependency gets: a share of its calls, and a few to begin with.
#[derive(Debug)]
pub struct Budget {
    /// In hundredths of a retry.
    credit: Mutex<u64>,
    /// What can be saved up, in hundredths.
    most: u64,
}

/// Hundredths of a retry for each call.
const SHARE: u64 = 20;
const RETRY: u64 = 100;
/// Retries that need no calls before them; also those that can be saved up.
const RESERVE: u64 = 10;

impl Default for Budget {
    fn default() -> Self {
        Self::with_reserve(RESERVE as u32)
    }
}

impl Budget {
    /// One that allows so many retries at once, before any call and whenever so many were saved up.
    pub fn with_reserve(retries: u32) -> Self {
        let most = u64::from(retries) * RETRY;
        Self { credit: Mutex::new(most), most }
    }

    /// A call is made for the first time.
    pub fn call(&self) {
        let mut credit = self.credit.lock();
        *credit = (*credit + SHARE).min(self.most);
    }

    fn take(&self) -> bool {
        let mut credit = self.credit.lock();
        let enough = *credit >= RETRY;
        if enough {
            *credit -= RETRY;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn failed() -> Failed {
        Failed {
            kind: ErrorKind::Unavailable,
            attempt: 0,
            idempotent: true,
            retry_after: None,
            left: Duration::from_secs(600),
        }
    }

    fn decided(failed: &Failed) -> Decision {
        decide(&Policy::default(), failed, &Budget::default(), &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn waits_grow_as_their_strategy_says() {
        let ceilings = |strategy| {
            let policy = Policy { strategy, ..Policy::default() };
            [0, 1, 2, 10, 40].map(|attempt| policy.ceiling(attempt).as_millis())
        };
        let step = Duration::from_millis(100);
        assert_eq!(ceilings(Strategy::Exponential(step)), [100, 200, 400, 102_400, 300_000]);
        assert_eq!(ceilings(Strategy::Linear(step)), [100, 200, 300, 1_100, 4_100]);
        assert_eq!(ceilings(Strategy::Fixed(step)), [100; 5]);
    }

    #[test]
    fn every_reason_to_give_up_is_told() {
        for kind in [ErrorKind::BadInput, ErrorKind::NotFound, ErrorKind::Internal] {
            assert_eq!(decided(&Failed { kind, ..failed() }), Decision::GiveUp(Reason::Permanent));
        }
        let cases = [
            (Failed { idempotent: false, ..failed() }, Reason::NotIdempotent),
            (Failed { attempt: 3, ..failed() }, Reason::Attempts),
            (Failed { left: Duration::ZERO, ..failed() }, Reason::Deadline),
            (Failed { retry_after: Some(Duration::from_secs(301)), ..failed() }, Reason::Deadline),
        ];
        for (failed, reason) in cases {
            assert_eq!(decided(&failed), Decision::GiveUp(reason), "{failed:?}");
        }
        let asked = Failed { retry_after: Some(Duration::from_secs(7)), ..failed() };
        let Decision::Retry(wait) = decided(&asked) else { panic!("there is time") };
        assert!((Duration::from_secs(7)..=Duration::from_millis(7_100)).contains(&wait), "{wait:?}");
    }

    #[test]
    fn a_thousand_who_failed_together_do_not_come_back_together() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut tenths = [0u32; 10];
        for _ in 0..1_000 {
            let wait = Policy::default().delay(3, &mut rng).as_secs_f64() / 0.8;
            tenths[((wait * 10.0) as usize).min(9)] += 1;
        }
        // A hundred in each tenth of the wait: five standard deviations are 48.
        assert!(tenths.iter().all(|count| count.abs_diff(100) < 48), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn retries_are_a_fifth_of_the_calls_and_a_few(calls in prop::collection::vec(any::<bool>(), 0..2_000)) {
            let (budget, mut rng) = (Budget::default(), StdRng::seed_from_u64(1));
            let (mut first, mut again) = (0u64, 0u64);
            for is_call in calls {
                if is_call {
                    budget.call();
                    first += 1;
                } else if let Decision::Retry(_) = decide(&Policy::default(), &failed(), &budget, &mut rng) {
                    again += 1;
                }
                prop_assert!(again <= RESERVE + first / 5, "{again} of {first}");
            }
        }

        #[test]
        fn nobody_waits_for_longer_than_his_deadline(
            attempt in 0u32..3, left in 0u64..400_000, after in prop::option::of(0u64..400_000), seed in any::<u64>(),
        ) {
            let millis = Duration::from_millis;
            let failed = Failed { attempt, left: millis(left), retry_after: after.map(millis), ..failed() };
            let decision = decide(&Policy::default(), &failed, &Budget::default(), &mut StdRng::seed_from_u64(seed));
            if let Decision::Retry(wait) = decision {
                prop_assert!(wait < failed.left && wait <= LONGEST && wait >= failed.retry_after.unwrap_or_default());
            }
        }
    }
}
