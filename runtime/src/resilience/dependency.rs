//! How one dependency is asked: through its breaker, within its bulkhead, again within its budget.
//!
//! Promises: a dependency that is down costs its callers nothing, since its breaker refuses at once; one that is slow
//! holds at most `in_flight_max` calls, and one more is refused at once instead of waiting; retries are made only of what
//! may be done twice, only before the deadline, and at most so many as the budget allows. Every refusal, retry and
//! giving-up is counted.
//! Absent on purpose: timeouts, which belong to the handle that knows what has to be closed after one.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::breaker::metrics::BreakerMetrics;
use super::breaker::{self, Breaker, Call, CircuitBreakerOpen, Outcome};
use super::retry::{Budget, Decision, Failed, Policy, Reason, decide};
use crate::clock::{Clock, SystemClock};
use crate::error::{Classify, ErrorKind};
use crate::observability::metrics::{Counter, Family, Gauge, Registry};

/// What a dependency gets.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// When it is not asked.
    pub breaker: breaker::Settings,
    /// Calls at the same time; at least 1.
    pub in_flight_max: u32,
    /// How a failed call is made again.
    pub retry: Policy,
    /// Retries that need no calls before them.
    pub retry_reserve: u32,
}

/// A call that was not made; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The dependency has failed too often.
    #[error(transparent)]
    Open(#[from] CircuitBreakerOpen),
    /// So many calls wait for its answer already.
    #[error("{service} has {in_flight_max} calls to answer already")]
    Full {
        /// The dependency.
        service: &'static str,
        /// The bound.
        in_flight_max: u32,
    },
}

impl Classify for Refused {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(open) => open.kind(),
            Self::Full { .. } => ErrorKind::Unavailable,
        }
    }
}

/// One dependency. Clones share everything.
#[derive(Debug, Clone)]
pub struct Dependency {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    breaker: Breaker,
    in_flight_max: u32,
    bulkhead: Semaphore,
    policy: Policy,
    budget: Budget,
    metrics: DependencySeries,
}

/// A call under way; dropped without an end it tells nothing, and gives its places back.
#[derive(Debug)]
pub struct Entered<'a> {
    call: Call<'a>,
    _place: Place<'a>,
}

/// A place in the bulkhead.
#[derive(Debug)]
struct Place<'a> {
    in_flight: &'a Gauge,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

impl Dependency {
    /// A dependency with its series in `metrics`.
    pub fn new(
        service: &'static str,
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: &CallMetrics,
    ) -> Self {
        let breaker = Breaker::new(service, settings.breaker, clock);
        metrics.breakers.add(&breaker);
        let in_flight_max = settings.in_flight_max.max(1);
        let shared = Shared {
            breaker,
            in_flight_max,
            bulkhead: Semaphore::new(in_flight_max as usize),
            policy: settings.retry,
            budget: Budget::with_reserve(settings.retry_reserve),
            metrics: metrics.of(service),
        };
        Self { shared: Arc::new(shared) }
    }

    /// One whose breaker never opens, with room for as many calls as anybody makes: for tools and tests of the handle
    /// alone.
    pub fn unlimited(service: &'static str) -> Self {
        let breaker = breaker::Settings {
            failure_threshold: u32::MAX,
            window: Duration::ZERO,
            timeout: Duration::ZERO,
            success_threshold: 1,
            forgiving: true,
        };
        let (in_flight_max, retry_reserve) = (1_000_000, 1_000);
        let settings = Settings { breaker, in_flight_max, retry: Policy::default(), retry_reserve };
        Self::new(service, settings, Arc::new(SystemClock), &CallMetrics::default())
    }

