//! Drives a plan against a server and says what the generator did; judging is left to the gates.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use url::Url;

use super::operations::Operations;
use super::pacing::Pacer;
use super::profile::Plan;
use super::users::{self, Shared};
use crate::observe::{Recorder, process};
use crate::run::Run;

/// Longest wait for all users to be ready.
const READY: Duration = Duration::from_secs(30);
/// Between the last user's first connection and the start of the clock: goose resets its own figures when all users are
/// launched, and none of the schedule may fall before that.
const GOOSE_RESETS_NS: u64 = 500_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// What the generator did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoadOutcome {
    pub profile: String,
    /// Arrivals that the whole schedule has, and those released by its driver.
    pub scheduled: u64,
    pub released: u64,
    /// Arrivals that were sent.
    pub started: u64,
    /// Operations that ended ok, twins and retries included, and all that ended.
    pub ok: u64,
    pub answered: u64,
    pub fail: u64,
    pub unknown: u64,
    /// Arrivals that were never sent: not started in time, or left over at the end.
    pub dropped: u64,
    /// Arrivals for which no user was free when they came due.
    pub backlogged: u64,
    /// The run was cancelled before the schedule was over.
    pub cancelled: bool,
    /// When the schedule began and ended, in nanoseconds of the run's clock; it begins on a full second.
    pub started_ns: u64,
    pub ended_ns: u64,
    pub stages: Vec<StageSpan>,
    /// How late the driver woke to release an arrival, milliseconds.
    pub wake_lag_p50_ms: f64,
    pub wake_lag_p99_ms: f64,
    pub wake_lag_max_ms: f64,
    /// Processor time of the harness (generator, proxies, recorder), in seconds, and as a share of the machine.
    pub generator_cpu_seconds: f64,
    pub generator_cpu_share: f64,
    /// The same of everything the run started and of the harness together.
    pub own_cpu_share: f64,
    /// Processor time of all other processes, as a share of the machine, 0 to 1.
    pub other_cpu_share: f64,
    /// Share of the machine that the host of this virtual machine took, 0 to 1.
    pub stolen_cpu_share: f64,
    /// History entries, and those whose caller had to wait for the disk.
    pub history_entries: u64,
    pub history_waited: u64,
    pub goose_report_json: Option<PathBuf>,
}

/// Where a stage lay on the run's clock.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StageSpan {
    pub name: String,
    pub start_ns: u64,
    pub end_ns: u64,
    /// Arrivals a second at its start and end.
    pub rate: f64,
    pub to: f64,
    pub warm_up: bool,
    pub overload: bool,
}

/// Drives `plan` against `base_url`; returns when the schedule is over and every answer is in, or soon after the run
/// was cancelled. Errors are those of setting up; a server that does not answer is a result.
pub async fn drive(
    run: &Run,
    plan: &Plan,
    base_url: &str,
    recorder: &Recorder,
) -> anyhow::Result<LoadOutcome> {
    let base_url = Url::parse(base_url).with_context(|| format!("read base URL {base_url}"))?;
    let shared = Arc::new(Shared {
        pacer: Pacer::new(plan.schedule.clone(), plan.profile.start_within),
        operations: Operations::new(run.id(), run.seed(), plan),
        recorder: recorder.clone(),
        base_url,
        timeout: plan.profile.timeout,
        cancel: run.cancel().clone(),
        start_ns: OnceLock::new(),
    });
    let folder = run.folder().join("goose");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let report = folder.join(format!("{}.json", plan.profile.name));
    let meter = Arc::new(Mutex::new(None));
    let driver = drive_pacer(run.clone(), plan.clone(), shared.clone(), meter.clone());
    let files = [report.display().to_string()];
    users::attack(&shared, plan.profile.users, &files, driver).await?;
    let usage = meter.lock().take().unwrap_or_default();
    Ok(outcome(plan, &shared, recorder, usage, report.exists().then_some(report)))
}

/// Waits for the users, starts the clock on a full second, releases arrivals and waits for the answers.
async fn drive_pacer(run: Run, plan: Plan, shared: Arc<Shared>, usage: Arc<Mutex<Option<Usage>>>) {
    let users = plan.profile.users as usize;
    // goose forgets a stop that comes before its users run, so even a cancelled run waits for the first of them.
    let first = shared.pacer.all_joined(1);
    if tokio::time::timeout(READY, first).await.is_err() {
        return;
    }
    tokio::select! {
        () = run.cancel().cancelled() => {}
        // Users that are not ready in time join later; what they miss shows as backlog.
        _ = tokio::time::timeout(READY, shared.pacer.all_joined(users)) => {}
    }
    let now_ns = run.now_ns();
    let start_ns = (now_ns + GOOSE_RESETS_NS).div_ceil(SECOND_NS) * SECOND_NS;
    let start = tokio::time::Instant::now() + Duration::from_nanos(start_ns - now_ns);
    shared.start_ns.set(start_ns).expect("the clock starts once");
    shared.recorder.load_starts(start_ns);
    let meter = Meter::start(plan.ours.clone());
    let recorder = shared.recorder.clone();
    let tick = move |rate| recorder.set_target_rate(rate);
    let left = shared.pacer.run(start, plan.profile.timeout, run.cancel(), tick).await;
    *usage.lock() = Some(Usage { cancelled: run.cancel().is_cancelled(), ..meter.stop() });
    if !run.cancel().is_cancelled() {
        for arrival in left {
            users::drop_arrival(&shared, arrival);
        }
    }
    // Every request ends by its own timeout; a retry may follow it.
    let longest = plan.profile.timeout * 2 + Duration::from_secs(1);
    if tokio::time::timeout(longest, shared.pacer.all_served()).await.is_err() {
        tracing::warn!("some requests outlived their timeout and stay without an answer");
    }
}

