//! A circuit breaker: a dependency that fails again and again is not asked for a while, then by one call at a time.
//!
//! Promises: open refuses at once, with the dependency's name; half open has one call under way and no more, and a call that
//! nobody waits for any more gives its place back; only faults of the dependency count, not those of what was asked; an
//! answer to a call from before the last change of state says nothing. After Nygard, "Release It!" (2007).
//!
//! A health check asks past the breaker, so that it tells the truth while the breaker is open. It counts for nothing,
//! neither for nor against the dependency, unless the breaker is half open and tries nobody: then it is the call that is
//! tried ([`Breaker::probe`]), so that a server without callers finds out as well.

mod machine;
pub mod metrics;

pub use machine::{Admitted, Machine, Outcome, Settings, State};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::{Classify, ErrorKind};

/// The dependency is not asked now; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{service} has failed too often and is not asked again within {}", humantime::format_duration(*.retry_after))]
pub struct CircuitBreakerOpen {
    /// The dependency.
    pub service: &'static str,
    /// When it is worth trying again, at the earliest.
    pub retry_after: Duration,
}

impl Classify for CircuitBreakerOpen {
    fn kind(&self) -> ErrorKind {
        ErrorKind::CircuitBreakerOpen
    }
}

/// A call that was not made, or that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// It was not made.
    #[error(transparent)]
    Open(#[from] CircuitBreakerOpen),
    /// It was made and failed.
    #[error(transparent)]
    Call(E),
}

impl<E: Classify> Classify for Error<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(open) => open.kind(),
            Self::Call(error) => error.kind(),
        }
    }
}

/// The breaker of one dependency. Clones share it.
#[derive(Debug, Clone)]
pub struct Breaker {
    service: &'static str,
    machine: Arc<Mutex<Machine>>,
    refused: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

/// A call that was let through; dropped without an answer it says nothing of the dependency.
#[derive(Debug)]
pub struct Call<'a> {
    breaker: &'a Breaker,
    admitted: Admitted,
    outcome: Outcome,
}

impl Breaker {
    /// A closed breaker. `service` is what errors and logs call the dependency.
    pub fn new(service: &'static str, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let machine = Arc::new(Mutex::new(Machine::new(settings)));
        Self { service, machine, refused: Arc::default(), clock }
    }

    /// What errors and logs call the dependency.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// What it does now.
    pub fn state(&self) -> State {
        self.machine.lock().state(self.clock.now())
    }

    /// How often it has opened.
    pub fn trips(&self) -> u64 {
        self.machine.lock().trips()
    }

    /// How many calls it has refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether it would refuse every call now; nothing is counted.
    pub fn is_open(&self) -> bool {
        self.state() == State::Open
    }

    /// The refusal of a call that would not be made now; counted.
    pub fn refuse(&self) -> CircuitBreakerOpen {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let retry_after = self.machine.lock().refuses_for(self.clock.now());
        CircuitBreakerOpen { service: self.service, retry_after }
    }

    /// A place for a call, to be told how the call ended.
    ///
    /// # Errors
    /// When the dependency is not asked now.
    pub fn ask(&self) -> Result<Call<'_>, CircuitBreakerOpen> {
        let asked = self.machine.lock().ask(self.clock.now());
        match asked {
            Ok(admitted) => Ok(Call { breaker: self, admitted, outcome: Outcome::Unknown }),
            Err(retry_after) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(CircuitBreakerOpen { service: self.service, retry_after })
            }
        }
    }

    /// A place for a health check, if it is wanted as the one call that is tried.
    pub fn probe(&self) -> Option<Call<'_>> {
        let admitted = self.machine.lock().probe(self.clock.now())?;
        Some(Call { breaker: self, admitted, outcome: Outcome::Unknown })
    }

    /// Makes a call, if the dependency is asked now.
    ///
    /// # Errors
    /// [`Error::Open`] when it is not, [`Error::Call`] when the call fails.
    pub async fn call<T, E, F>(&self, call: F) -> Result<T, Error<E>>
    where
        E: Classify,
        F: Future<Output = Result<T, E>>,
    {
        let under_way = self.ask()?;
        let result = call.await;
        under_way.ends(outcome(&result));
        result.map_err(Error::Call)
    }
}

/// What a result tells of the dependency, as far as its kind says.
pub fn outcome<T, E: Classify>(result: &Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(error) if error.kind().is_retryable() => Outcome::Fault,
        // It was understood and refused: the dependency is well.
        Err(error) if error.kind().is_refusal() => Outcome::Success,
        Err(_) => Outcome::Unknown,
    }
}

