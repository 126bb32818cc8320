//! How many requests are executed at a time, and what becomes of the rest.
//!
//! Promises: a place is given back when its [`Permit`] is dropped, whatever happened to the work; who stops waiting leaves the
//! queue; nothing here is unbounded but by a bound of the caller's. Above its share of memory the process takes nothing
//! on, so that what it has taken on can be finished.

pub mod machine;
pub mod memory;
pub mod metrics;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use self::machine::Reason;
use self::machine::{Arrival, Event, Id, Machine, Settings};
use self::memory::Pressure;
use self::metrics::AdmissionMetrics;
use crate::clock::Clock;

/// No hint to come back is longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// When a request is refused instead of queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// When the queue is full, and when memory is short.
    FailFast,
    /// Never for the length of the queue, nor for memory: what waits is kept elsewhere.
    QueueAll,
    /// As [`QueueAll`](Self::QueueAll) until memory is short, then at once.
    Adaptive,
}

/// What an [`Admission`] is made from.
pub struct Parts {
    /// Bounds.
    pub settings: Settings,
    /// What is refused.
    pub policy: Policy,
    /// How many may wait, where the policy bounds the queue by its length.
    pub depth_max: usize,
    /// How much memory is used.
    pub pressure: Pressure,
    /// Asked whether the database has no connection left; then requests are refused.
    pub saturated: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    /// The series.
    pub metrics: AdmissionMetrics,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A request is not executed. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// When it is worth trying again: the longer there has been too much, the later.
    pub retry_after: Duration,
}

/// Lets requests in. Clones share it.
#[derive(Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    policy: Policy,
    depth_max: usize,
    pressure: Pressure,
    saturated: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    metrics: AdmissionMetrics,
    clock: Arc<dyn Clock>,
}

struct State {
    machine: Machine,
    waiting: HashMap<Id, oneshot::Sender<Result<Permit, Reason>>>,
}

/// A place among the requests that are executed, given back when it is dropped.
pub struct Permit {
    admission: Admission,
    client: Arc<str>,
}

/// A place in the queue, given up when it is dropped.
pub struct Waiting {
    admission: Admission,
    id: Id,
    since: Instant,
    decided: oneshot::Receiver<Result<Permit, Reason>>,
}

/// How a request is received.
pub enum Received {
    /// It is executed.
    Enters(Permit),
    /// It waits for its turn.
    Waits(Waiting),
}

impl Admission {
    /// With nobody under way.
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, policy, depth_max, pressure, saturated, metrics, clock } = parts;
        let machine = Machine::new(settings, clock.now());
        let state = Mutex::new(State { machine, waiting: HashMap::new() });
        let shared = Shared { state, policy, depth_max, pressure, saturated, metrics, clock };
        Self { shared: Arc::new(shared) }
    }

    /// Executes a request of a client as soon as there is a place for it.
    ///
    /// # Errors
    /// When it is refused, at once or after it has waited.
    pub async fn enter(&self, client: &Arc<str>) -> Result<Permit, Rejected> {
        match self.receive(client)? {
            Received::Enters(permit) => Ok(permit),
            Received::Waits(waiting) => waiting.turn().await,
        }
    }

    /// Receives a request of a client without waiting.
    ///
    /// # Errors
    /// When it is refused.
    pub fn receive(&self, client: &Arc<str>) -> Result<Received, Rejected> {
        let shared = &self.shared;
        let now = shared.clock.now();
        if shared.saturated.as_ref().is_some_and(|saturated| saturated()) {
            return Err(self.refuse(Reason::PoolSaturated, now));
        }
        let short = shared.pressure.is_high(now);
        shared.metrics.pressed(short);
        if short && shared.policy != Policy::QueueAll {
            return Err(self.refuse(Reason::OutOfMemory, now));
        }
        let depth_max = (shared.policy == Policy::FailFast).then_some(shared.depth_max);
        let mut events = Vec::new();
        let (arrival, decided) = {
            let mut state = shared.state.lock();
            let arrival = state.machine.arrive(client, depth_max, now, &mut events);
            let decided = match arrival {
                Arrival::Waits(id) => {
                    let (decide, decided) = oneshot::channel();
                    state.waiting.insert(id, decide);
                    Some(decided)
                }
                _ => None,
            };
            shared.metrics.measure(&state.machine);
            (arrival, decided)
        };
        self.tell(events);
        match (arrival, decided) {
            (Arrival::Waits(id), Some(decided)) => {
                shared.metrics.queued();
                Ok(Received::Waits(Waiting { admission: self.clone(), id, since: now, decided }))
            }
            (Arrival::Refused(reason), _) => Err(self.refuse(reason, now)),
            _ => Ok(Received::Enters(self.permit(client.clone()))),
        }
    }

    /// Why a request would be refused that comes now, where that is known without looking at it: what is refused because there
    /// is too much to do must not cost more than the refusal. With `queue-all` everybody may wait.
    pub fn is_too_much(&self) -> Option<Rejected> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let full = shared.policy != Policy::QueueAll && shared.state.lock().machine.is_full(now);
        full.then(|| self.refuse(Reason::Overloaded, now))
    }

    /// How many are executed and how many wait.
    pub fn size(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.machine.executing(), state.machine.waiting())
    }

    /// Refuses a request that came in, for a reason that is known elsewhere.
    pub fn reject(&self, reason: Reason) -> Rejected {
        self.refuse(reason, self.shared.clock.now())
    }

    fn permit(&self, client: Arc<str>) -> Permit {
        Permit { admission: self.clone(), client }
    }

    fn refuse(&self, reason: Reason, now: Instant) -> Rejected {
        self.shared.metrics.rejected(reason);
        let lasting = self.shared.state.lock().machine.overloaded_for(now);
        Rejected { reason, retry_after: lasting.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX) }
    }

    /// Tells those who waited. Never under the lock: whoever is not there any more drops a permit, which takes it.
    fn tell(&self, events: Vec<Event>) {
        for event in events {
            let (id, decision) = match event {
                Event::Enters(id, client) => (id, Ok(self.permit(client))),
                Event::Shed(id, reason) => (id, Err(reason)),
            };
            let waiting = self.shared.state.lock().waiting.remove(&id);
            if let Some(waiting) = waiting {
                drop(waiting.send(decision));
            }
        }
    }
}

