//! The recorder: every operation, fault, health change and sample of a run, on the run's clock.
//!
//! Latency counts from the intended start and is kept per second of the intended start. The history itself is written
//! by [`super::journal`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use chaos::history::{
    ClassId, Complete, Entry, FaultPhase, FaultRecord, HealthRecord, Invoke, OpId, Outcome, Record,
    SampleRecord,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::journal::{Health, Journal};
use super::latency::Latencies;
use crate::run::Run;

const SECOND_NS: u64 = 1_000_000_000;

/// What happened to the arrivals that were meant to start within one second of the run's clock.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Second {
    /// Index of the second: it begins at `second * 10^9` ns of the run's clock.
    pub second: u64,
    /// Arrivals of the schedule that were sent, whatever came of them.
    pub started: u64,
    /// Arrivals that were never sent.
    pub dropped: u64,
    /// By class, in the order of the classes the recorder was made with.
    pub classes: Vec<ClassSecond>,
}

/// One class of operations within a second; retries and twins count here although they are not arrivals.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClassSecond {
    pub ok: u64,
    pub fail: u64,
    pub unknown: u64,
    pub dropped: u64,
    /// From the intended start, of operations that were ok or unknown.
    pub latency: Latencies,
    /// The same of refusals, which must not flatter the others.
    pub refused: Latencies,
    /// How often each code other than an ok one was seen.
    pub codes: BTreeMap<String, u64>,
}

impl Second {
    pub fn start_ns(&self) -> u64 {
        self.second * SECOND_NS
    }

    pub fn end_ns(&self) -> u64 {
        (self.second + 1) * SECOND_NS
    }

    pub fn ok(&self) -> u64 {
        self.classes.iter().map(|class| class.ok).sum()
    }

    /// Failed, unknown and dropped together.
    pub fn errors(&self) -> u64 {
        self.classes.iter().map(|class| class.fail + class.unknown + class.dropped).sum()
    }

    /// Of the failed ones, those that were refused.
    pub fn refused(&self) -> u64 {
        self.classes.iter().map(|class| class.refused.count()).sum()
    }

    /// All classes' latencies of operations that were ok or unknown.
    pub fn latencies(&self) -> impl Iterator<Item = &Latencies> {
        self.classes.iter().map(|class| &class.latency)
    }
}

/// The state of a run for one line on a terminal.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Live {
    pub at_ns: u64,
    pub target_rate: f64,
    /// Operations that completed in the last whole second.
    pub achieved: u64,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Errors of the last whole second, and of the run so far.
    pub errors: u64,
    pub errors_total: u64,
    pub active_faults: Vec<String>,
    /// Anonymous memory of the runtime, in bytes.
    pub memory_bytes: Option<f64>,
}

/// Handle to the recorder of a run; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    run: Run,
    classes: usize,
    processes: AtomicU32,
    operations: AtomicU64,
    state: Mutex<State>,
    journal: Journal,
    load: watch::Sender<LoadState>,
}

/// Where the load stands: those who follow its clock wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoadState {
    Waiting,
    Started(u64),
    Over,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<OpId, (ClassId, u64)>,
    seconds: BTreeMap<u64, Second>,
    target_rate: f64,
    now: Rolling,
    last: Rolling,
    errors_total: u64,
    active_faults: BTreeSet<String>,
    samples: BTreeMap<String, Vec<(u64, f64)>>,
    health: Vec<(u64, HealthRecord)>,
    faults: Vec<(u64, FaultRecord)>,
}

/// Completions of one second of the clock, for the live line.
#[derive(Debug, Clone, Default)]
struct Rolling {
    second: u64,
    completed: u64,
    errors: u64,
    latency: Latencies,
}