/// Processor time within the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Usage {
    cancelled: bool,
    generator_seconds: f64,
    generator_share: f64,
    own_share: f64,
    other_share: f64,
    stolen_share: f64,
}

/// Reads processor time at the start and the end.
struct Meter {
    roots: Vec<i32>,
    began: Instant,
    own: f64,
    tree: f64,
    machine: Option<process::MachineTime>,
}

impl Meter {
    fn start(ours: Vec<i32>) -> Self {
        let mut roots = ours;
        roots.push(std::process::id() as i32);
        let tree = process::tree_cpu_seconds(&roots);
        let machine = process::machine_time();
        Meter { roots, began: Instant::now(), own: process::own_cpu_seconds(), tree, machine }
    }

    fn stop(self) -> Usage {
        let capacity = (self.began.elapsed().as_secs_f64() * process::processors() as f64).max(0.001);
        let generator = process::own_cpu_seconds() - self.own;
        let tree = (process::tree_cpu_seconds(&self.roots) - self.tree).max(generator);
        let (busy, stolen) = process::machine_time().zip(self.machine).map_or((0.0, 0.0), |(now, then)| {
            (now.busy_seconds - then.busy_seconds, now.stolen_seconds - then.stolen_seconds)
        });
        Usage {
            cancelled: false,
            generator_seconds: generator,
            generator_share: generator / capacity,
            own_share: tree / capacity,
            other_share: ((busy - tree) / capacity).clamp(0.0, 1.0),
            stolen_share: (stolen / capacity).clamp(0.0, 1.0),
        }
    }
}

fn outcome(
    plan: &Plan,
    shared: &Shared,
    recorder: &Recorder,
    usage: Usage,
    report: Option<PathBuf>,
) -> LoadOutcome {
    let figures = shared.pacer.figures();
    let started_ns = shared.start_ns.get().copied().unwrap_or_else(|| recorder.now_ns());
    let windows = recorder.windows();
    let sum = |of: fn(&crate::observe::recorder::ClassSecond) -> u64| {
        windows.iter().flat_map(|second| &second.classes).map(of).sum::<u64>()
    };
    let (ok, fail, unknown) = (sum(|c| c.ok), sum(|c| c.fail), sum(|c| c.unknown));
    let history = recorder.own_health();
    LoadOutcome {
        profile: plan.profile.name.clone(),
        scheduled: plan.schedule.total(),
        released: figures.released,
        started: windows.iter().map(|second| second.started).sum(),
        ok,
        answered: ok + fail + unknown,
        fail,
        unknown,
        dropped: windows.iter().map(|second| second.dropped).sum(),
        backlogged: figures.backlogged,
        cancelled: usage.cancelled,
        started_ns,
        ended_ns: started_ns + nanos(plan.schedule.duration()),
        stages: stage_spans(plan, started_ns),
        wake_lag_p50_ms: figures.wake_lag_p50_ms,
        wake_lag_p99_ms: figures.wake_lag_p99_ms,
        wake_lag_max_ms: figures.wake_lag_max_ms,
        generator_cpu_seconds: usage.generator_seconds,
        generator_cpu_share: usage.generator_share,
        own_cpu_share: usage.own_share,
        other_cpu_share: usage.other_share,
        stolen_cpu_share: usage.stolen_share,
        history_entries: history.entries,
        history_waited: history.waited,
        goose_report_json: report,
    }
}

/// Where the stages of a plan lie when its schedule begins at `started_ns`.
pub fn stage_spans(plan: &Plan, started_ns: u64) -> Vec<StageSpan> {
    let mut at = started_ns;
    let mut spans = Vec::new();
    for stage in &plan.profile.stage {
        let end = at + nanos(stage.duration);
        spans.push(StageSpan {
            name: stage.name.clone(),
            start_ns: at,
            end_ns: end,
            rate: stage.rate,
            to: stage.to.unwrap_or(stage.rate),
            warm_up: stage.warm_up,
            overload: stage.overload,
        });
        at = end;
    }
    spans
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