    /// Its breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.shared.breaker
    }

    /// A place for a call.
    ///
    /// # Errors
    /// When the breaker is open, or the bulkhead full.
    pub fn enter(&self) -> Result<Entered<'_>, Refused> {
        let Shared { breaker, bulkhead, in_flight_max, metrics, .. } = &*self.shared;
        let call = breaker.ask()?;
        let Ok(permit) = bulkhead.try_acquire() else {
            metrics.full.inc();
            return Err(Refused::Full { service: breaker.service(), in_flight_max: *in_flight_max });
        };
        metrics.in_flight.inc();
        Ok(Entered { call, _place: Place { in_flight: &metrics.in_flight, _permit: permit } })
    }

    /// Makes a call and, where that may be, makes it again: until `deadline`, and only what is `idempotent`. `judge` says
    /// what a result tells of the dependency.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn call<T, E, F>(
        &self,
        deadline: Instant,
        idempotent: bool,
        judge: impl Fn(&Result<T, E>) -> Outcome,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Classify + From<Refused>,
        F: Future<Output = Result<T, E>>,
    {
        self.begin();
        for number in 0.. {
            let entered = self.enter()?;
            let result = attempt().await;
            entered.ends(judge(&result));
            let error = match result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let failed = Failed { kind: error.kind(), attempt: number, idempotent, retry_after: None, left };
            match self.again(&failed) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
        unreachable!("the policy bounds the attempts")
    }

    /// A call is made for the first time: the budget of retries grows.
    pub fn begin(&self) {
        self.shared.budget.call();
    }

    /// Whether a failed call is made again, and after which time; counted.
    pub fn again(&self, failed: &Failed) -> Option<Duration> {
        self.again_by(&self.shared.policy, failed)
    }

    /// As [`again`](Self::again), by another policy.
    pub fn again_by(&self, policy: &Policy, failed: &Failed) -> Option<Duration> {
        let Shared { budget, metrics, .. } = &*self.shared;
        match decide(policy, failed, budget, &mut StdRng::from_os_rng()) {
            Decision::Retry(wait) => {
                metrics.retries.inc();
                Some(wait)
            }
            Decision::GiveUp(reason) => {
                metrics.gave_up[reason as usize].inc();
                None
            }
        }
    }
}

