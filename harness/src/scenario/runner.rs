//! A whole run, end to end: environment, load, faults, drain, read-back, checkers, verdict, report.
//!
//! Whatever happens there is a report: what could not run is in it as not run, and everything that was started is ended
//! before it is written. The order is fixed: faults are healed, queues drained and the final state read before anything
//! is judged, and nothing is judged while it still moves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use chaos::checker::Finding;
use chaos::history::History;
use futures::future::Future;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::check::Subject;
use super::conclude::{Seen, conclude};
use super::injector::{self, Done};
use super::possible;
use super::probe::{self, Probe};
use super::readback::{self, FinalState, Sources};
use super::stubs;
use super::subscribers::Subscribers;
use super::window::{Phases, Span};
use super::{Inject, Invariants, Scenario, judge, timeline};
use crate::environment::behind::Behind;
use crate::environment::{
    BackendChoice, Environment, Error as UpError, Leftover, Request, ServerRequest, ServiceName, Settings,
    Toxiproxy,
};
use crate::load::clients::operator_keys;
use crate::load::{self, LoadOutcome, Plan};
use crate::observe::recorder::Second;
use crate::observe::{Recorder, live, sampler};
use crate::run::Run;
use crate::verdict::{Criterion, Kind, Outcome};

/// How often the paths of a scenario's checks are asked.
const PROBE_EVERY: Duration = Duration::from_millis(500);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// After the drain the end state has to show in at least this much of samples and probes.
const SETTLE: Duration = Duration::from_millis(2_500);

/// A change to the stores between load and read-back: tests plant a loss here and see whether the verdict names it.
pub type Tamper = Box<dyn FnOnce(Sources) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> + Send>;

/// What to run.
pub struct Job {
    pub title: String,
    pub why: String,
    /// The command as it was typed, for the report.
    pub command: String,
    pub plan: Plan,
    /// Scenarios whose faults are in the timeline.
    pub scenarios: Vec<Scenario>,
    pub timeline: timeline::Plan,
    /// By the names of [`super::INVARIANTS`].
    pub invariants: Invariants,
    pub backend: BackendChoice,
    pub settings: Settings,
    pub server_binary: Option<PathBuf>,
    /// Program that migrates the database, where that is another release.
    pub migrator: Option<PathBuf>,
    /// Merged over the server's configuration, table by table.
    pub server_config: toml::Table,
    /// A field that gets a second function behind a flag.
    pub behind: Option<Behind>,
    pub tamper: Option<Tamper>,
}

impl Job {
    /// Whether the server has to know an operator: where a scenario or the profile sets limits, callers may be unable to read
    /// back what they wrote.
    pub fn needs_operator(&self) -> bool {
        let limited = self.plan.profile.server.contains_key("limits");
        limited || self.scenarios.iter().any(Scenario::needs_operator)
    }
}

impl Job {
    /// Links whose messages a fault of the timeline strikes at.
    fn read_along(&self) -> BTreeSet<ServiceName> {
        let on_messages = self.timeline.acts.iter().filter_map(|act| match &act.fault.inject {
            Inject::Wire(fault) => Some(ServiceName::of(fault.protocol())),
            _ => None,
        });
        on_messages.collect()
    }

    /// Series that the scenarios look at.
    fn series(&self) -> BTreeSet<String> {
        let checks = |scenario: &Scenario| {
            let expected = scenario.expectations.iter().flat_map(|expectation| expectation.checks.clone());
            expected.chain(scenario.steady_state.checks.clone()).collect::<Vec<_>>()
        };
        let checks = self.scenarios.iter().flat_map(checks);
        let checked = checks.filter_map(|check| match check.subject {
            Subject::Series { series, .. } => Some(series),
            Subject::Metric { .. } | Subject::Http { .. } => None,
        });
        let drained = self.scenarios.iter().flat_map(|scenario| scenario.recover.drain.series.clone());
        checked.chain(drained).collect()
    }
}

/// Everything that is known when nothing runs any more; [`super::assemble`] makes the report of it.
pub struct Evidence {
    pub environment: Option<EnvironmentFacts>,
    pub load: Option<LoadOutcome>,
    pub windows: Vec<Second>,
    pub samples: BTreeMap<String, Vec<(u64, f64)>>,
    pub health: Vec<(u64, String, String)>,
    pub done: Vec<Done>,
    /// By fault: when requests were served as before, and when what had queued up was gone.
    pub recovered: BTreeMap<String, Option<u64>>,
    pub drained: BTreeMap<String, Option<u64>>,
    pub criteria: Vec<Criterion>,
    pub findings: Vec<Finding>,
    pub history: Option<History>,
}

/// What the report says of the environment.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentFacts {
    pub backend: String,
    pub reason: String,
    pub server: String,
    pub services: Vec<(String, String, BTreeMap<String, String>)>,
}