impl Recorder {
    /// Opens `history.bin` in the run's folder and starts the thread that writes it. `classes` names the operation
    /// classes; a [`ClassId`] is an index into it.
    pub fn create(run: &Run, classes: &[&str]) -> anyhow::Result<Self> {
        let inner = Inner {
            run: run.clone(),
            classes: classes.len(),
            processes: AtomicU32::new(0),
            operations: AtomicU64::new(0),
            state: Mutex::default(),
            journal: Journal::create(run, classes)?,
            load: watch::Sender::new(LoadState::Waiting),
        };
        Ok(Recorder { inner: Arc::new(inner) })
    }

    /// Nanoseconds of the run's clock.
    pub fn now_ns(&self) -> u64 {
        self.inner.run.now_ns()
    }

    /// A new process number: a logical client that does one operation at a time. One whose operation ended unknown is
    /// not used again.
    pub fn process(&self) -> u32 {
        self.inner.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// An operation begins now; `intended_ns` is when the schedule wanted it.
    pub fn invoke(&self, class: ClassId, process: u32, intended_ns: u64, key: &str, value: &str) -> OpId {
        let op = OpId(self.inner.operations.fetch_add(1, Ordering::Relaxed));
        self.inner.state.lock().open.insert(op, (class, intended_ns));
        let invoke = Invoke { op, process, class, intended_ns, key: key.into(), value: value.into() };
        self.append(Record::Invoke(invoke));
        op
    }

    /// An operation ended. Completing one twice, or one that was never invoked, is passed over.
    pub fn complete(&self, op: OpId, outcome: Outcome, code: &str, answer: &str) {
        let now = self.now_ns();
        {
            let mut state = self.inner.state.lock();
            let Some((class, intended_ns)) = state.open.remove(&op) else { return };
            let latency_us = now.saturating_sub(intended_ns) / 1_000;
            state.count(self.inner.classes, class, intended_ns, outcome, code, latency_us);
            state.roll(now, outcome, Some(latency_us));
        }
        self.append(Record::Complete(Complete { op, outcome, code: code.into(), answer: answer.into() }));
    }

    /// An arrival of the schedule was sent, with however many operations.
    pub fn arrival_started(&self, intended_ns: u64) {
        let mut state = self.inner.state.lock();
        state.second(self.inner.classes, intended_ns).started += 1;
    }

    /// An arrival of the schedule was never sent: it counts as a failed request of `class`.
    pub fn arrival_dropped(&self, class: ClassId, intended_ns: u64) {
        let now = self.now_ns();
        let mut state = self.inner.state.lock();
        let second = state.second(self.inner.classes, intended_ns);
        second.dropped += 1;
        if let Some(class) = second.classes.get_mut(usize::from(class.0)) {
            class.dropped += 1;
        }
        state.roll(now, Outcome::Fail, None);
    }

    pub fn fault(&self, record: FaultRecord) {
        let now = self.now_ns();
        {
            let mut state = self.inner.state.lock();
            match record.phase {
                FaultPhase::Injected => state.active_faults.insert(record.id.clone()),
                FaultPhase::Healed | FaultPhase::VerifiedGone => state.active_faults.remove(&record.id),
            };
            state.faults.push((now, record.clone()));
        }
        self.append(Record::Fault(record));
    }

    /// A state was seen: `subject` is `health`, `ready`, `dependency.redis` …
    pub fn health(&self, subject: &str, state: &str) {
        let record = HealthRecord { subject: subject.into(), state: state.into() };
        self.inner.state.lock().health.push((self.now_ns(), record.clone()));
        self.append(Record::Health(record));
    }

    /// A number was seen: `series` is `runtime.anonymous_bytes` …
    pub fn sample(&self, series: &str, value: f64) {
        let now = self.now_ns();
        self.inner.state.lock().samples.entry(series.into()).or_default().push((now, value));
        self.append(Record::Sample(SampleRecord { series: series.into(), value }));
    }

    /// The schedule's clock starts at `start_ns` of the run's clock.
    pub fn load_starts(&self, start_ns: u64) {
        self.inner.load.send_replace(LoadState::Started(start_ns));
    }

    /// The load ended or will never start: whoever waits for its start is let go.
    pub fn load_over(&self) {
        let waiting = |state: &mut LoadState| {
            let waits = *state == LoadState::Waiting;
            *state = if waits { LoadState::Over } else { *state };
            waits
        };
        self.inner.load.send_if_modified(waiting);
    }

    /// When the schedule's clock starts, as soon as that is known; `None`: it never will.
    pub async fn load_started(&self) -> Option<u64> {
        let mut state = self.inner.load.subscribe();
        let known = state.wait_for(|state| *state != LoadState::Waiting).await;
        match known.as_deref() {
            Ok(LoadState::Started(start_ns)) => Some(*start_ns),
            // The sender lives as long as `self`.
            _ => None,
        }
    }

    /// The rate that the schedule wants now, for the live line.
    pub fn set_target_rate(&self, rate: f64) {
        self.inner.state.lock().target_rate = rate;
    }

    /// Every second that had arrivals or operations, oldest first.
    pub fn windows(&self) -> Vec<Second> {
        self.inner.state.lock().seconds.values().cloned().collect()
    }

    /// All samples so far, by series: nanoseconds of the run's clock and value.
    pub fn samples(&self) -> BTreeMap<String, Vec<(u64, f64)>> {
        self.inner.state.lock().samples.clone()
    }

    pub fn health_records(&self) -> Vec<(u64, HealthRecord)> {
        self.inner.state.lock().health.clone()
    }

    pub fn fault_records(&self) -> Vec<(u64, FaultRecord)> {
        self.inner.state.lock().faults.clone()
    }

    /// Operations that were invoked and have not completed.
    pub fn open_operations(&self) -> usize {
        self.inner.state.lock().open.len()
    }

    pub fn live(&self) -> Live {
        let now = self.now_ns();
        let mut state = self.inner.state.lock();
        state.turn(now / SECOND_NS);
        let whole = state.last.second + 1 == now / SECOND_NS;
        let last = if whole { state.last.clone() } else { Rolling::default() };
        let memory = state.samples.get("runtime.anonymous_bytes").and_then(|series| series.last());
        Live {
            at_ns: now,
            target_rate: state.target_rate,
            achieved: last.completed,
            p50_ms: last.latency.quantile_ms(0.5),
            p95_ms: last.latency.quantile_ms(0.95),
            p99_ms: last.latency.quantile_ms(0.99),
            errors: last.errors,
            errors_total: state.errors_total,
            active_faults: state.active_faults.iter().cloned().collect(),
            memory_bytes: memory.map(|(_, bytes)| *bytes),
        }
    }

    /// How the writing of the history fares.
    pub fn own_health(&self) -> Health {
        self.inner.journal.health()
    }

    /// Writes what is left and closes the file; later calls give the same answer and later entries are not written.
    pub fn finish(&self) -> anyhow::Result<PathBuf> {
        self.inner.journal.finish()
    }

    fn append(&self, record: Record) {
        self.inner.journal.append(Entry { at_ns: self.now_ns(), record });
    }
}

impl State {
    fn second(&mut self, classes: usize, intended_ns: u64) -> &mut Second {
        let index = intended_ns / SECOND_NS;
        self.seconds.entry(index).or_insert_with(|| Second {
            second: index,
            classes: vec![ClassSecond::default(); classes],
            ..Second::default()
        })
    }

