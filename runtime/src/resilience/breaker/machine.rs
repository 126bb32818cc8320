//! When a dependency is asked. Pure: the time comes from outside.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When the breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So many faults within `window` open it; at least 1.
    pub failure_threshold: u32,
    /// Older faults are forgotten.
    pub window: Duration,
    /// For how long nobody asks; then one call at a time does.
    pub timeout: Duration,
    /// So many of these calls in a row close it; at least 1.
    pub success_threshold: u32,
    /// Whether a success takes the oldest fault away. For a dependency with thousands of calls a second, of which a few
    /// fail on any day: it opens when faults outnumber successes, not when there are a few among many.
    pub forgiving: bool,
}

/// What the breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Every call is made.
    Closed,
    /// No call is made.
    Open,
    /// One call at a time is made.
    HalfOpen,
}

/// How a call ended, as far as it tells of the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// It did not, or not in time.
    Fault,
    /// Nobody waited for the answer, or it tells nothing.
    Unknown,
}

/// A call that may be made; to be given to [`Machine::record`] once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    generation: u64,
}

/// The breaker without clock and lock.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Settings,
    phase: Phase,
    /// Counts changes of state: answers to calls of an earlier state tell nothing of now.
    generation: u64,
    trips: u64,
}

#[derive(Debug, Clone)]
enum Phase {
    /// When the last faults were, at most as many as open the breaker.
    Closed(VecDeque<Instant>),
    Open {
        since: Instant,
    },
    HalfOpen {
        successes: u32,
        under_way: bool,
    },
}

impl Machine {
    /// Closed. Thresholds of 0 count as 1.
    pub fn new(settings: Settings) -> Self {
        let settings = Settings {
            failure_threshold: settings.failure_threshold.max(1),
            success_threshold: settings.success_threshold.max(1),
            ..settings
        };
        Self { settings, phase: Phase::Closed(VecDeque::new()), generation: 0, trips: 0 }
    }

    /// What it does at this time.
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed(_) => State::Closed,
            Phase::Open { since } if now < since + self.settings.timeout => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// For how long no call will be made; zero unless it is open.
    pub fn refuses_for(&self, now: Instant) -> Duration {
        match self.phase {
            Phase::Open { since } => (since + self.settings.timeout).saturating_duration_since(now),
            Phase::Closed(_) | Phase::HalfOpen { .. } => Duration::ZERO,
        }
    }

    /// How often it has opened.
    pub fn trips(&self) -> u64 {
        self.trips
    }

    /// Whether a call may be made.
    ///
    /// # Errors
    /// For how long none will be; zero while another one is tried.
    pub fn ask(&mut self, now: Instant) -> Result<Admitted, Duration> {
        if let Phase::Open { since } = self.phase {
            let until = since + self.settings.timeout;
            if now < until {
                return Err(until - now);
            }
            self.enter(Phase::HalfOpen { successes: 0, under_way: false });
        }
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase
            && std::mem::replace(under_way, true)
        {
            return Err(Duration::ZERO);
        }
        Ok(Admitted { generation: self.generation })
    }

    /// Takes note of how a call ended; answers the new state when that changed it.
    pub fn record(&mut self, call: Admitted, outcome: Outcome, now: Instant) -> Option<State> {
        if call.generation != self.generation {
            return None;
        }
        let Settings { failure_threshold, window, success_threshold, forgiving, .. } = self.settings;
        match (&mut self.phase, outcome) {
            (Phase::Closed(faults), Outcome::Fault) => {
                faults.push_back(now);
                forget(faults, window, now);
                if faults.len() < failure_threshold as usize {
                    return None;
                }
                self.open(now)
            }
            (Phase::HalfOpen { .. }, Outcome::Fault) => self.open(now),
            (Phase::HalfOpen { successes, under_way }, Outcome::Success) => {
                (*successes, *under_way) = (*successes + 1, false);
                if *successes < success_threshold {
                    return None;
                }
                self.enter(Phase::Closed(VecDeque::new()));
                Some(State::Closed)
            }
            (Phase::HalfOpen { under_way, .. }, Outcome::Unknown) => {
                *under_way = false;
                None
            }
            (Phase::Closed(faults), Outcome::Success) => {
                if forgiving && !faults.is_empty() {
                    forget(faults, window, now);
                    faults.pop_front();
                }
                None
            }
            (Phase::Closed(_), Outcome::Unknown) | (Phase::Open { .. }, _) => None,
        }
    }

    /// A call that tells how the dependency is, past the queue of those who want something of it: only while one is
    /// tried at a time, and none is.
    pub fn probe(&mut self, now: Instant) -> Option<Admitted> {
        if self.state(now) == State::HalfOpen { self.ask(now).ok() } else { None }
    }