impl Evidence {
    fn nothing() -> Self {
        Evidence {
            environment: None,
            load: None,
            windows: vec![],
            samples: BTreeMap::new(),
            health: vec![],
            done: vec![],
            recovered: BTreeMap::new(),
            drained: BTreeMap::new(),
            criteria: vec![],
            findings: vec![],
            history: None,
        }
    }
}

/// Runs the job to its end. Errors become criteria: there is always something to report.
pub async fn execute(run: &Run, job: &mut Job) -> Evidence {
    let mut evidence = Evidence::nothing();
    let toxiproxy = match Toxiproxy::named_in(&job.settings).await {
        Ok(toxiproxy) => toxiproxy,
        Err(error) => {
            evidence.criteria.push(not_up(&error));
            return evidence;
        }
    };
    let dialect = toxiproxy.as_ref().map(Toxiproxy::dialect);
    evidence.criteria = possible::not_possible(&job.backend, dialect, &job.timeline);
    if !evidence.criteria.is_empty() {
        tracing::warn!("the backend cannot do what the run asks for: nothing is started");
        return evidence;
    }
    tracing::info!("environment comes up");
    let request = Request {
        backend: job.backend.clone(),
        settings: job.settings.clone(),
        server: Some(ServerRequest {
            config: job.server_config.clone(),
            binary: job.server_binary.clone(),
            migrator: job.migrator.clone(),
            behind: job.behind.clone(),
        }),
        read_along: job.read_along(),
        toxiproxy,
        stubs: job.scenarios.iter().flat_map(|scenario| scenario.stubs.iter().copied()).collect(),
    };
    let environment = match Environment::up(run, request).await {
        Ok(environment) => environment,
        Err(error) => {
            evidence.criteria.push(not_up(&error));
            return evidence;
        }
    };
    evidence.environment = Some(facts_of(&environment).await);
    let under_way = UnderWay { run, job, environment: &environment };
    // Boxed: it holds the state of everything that goes on at once.
    let judged = Box::pin(under_way.go(&mut evidence)).await;
    if let Err(error) = judged {
        let outcome = if run.cancel().is_cancelled() {
            Outcome::Inconclusive("interrupted".into())
        } else {
            Outcome::NotRun(format!("{error:#}"))
        };
        evidence.criteria.push(line("run", Kind::Validity, outcome, format!("{error:#}")));
    }
    tracing::info!("environment goes down");
    let left = environment.down().await;
    evidence.criteria.push(residue(run, &left));
    evidence
}

/// A run whose environment is up.
struct UnderWay<'a> {
    run: &'a Run,
    job: &'a mut Job,
    environment: &'a Environment,
}