impl Entered<'_> {
    /// It ended so.
    pub fn ends(self, outcome: Outcome) {
        self.call.ends(outcome);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    service: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GaveUpLabels {
    service: &'static str,
    reason: &'static str,
}

/// The families of calls that we make, with those of the breakers.
#[derive(Debug, Clone, Default)]
pub struct CallMetrics {
    breakers: BreakerMetrics,
    in_flight: Family<Labels, Gauge>,
    full: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    gave_up: Family<GaveUpLabels, Counter>,
}

/// The series of one dependency.
#[derive(Debug)]
struct DependencySeries {
    in_flight: Gauge,
    full: Counter,
    retries: Counter,
    /// In the order of [`Reason`].
    gave_up: [Counter; 5],
}

impl CallMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let breakers = BreakerMetrics::register(registry);
        let metrics = Self { breakers, ..Self::default() };
        let Self { in_flight, full, retries, gave_up, .. } = metrics.clone();
        registry.register(
            "dependency_calls_in_flight",
            "Calls that wait for the dependency's answer",
            in_flight,
        );
        registry.register("dependency_calls_full", "Calls not made since too many wait already", full);
        registry.register("retries", "Calls that were made again", retries);
        registry.register("retries_given_up", "Failed calls that were not made again, by reason", gave_up);
        metrics
    }

    fn of(&self, service: &'static str) -> DependencySeries {
        let labels = Labels { service };
        let reasons =
            [Reason::Permanent, Reason::NotIdempotent, Reason::Attempts, Reason::Deadline, Reason::Budget];
        let gave_up = reasons.map(|reason| {
            let reason = reason.label();
            self.gave_up.get_or_create_owned(&GaveUpLabels { service, reason })
        });
        DependencySeries {
            in_flight: self.in_flight.get_or_create_owned(&labels),
            full: self.full.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
            gave_up,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::super::breaker::{State, outcome};
    use super::super::retry::Strategy;
    use super::*;
    use crate::observability::metrics::Metrics;

    #[derive(Debug, PartialEq)]
    enum Error {
        Failed(ErrorKind),
        Refused(Refused),
    }

    impl From<Refused> for Error {
        fn from(refused: Refused) -> Self {
            Self::Refused(refused)
        }
    }

    impl Classify for Error {
        fn kind(&self) -> ErrorKind {
            match self {
                Self::Failed(kind) => *kind,
                Self::Refused(refused) => refused.kind(),
            }
        }
    }

    fn oracle(in_flight_max: u32, metrics: &Metrics) -> Dependency {
        let breaker = breaker::Settings {
            failure_threshold: 3,
            window: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            success_threshold: 1,
            forgiving: true,
        };
        let retry = Policy {
            strategy: Strategy::Fixed(Duration::from_millis(10)),
            longest: Duration::from_secs(1),
            attempts: 5,
        };
        let settings = Settings { breaker, in_flight_max, retry, retry_reserve: 10 };
        Dependency::new("oracle", settings, Arc::new(SystemClock), &metrics.area(CallMetrics::register))
    }

    #[tokio::test]
    async fn a_slow_dependency_holds_so_many_calls_and_refuses_the_next_at_once() {
        let metrics = Metrics::new();
        let (oracle, answer) = (oracle(2, &metrics), Notify::new());
        let call = async || {
            let entered = oracle.enter()?;
            answer.notified().await;
            entered.ends(Outcome::Success);
            Ok::<_, Refused>(())
        };
        let (results, ()) = tokio::join!(join_all((0..5).map(|_| call())), async {
            tokio::task::yield_now().await;
            assert!(metrics.classic().contains("dependency_calls_in_flight{service=\"oracle\"} 2\n"));
            answer.notify_waiters();
        });
        let full = Err(Refused::Full { service: "oracle", in_flight_max: 2 });
        assert_eq!(results, [Ok(()), Ok(()), full.clone(), full.clone(), full]);
        assert!(oracle.enter().is_ok(), "the places are back");
        let text = metrics.classic();
        assert!(text.contains("dependency_calls_in_flight{service=\"oracle\"} 0\n"), "{text}");
        assert!(text.contains("dependency_calls_full_total{service=\"oracle\"} 3\n"), "{text}");
        assert_eq!(oracle.breaker().state(), State::Closed, "that we ask too much is not its fault");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_done_twice_is_tried_again_until_the_breaker_opens() {
        let metrics = Metrics::new();
        let oracle = oracle(10, &metrics);
        let within = |seconds| Instant::now() + Duration::from_secs(seconds);
        let fail = async |kind, idempotent, seconds| {
            let mut asked = 0;
            let attempt = || {
                asked += 1;
                async move { Err::<(), _>(Error::Failed(kind)) }
            };
            let result = oracle.call(within(seconds), idempotent, outcome, attempt).await;
            (asked, result)
        };
        assert_eq!(fail(ErrorKind::NotFound, true, 60).await, (1, Err(Error::Failed(ErrorKind::NotFound))));
        assert_eq!(fail(ErrorKind::Timeout, false, 60).await, (1, Err(Error::Failed(ErrorKind::Timeout))));
        assert_eq!(fail(ErrorKind::Timeout, true, 0).await, (1, Err(Error::Failed(ErrorKind::Timeout))));
        let (asked, result) = fail(ErrorKind::Timeout, true, 60).await;
        assert_eq!(
            (asked, result.expect_err("open").kind()),
            (1, ErrorKind::CircuitBreakerOpen),
            "third fault"
        );
        let text = metrics.classic();
        for (reason, times) in [("permanent", 1), ("not_idempotent", 1), ("deadline", 1), ("budget", 0)] {
            let line = format!("retries_given_up_total{{service=\"oracle\",reason=\"{reason}\"}} {times}\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
        assert!(text.contains("retries_total{service=\"oracle\"} 1\n"), "{text}");
    }
}