impl Waiting {
    /// The place, when it is this one's turn.
    ///
    /// # Errors
    /// When the turn does not come in time, or never will.
    pub async fn turn(mut self) -> Result<Permit, Rejected> {
        let admission = self.admission.clone();
        let shared = &admission.shared;
        let mut due = shared.state.lock().machine.due(self.since, self.since);
        // A queue in which nobody comes and nobody leaves is one whose work stands still: those in it look at the clock themselves.
        let decision = loop {
            if let Ok(decision) = tokio::time::timeout_at(due, &mut self.decided).await {
                break decision;
            }
            let now = shared.clock.now();
            let mut events = Vec::new();
            {
                let mut state = shared.state.lock();
                state.machine.tick(now, &mut events);
                due = state.machine.due(self.since, now);
                shared.metrics.measure(&state.machine);
            }
            admission.tell(events);
        };
        let now = shared.clock.now();
        shared.metrics.waited(now.saturating_duration_since(self.since));
        match decision {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(reason)) => Err(admission.refuse(reason, now)),
            Err(_) => unreachable!("who waits is told before it is forgotten"),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let shared = &self.admission.shared;
        let mut state = shared.state.lock();
        if state.machine.give_up(self.id, shared.clock.now()) {
            state.waiting.remove(&self.id);
            shared.metrics.measure(&state.machine);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let shared = &self.admission.shared;
        let mut events = Vec::new();
        {
            let mut state = shared.state.lock();
            state.machine.leave(&self.client, shared.clock.now(), &mut events);
            shared.metrics.measure(&state.machine);
        }
        self.admission.tell(events);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("client", &self.client).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn settings() -> Settings {
        Settings {
            executing_max: 2,
            client_max: 2,
            timeout: Duration::from_secs(1),
            target: Duration::from_millis(50),
            interval: Duration::from_millis(500),
        }
    }

    fn admission(policy: Policy, used: u64, saturated: bool) -> Admission {
        Admission::new(Parts {
            settings: settings(),
            policy,
            depth_max: 3,
            pressure: Pressure::fixed(80, used, 100),
            saturated: saturated.then(|| Box::new(|| true) as Box<dyn Fn() -> bool + Send + Sync>),
            metrics: AdmissionMetrics::unregistered(),
            clock: Arc::new(SystemClock),
        })
    }

    fn name(client: usize) -> Arc<str> {
        client.to_string().into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_who_leaves() {
        let admission = admission(Policy::FailFast, 0, false);
        let first = admission.enter(&name(0)).await.expect("a place");
        let _second = admission.enter(&name(1)).await.expect("a place");
        let third = tokio::spawn({
            let admission = admission.clone();
            async move { admission.enter(&name(2)).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(admission.size(), (2, 1));
        drop(first);
        let third = third.await.expect("no panic").expect("a place");
        assert_eq!(admission.size(), (2, 0));
        drop(third);
        assert_eq!(admission.size(), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_refused_and_the_queue_is_bounded() {
        let admission = admission(Policy::FailFast, 0, false);
        let held = [admission.enter(&name(0)).await, admission.enter(&name(1)).await];
        let waiting: Vec<_> = (2..5).map(|client| admission.receive(&name(client))).collect();
        assert!(waiting.iter().all(|one| matches!(one, Ok(Received::Waits(_)))));
        let refused = admission.enter(&name(5)).await.expect_err("the queue is full");
        assert_eq!(refused, Rejected { reason: Reason::QueueFull, retry_after: RETRY_AFTER_MIN });
        for one in waiting {
            let Ok(Received::Waits(waiting)) = one else { panic!("it waits") };
            let refused = waiting.turn().await.expect_err("nobody leaves");
            assert_eq!(refused.reason, Reason::Overloaded, "for longer than the interval");
        }
        assert_eq!(admission.size(), (2, 0));
        drop(held);
        assert_eq!(admission.size(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_stands_still_is_left_by_the_clock() {
        let admission = admission(Policy::FailFast, 0, false);
        let _held = [admission.enter(&name(0)).await, admission.enter(&name(1)).await];
        let began = Instant::now();
        let refused = admission.enter(&name(2)).await.expect_err("nobody leaves");
        assert_eq!(refused.reason, Reason::Overloaded);
        let waited = began.elapsed();
        assert!(waited < Duration::from_millis(510), "the interval and no longer: {waited:?}");
        let began = Instant::now();
        admission.enter(&name(3)).await.expect_err("nobody leaves");
        assert!(began.elapsed() < Duration::from_millis(60), "it is the same overload: the target");
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_overload_few_wait_and_the_others_are_refused_as_they_come() {
        for (policy, refused) in
            [(Policy::FailFast, true), (Policy::Adaptive, true), (Policy::QueueAll, false)]
        {
            let admission = admission(policy, 0, false);
            let held = [admission.enter(&name(0)).await, admission.enter(&name(1)).await];
            let first = admission.receive(&name(2)).expect("it waits");
            assert_eq!(admission.is_too_much(), None, "somebody waits, which is not too much yet");
            tokio::time::advance(Duration::from_millis(501)).await;
            let told = admission.is_too_much();
            assert_eq!(told.map(|told| told.reason), refused.then_some(Reason::Overloaded), "{policy:?}");
            drop(first);
            assert_eq!(admission.is_too_much(), None, "the next one has a chance");
            drop(held);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_the_queue_and_nobody_loses_a_place_by_it() {
        let admission = admission(Policy::QueueAll, 0, false);
        let held = [admission.enter(&name(0)).await, admission.enter(&name(1)).await];
        let mut waiting: Vec<_> = (2..6).map(|client| admission.receive(&name(client)).ok()).collect();
        waiting.remove(0);
        assert_eq!(admission.size(), (2, 3));
        // Decided and not yet heard of: the place goes on to the next.
        drop(held);
        assert_eq!(admission.size(), (2, 1));
        drop(waiting);
        assert_eq!(admission.size(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_three_policies_differ_by_length_and_memory() {
        let outcome = |policy, used| async move {
            let admission = admission(policy, used, false);
            let mut kept = Vec::new();
            let mut told = Vec::new();
            for client in 0..8 {
                match admission.receive(&name(client)) {
                    Ok(received) => {
                        told.push(match received {
                            Received::Enters(_) => "enters",
                            Received::Waits(_) => "waits",
                        });
                        kept.push(received);
                    }
                    Err(rejected) => told.push(rejected.reason.label()),
                }
            }
            told[7]
        };
        assert_eq!(outcome(Policy::FailFast, 0).await, "queue_full");
        assert_eq!(outcome(Policy::QueueAll, 0).await, "waits");
        assert_eq!(outcome(Policy::Adaptive, 0).await, "waits");
        assert_eq!(outcome(Policy::FailFast, 81).await, "out_of_memory");
        assert_eq!(outcome(Policy::QueueAll, 81).await, "waits");
        assert_eq!(outcome(Policy::Adaptive, 81).await, "out_of_memory");
    }

    #[tokio::test]
    async fn a_saturated_pool_refuses_where_that_is_wished() {
        let refused = admission(Policy::Adaptive, 0, true).enter(&name(0)).await;
        assert_eq!(refused.map(drop).map_err(|refused| refused.reason), Err(Reason::PoolSaturated));
        assert!(admission(Policy::Adaptive, 0, false).enter(&name(0)).await.is_ok());
    }
}