impl Call<'_> {
    /// It ended so.
    pub fn ends(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let Breaker { service, machine, clock, .. } = self.breaker;
        let changed = machine.lock().record(self.admitted, self.outcome, clock.now());
        match changed {
            Some(State::Open) => tracing::warn!(service, "circuit breaker opened"),
            Some(state) => tracing::info!(service, ?state, "circuit breaker changed"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;
    use crate::clock::TestClock;

    #[derive(Debug, PartialEq)]
    struct Failed(ErrorKind);

    impl Classify for Failed {
        fn kind(&self) -> ErrorKind {
            self.0
        }
    }

    fn breaker(clock: &Arc<TestClock>) -> Breaker {
        let settings = Settings {
            failure_threshold: 2,
            window: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            success_threshold: 1,
            forgiving: false,
        };
        Breaker::new("the oracle", settings, clock.clone())
    }

    async fn fail(breaker: &Breaker, kind: ErrorKind) -> Result<(), Error<Failed>> {
        breaker.call(async { Err(Failed(kind)) }).await
    }

    #[tokio::test]
    async fn open_refuses_with_the_name_and_when_to_come_back() {
        let clock = Arc::new(TestClock::default());
        let breaker = breaker(&clock);
        for _ in 0..2 {
            assert_eq!(
                fail(&breaker, ErrorKind::Timeout).await,
                Err(Error::Call(Failed(ErrorKind::Timeout)))
            );
        }
        clock.advance(Duration::from_secs(10));
        let refused = breaker.call(async { panic!("it is asked") as Result<(), Failed> }).await;
        let open = CircuitBreakerOpen { service: "the oracle", retry_after: Duration::from_secs(20) };
        assert_eq!(open.to_string(), "the oracle has failed too often and is not asked again within 20s");
        assert_eq!(refused, Err(Error::Open(open)));
        assert_eq!((breaker.state(), breaker.trips()), (State::Open, 1));
    }

    #[tokio::test]
    async fn what_was_asked_wrongly_is_no_fault_of_the_dependency() {
        let breaker = breaker(&Arc::new(TestClock::default()));
        for kind in
            [ErrorKind::BadInput, ErrorKind::NotFound, ErrorKind::Internal].into_iter().cycle().take(30)
        {
            assert_eq!(fail(&breaker, kind).await, Err(Error::Call(Failed(kind))));
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[tokio::test]
    async fn of_fifty_callers_one_tries_and_one_that_leaves_gives_its_place_back() {
        let clock = Arc::new(TestClock::default());
        let breaker = breaker(&clock);
        for _ in 0..2 {
            let _ = fail(&breaker, ErrorKind::Unavailable).await;
        }
        clock.advance(Duration::from_secs(30));
        {
            let left = breaker.call(std::future::pending::<Result<(), Failed>>());
            let mut left = std::pin::pin!(left);
            assert!(futures::poll!(left.as_mut()).is_pending());
            assert!(
                matches!(fail(&breaker, ErrorKind::Timeout).await, Err(Error::Open(_))),
                "one is under way"
            );
        }
        assert_eq!(breaker.state(), State::HalfOpen, "nobody knows how that one would have ended");
        let (go, asked) = (Notify::new(), std::sync::atomic::AtomicU32::new(0));
        let calls = (0..50).map(|_| {
            breaker.call(async {
                asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                go.notified().await;
                Ok::<_, Failed>(())
            })
        });
        let (results, ()) = tokio::join!(join_all(calls), async {
            tokio::task::yield_now().await;
            go.notify_waiters();
        });
        assert_eq!(asked.into_inner(), 1);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[tokio::test]
    async fn a_health_check_counts_only_as_the_call_that_is_tried() {
        let clock = Arc::new(TestClock::default());
        let breaker = breaker(&clock);
        assert!(breaker.probe().is_none(), "closed: it would hide faults, or add some");
        for _ in 0..2 {
            let _ = fail(&breaker, ErrorKind::Unavailable).await;
        }
        assert!(breaker.probe().is_none(), "open: nobody is tried yet");
        clock.advance(Duration::from_secs(30));
        let probe = breaker.probe().expect("it is wanted");
        assert!(breaker.probe().is_none() && breaker.ask().is_err(), "one at a time");
        probe.ends(Outcome::Success);
        assert_eq!((breaker.state(), breaker.refused()), (State::Closed, 1));
    }
}