impl UnderWay<'_> {
    async fn go(mut self, evidence: &mut Evidence) -> anyhow::Result<()> {
        let recorder = Recorder::create(self.run, &load::CLASSES)?;
        let watch = CancellationToken::new();
        let _watchers = watch.clone().drop_guard();
        let control = self.environment.control("runtime").context("the environment has no server")?;
        let base_url = self.environment.server().base_url();
        let wanted = self.job.series();
        stubs::spawn(recorder.clone(), self.environment.stubs().clone(), watch.clone());
        sampler::spawn(recorder.clone(), move || control.pid(), &base_url, wanted, watch.clone())?;
        live::spawn(recorder.clone(), watch.clone());
        let prober = tokio::spawn(ask(self.paths(), base_url.clone(), self.run.clone(), watch.clone()));

        self.job.plan.ours.extend(self.environment.process_roots().await);
        let count = self.job.scenarios.iter().map(|scenario| scenario.load.subscribers).max().unwrap_or(0);
        let subscribers = Subscribers::open(&base_url, count).await?;
        let (outcome, done) = self.strike(&recorder, &base_url).await?;
        let load_span = Span { from_ns: outcome.started_ns, to_ns: outcome.ended_ns };
        evidence.load = Some(outcome);
        evidence.done = done;

        let mut settled = Box::pin(self.settle(&base_url)).await;
        // After settling, so that the last events had time to come.
        let heard = subscribers.heard().await?;
        if let Ok((state, _)) = &mut settled {
            state.heard = heard;
        }
        let end =
            Span { from_ns: settled.as_ref().map_or(self.run.now_ns(), |s| s.1), to_ns: self.run.now_ns() };
        watch.cancel();
        let probes = prober.await.context("join the prober")?;
        evidence.windows = recorder.windows();
        evidence.samples = recorder.samples();
        evidence.health =
            recorder.health_records().into_iter().map(|(at, h)| (at, h.subject, h.state)).collect();
        let path = recorder.finish()?;
        // Millions of records: not on a thread that has sockets to serve.
        let history = tokio::task::spawn_blocking(move || chaos::history::read(&path))
            .await
            .context("join the reader")?
            .context("read the history back")?;
        let (state, undone) = match settled {
            Ok((state, _)) => (Some(state), None),
            Err(error) => (None, Some(error)),
        };
        let phases = Phases { load: load_span, faults: vec![], end };
        let seen = Seen { history: &history, probes: &probes, state: state.as_ref(), phases };
        conclude(self.job, evidence, seen);
        evidence.history = Some(history);
        match undone {
            None => Ok(()),
            Some(error) => Err(error.context("the final state could not be read: invariants are not judged")),
        }
    }

    /// Load and faults side by side; both end before this returns.
    async fn strike(
        &mut self,
        recorder: &Recorder,
        base_url: &str,
    ) -> anyhow::Result<(LoadOutcome, Vec<Done>)> {
        tracing::info!("load begins: {}", self.job.plan.profile.name);
        let faults = async {
            let Some(start_ns) = recorder.load_started().await else { return vec![] };
            let ahead = start_ns.saturating_sub(self.run.now_ns());
            let start = Instant::now() + Duration::from_nanos(ahead);
            injector::act_out(self.run, self.environment, recorder, &self.job.timeline, start).await
        };
        let load = async {
            let outcome = load::drive(self.run, &self.job.plan, base_url, recorder).await;
            // Faults that wait for a start that never came have to be let go.
            recorder.load_over();
            outcome
        };
        let (outcome, done) = tokio::join!(load, faults);
        Ok((outcome.context("drive the load")?, done))
    }

    /// Waits until nothing is in flight and reads the final state; returns it with the time of the drain.
    async fn settle(&mut self, base_url: &str) -> anyhow::Result<(FinalState, u64)> {
        if self.run.cancel().is_cancelled() {
            anyhow::bail!("interrupted");
        }
        let sources = Sources {
            postgres_url: self.environment.service(ServiceName::Postgres).direct_url().into(),
            nats_url: self.environment.service(ServiceName::Nats).direct_url().into(),
            stream: "ORDERS".into(),
            base_url: base_url.into(),
            api_keys: self.api_keys(),
            webhooks: self.job.plan.profile.mix.payment_webhook > 0,
            drain_within: Duration::from_secs(60),
            read_within: Duration::from_secs(120),
            api_orders_max: 2_000,
        };
        if let Some(tamper) = self.job.tamper.take() {
            tamper(sources.clone()).await.context("tamper with the stores")?;
        }
        tracing::info!("load is over: queues drain, then the final state is read back");
        let id = self.run.id().to_owned();
        let state = readback::read(&sources, &|key| key.contains(&id), self.run.cancel()).await?;
        let drained_ns = self.run.now_ns();
        tokio::time::sleep(SETTLE).await;
        Ok((state, drained_ns))
    }

    /// Of operators, where callers may be unable to read back what they wrote.
    fn api_keys(&self) -> Vec<String> {
        if self.job.needs_operator() { operator_keys(self.run.seed()) } else { vec![] }
    }

    fn paths(&self) -> Vec<String> {
        let paths: BTreeSet<String> = self.job.scenarios.iter().flat_map(probe::paths).collect();
        paths.into_iter().collect()
    }
}

async fn ask(paths: Vec<String>, base_url: String, run: Run, stop: CancellationToken) -> Vec<Probe> {
    let client = reqwest::Client::new();
    let mut probes = Vec::new();
    let mut tick = tokio::time::interval(PROBE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return probes,
            _ = tick.tick() => {}
        }
        let asked =
            paths.iter().map(|path| probe::probe(&client, &base_url, path, PROBE_TIMEOUT, run.now_ns()));
        tokio::select! {
            () = stop.cancelled() => return probes,
            answers = futures::future::join_all(asked) => probes.extend(answers),
        }
    }
}

async fn facts_of(environment: &Environment) -> EnvironmentFacts {
    let server = environment.server();
    let health = probe::probe(&reqwest::Client::new(), &server.base_url(), "/health", PROBE_TIMEOUT, 0).await;
    let version = health.body["version"].as_str().unwrap_or("of unknown version").to_owned();
    let services = environment.services();
    EnvironmentFacts {
        backend: environment.backend().kind.to_string(),
        reason: environment.backend().reason.clone(),
        server: format!("fraiseql-server {version}"),
        services: services.map(|s| (s.name.to_string(), s.version.clone(), s.settings.clone())).collect(),
    }
}

fn not_up(error: &UpError) -> Criterion {
    let detail = chain(error);
    let outcome = match error {
        UpError::Interrupted => Outcome::Inconclusive("interrupted".into()),
        _ => Outcome::NotRun(detail.clone()),
    };
    line("environment", Kind::Validity, outcome, detail)
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What was left behind: what the environment says, and what the ledger still holds open.
fn residue(run: &Run, left: &[Leftover]) -> Criterion {
    let mut lines: Vec<String> = left.iter().map(|l| format!("{}: {}", l.kind, l.detail)).collect();
    match chaos::ledger::read(run.ledger().path()) {
        Ok(contents) => {
            lines.extend(contents.open.iter().map(|holding| format!("in the ledger: {holding:?}")))
        }
        Err(error) => lines.push(chain(&error)),
    }
    judge::residue(&lines)
}

fn line(name: &str, kind: Kind, outcome: Outcome, detail: String) -> Criterion {
    Criterion { name: name.into(), kind, outcome, detail, proof: vec![] }
}