    fn open(&mut self, now: Instant) -> Option<State> {
        self.trips += 1;
        self.enter(Phase::Open { since: now });
        Some(State::Open)
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

/// Leaves faults of the window only.
fn forget(faults: &mut VecDeque<Instant>, window: Duration, now: Instant) {
    while faults.front().is_some_and(|at| now - *at > window) {
        faults.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings {
        failure_threshold: 3,
        window: Duration::from_secs(60),
        timeout: Duration::from_secs(30),
        success_threshold: 2,
        forgiving: false,
    };

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u64),
        Ask,
        /// Ends one of the calls under way.
        End(usize, Outcome),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let outcome =
            prop::sample::select(vec![Outcome::Success, Outcome::Fault, Outcome::Fault, Outcome::Unknown]);
        let step = prop_oneof![
            (0u64..40).prop_map(Step::Wait),
            Just(Step::Ask),
            Just(Step::Ask),
            (any::<usize>(), outcome.clone()).prop_map(|(at, outcome)| Step::End(at, outcome)),
            (any::<usize>(), outcome).prop_map(|(at, outcome)| Step::End(at, outcome)),
        ];
        prop::collection::vec(step, 0..120)
    }

    /// The same rules over the whole history, without a thought for time or memory.
    #[derive(Default)]
    struct Model {
        /// Of the present state: when it began, faults since, successes since.
        began: Duration,
        state: Option<State>,
        faults: Vec<Duration>,
        successes: u32,
        probing: bool,
        era: u32,
        forgiving: bool,
    }

    impl Model {
        fn enter(&mut self, state: State, now: Duration) {
            let (era, forgiving) = (self.era + 1, self.forgiving);
            *self = Self { began: now, state: Some(state), era, forgiving, ..Self::default() };
        }

        fn ask(&mut self, now: Duration) -> Option<u32> {
            if self.state == Some(State::Open) {
                if now < self.began + SETTINGS.timeout {
                    return None;
                }
                self.enter(State::HalfOpen, now);
            }
            if self.state == Some(State::HalfOpen) && std::mem::replace(&mut self.probing, true) {
                return None;
            }
            Some(self.era)
        }

        fn end(&mut self, era: u32, outcome: Outcome, now: Duration) {
            if era != self.era {
                return;
            }
            match (self.state, outcome) {
                (Some(State::HalfOpen), Outcome::Fault) => self.enter(State::Open, now),
                (Some(State::HalfOpen), outcome) => {
                    self.probing = false;
                    self.successes += u32::from(outcome == Outcome::Success);
                    if self.successes == SETTINGS.success_threshold {
                        self.enter(State::Closed, now);
                    }
                }
                (Some(State::Open), _) => {}
                (_, Outcome::Fault) => {
                    self.faults.push(now);
                    let recent = self.faults.iter().filter(|at| now - **at <= SETTINGS.window).count();
                    if recent >= SETTINGS.failure_threshold as usize {
                        self.enter(State::Open, now);
                    }
                }
                (_, Outcome::Success) if self.forgiving => {
                    let recent = |at: &Duration| now - *at <= SETTINGS.window;
                    if let Some(oldest) = self.faults.iter().position(recent) {
                        self.faults.remove(oldest);
                    }
                }
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_what_the_rules_say_and_tries_one_call_at_a_time(steps in steps(), forgiving in any::<bool>()) {
            let begin = Instant::now();
            let mut machine = Machine::new(Settings { forgiving, ..SETTINGS });
            let (mut model, mut now) = (Model { forgiving, ..Model::default() }, Duration::ZERO);
            let mut calls: Vec<(Admitted, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Ask => match (machine.ask(begin + now), model.ask(now)) {
                        (Ok(admitted), Some(era)) => calls.push((admitted, era)),
                        (Err(wait), None) => prop_assert!(wait <= SETTINGS.timeout),
                        (asked, expected) => prop_assert!(false, "{asked:?}, expected {expected:?}"),
                    },
                    Step::End(at, outcome) if !calls.is_empty() => {
                        let (admitted, era) = calls.swap_remove(at % calls.len());
                        machine.record(admitted, outcome, begin + now);
                        model.end(era, outcome, now);
                    }
                    Step::End(..) => {}
                }
                if let Phase::Closed(faults) = &machine.phase {
                    prop_assert!(faults.len() < SETTINGS.failure_threshold as usize, "memory is bounded");
                }
                let open = model.state == Some(State::Open) && now < model.began + SETTINGS.timeout;
                prop_assert_eq!(machine.state(begin + now) == State::Open, open);
                prop_assert_eq!(machine.state(begin + now) == State::Closed, matches!(model.state, None | Some(State::Closed)));
            }
        }
    }

    #[test]
    fn faults_that_are_far_apart_never_open_it() {
        let begin = Instant::now();
        let mut machine = Machine::new(SETTINGS);
        for n in 0..100 {
            let now = begin + Duration::from_secs(31 * n);
            let call = machine.ask(now).expect("closed");
            assert_eq!(machine.record(call, Outcome::Fault, now), None);
        }
    }
}