    fn count(
        &mut self,
        classes: usize,
        class: ClassId,
        intended_ns: u64,
        outcome: Outcome,
        code: &str,
        latency_us: u64,
    ) {
        let second = self.second(classes, intended_ns);
        let Some(class) = second.classes.get_mut(usize::from(class.0)) else { return };
        match outcome {
            Outcome::Ok => class.ok += 1,
            Outcome::Fail => class.fail += 1,
            Outcome::Unknown => class.unknown += 1,
        }
        if outcome == Outcome::Fail {
            class.refused.record_us(latency_us);
        } else {
            class.latency.record_us(latency_us);
        }
        if outcome != Outcome::Ok {
            *class.codes.entry(code.into()).or_default() += 1;
        }
    }

    fn roll(&mut self, now_ns: u64, outcome: Outcome, latency_us: Option<u64>) {
        self.turn(now_ns / SECOND_NS);
        let error = u64::from(outcome != Outcome::Ok);
        self.errors_total += error;
        self.now.errors += error;
        if let Some(us) = latency_us {
            self.now.completed += 1;
            self.now.latency.record_us(us);
        }
    }

    /// Makes `second` the current one of the live figures.
    fn turn(&mut self, second: u64) {
        if second > self.now.second {
            self.last = std::mem::take(&mut self.now);
            self.now.second = second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaos::fault::Evidence;
    use tokio_util::sync::CancellationToken;

    fn recorder() -> (tempfile::TempDir, Recorder) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run =
            Run::create("r".into(), 7, folder.path().join("run"), CancellationToken::new()).expect("run");
        let recorder = Recorder::create(&run, &["a", "b"]).expect("recorder");
        (folder, recorder)
    }

    #[test]
    fn operations_are_counted_in_the_second_they_were_meant_for() {
        let (_folder, recorder) = recorder();
        let op = |class, intended, outcome, code| {
            let op = recorder.invoke(ClassId(class), recorder.process(), intended, "k", "v");
            recorder.complete(op, outcome, code, "");
        };
        op(0, 5, Outcome::Ok, "200");
        op(1, 7, Outcome::Unknown, "timeout");
        op(1, 8, Outcome::Fail, "RATE_LIMITED");
        recorder.arrival_started(5);
        recorder.arrival_dropped(ClassId(0), 6);
        let windows = recorder.windows();
        assert_eq!(windows.len(), 1);
        let second = &windows[0];
        assert_eq!((second.started, second.dropped, second.ok(), second.errors()), (1, 1, 1, 3));
        assert_eq!((second.classes[1].latency.count(), second.classes[1].refused.count()), (1, 1));
        assert_eq!(second.classes[1].codes["timeout"], 1);
        assert_eq!(recorder.open_operations(), 0);
    }

    #[test]
    fn latency_counts_from_the_intended_start() {
        let (_folder, recorder) = recorder();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let op = recorder.invoke(ClassId(0), 0, 0, "k", "");
        recorder.complete(op, Outcome::Ok, "200", "");
        let late = recorder.windows()[0].classes[0].latency.max_us();
        assert!(late >= 20_000, "{late} µs");
    }

    #[test]
    fn history_on_disk_holds_every_entry_and_finish_may_be_called_again() {
        let (_folder, recorder) = recorder();
        let open = recorder.invoke(ClassId(0), 3, 10, "key", "value");
        let done = recorder.invoke(ClassId(1), 4, 11, "other", "");
        recorder.complete(done, Outcome::Ok, "200", "answer");
        recorder.sample("runtime.fds", 12.0);
        recorder.health("health", "healthy");
        let fault = FaultRecord {
            id: "f#1".into(),
            kind: "refuse".into(),
            target: "redis".into(),
            phase: FaultPhase::Injected,
            evidence: Evidence::default(),
        };
        recorder.fault(fault.clone());
        assert_eq!(recorder.live().active_faults, ["f#1"]);
        recorder.fault(FaultRecord { phase: FaultPhase::Healed, ..fault });
        assert!(recorder.live().active_faults.is_empty());
        let path = recorder.finish().expect("finish");
        assert_eq!(recorder.finish().expect("again"), path);
        let history = chaos::history::read(&path).expect("read");
        assert_eq!(history.operations.len(), 2);
        let left = history.operations.iter().find(|o| o.op == open).expect("open operation");
        assert_eq!((left.completed_ns, left.outcome), (None, Outcome::Unknown));
        assert_eq!(history.faults.len(), 2);
        assert_eq!(history.samples["runtime.fds"].len(), 1);
        assert_eq!(recorder.own_health(), Health { entries: 7, waited: 0 });
    }
}
