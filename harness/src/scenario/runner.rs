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
use chaos::history::{ClassId, History};
use futures::future::Future;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::injector::{self, Done};
use super::readback::{self, FinalState, Sources};
use super::steady_state::{self, Facts, Phases, Probe, Span};
use super::{Scenario, judge, timeline};
use crate::environment::{
    BackendChoice, Environment, Error as UpError, Leftover, Request, ServerRequest, ServiceName, Settings,
};
use crate::load::{self, LoadOutcome, Plan, gates, leaks};
use crate::observe::recorder::Second;
use crate::observe::{Recorder, live, sampler};
use crate::run::Run;
use crate::verdict::{Criterion, Kind, Outcome};

/// How often the paths of a scenario's checks are asked.
const PROBE_EVERY: Duration = Duration::from_millis(500);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// After the drain the end state has to show in at least this much of samples and probes.
const SETTLE: Duration = Duration::from_millis(2_500);
const SECOND_NS: u64 = 1_000_000_000;

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
    /// Names of [`super::INVARIANTS`].
    pub invariants: BTreeSet<String>,
    pub backend: BackendChoice,
    pub settings: Settings,
    pub server_binary: Option<PathBuf>,
    /// Merged over the server's configuration, table by table.
    pub server_config: toml::Table,
    pub tamper: Option<Tamper>,
}

/// Everything that is known when nothing runs any more; [`super::assemble`] makes the report of it.
pub struct Evidence {
    pub environment: Option<EnvironmentFacts>,
    pub load: Option<LoadOutcome>,
    pub windows: Vec<Second>,
    pub samples: BTreeMap<String, Vec<(u64, f64)>>,
    pub health: Vec<(u64, String, String)>,
    pub done: Vec<Done>,
    pub recovered: BTreeMap<String, Option<u64>>,
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
            criteria: vec![],
            findings: vec![],
            history: None,
        }
    }
}

/// Runs the job to its end. Errors become criteria: there is always something to report.
pub async fn execute(run: &Run, job: &mut Job) -> Evidence {
    let mut evidence = Evidence::nothing();
    tracing::info!("environment comes up");
    let request = Request {
        backend: job.backend.clone(),
        settings: job.settings.clone(),
        server: Some(ServerRequest { config: job.server_config.clone(), binary: job.server_binary.clone() }),
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
        sampler::spawn(recorder.clone(), move || control.pid(), &base_url, watch.clone())?;
        live::spawn(recorder.clone(), watch.clone());
        let prober = tokio::spawn(probe(self.paths(), base_url.clone(), self.run.clone(), watch.clone()));

        self.job.plan.ours.extend(self.environment.process_roots().await);
        let (outcome, done) = self.strike(&recorder, &base_url).await?;
        let load_span = Span { from_ns: outcome.started_ns, to_ns: outcome.ended_ns };
        evidence.load = Some(outcome);
        evidence.done = done;

        let settled = self.settle(&base_url).await;
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
        self.conclude(
            evidence,
            &history,
            &probes,
            state.as_ref(),
            Phases { load: load_span, faults: vec![], end },
        );
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

    fn paths(&self) -> Vec<String> {
        let paths: BTreeSet<String> = self.job.scenarios.iter().flat_map(steady_state::paths).collect();
        paths.into_iter().collect()
    }

    /// Every criterion that facts decide, in the order a reader asks: could it be judged, was anything lost, was it
    /// good enough.
    fn conclude(
        &self,
        evidence: &mut Evidence,
        history: &History,
        probes: &[Probe],
        state: Option<&FinalState>,
        mut phases: Phases,
    ) {
        let acts = &self.job.timeline.acts;
        phases.faults = evidence
            .done
            .iter()
            .filter_map(|done| {
                let span =
                    Span { from_ns: done.injected_ns?, to_ns: done.healed_ns.unwrap_or(phases.load.to_ns) };
                Some((acts[done.act].id.clone(), span))
            })
            .collect();
        let samples = named_plainly(&evidence.samples);
        let facts = Facts {
            operations: &history.operations,
            classes: &history.header.classes,
            dropped: dropped(&evidence.windows),
            probes,
            samples: &samples,
        };
        let mut criteria = Vec::new();
        for done in &evidence.done {
            criteria.extend(self.fault_lines(done));
        }
        if let Some(scenario) = self.job.scenarios.first() {
            criteria.extend(steady_state::judge_steady(scenario, &phases, &facts));
        }
        if let Some(state) = state {
            criteria.push(judge::drained(state));
            let findings =
                judge::invariants(&self.job.invariants, &history.operations, &history.header.classes, state);
            criteria
                .extend(findings.iter().map(|f| judge::criterion(f, Kind::Invariant, &history.operations)));
            evidence.findings.extend(findings);
        }
        criteria.extend(self.expectations(&phases, &facts));
        self.recoveries(&phases, &facts, evidence, &mut criteria);
        if let Some(outcome) = &evidence.load {
            let excluded = self.job.timeline.excluded(outcome.started_ns);
            let profile = &self.job.plan.profile;
            criteria.extend(gates::judge(profile, &evidence.windows, outcome, &excluded));
            let lasts = self.job.plan.schedule.duration();
            criteria.extend(leaks::judge(profile, lasts, &evidence.samples, &evidence.windows, &excluded));
        }
        evidence.criteria.extend(criteria);
    }

    fn fault_lines(&self, done: &Done) -> Vec<Criterion> {
        let act = &self.job.timeline.acts[done.act];
        let mut lines = Vec::new();
        if let Some(trouble) = &done.trouble {
            let outcome = Outcome::Inconclusive("the fault did not act out as planned".into());
            lines.push(line(&format!("fault {}", act.id), Kind::Validity, outcome, trouble.clone()));
        }
        if done.injected_ns.is_some() {
            lines.push(judge::evidence(&act.id, &act.fault.evidence, &done.evidence));
        }
        lines
    }

    /// Each placed scenario's expectations, once for each of its rounds: `during:ID` means that round's fault.
    fn expectations(&self, phases: &Phases, facts: &Facts<'_>) -> Vec<Criterion> {
        let mut criteria = Vec::new();
        for scenario in &self.job.scenarios {
            let own =
                |id: &str| self.job.timeline.acts.iter().any(|a| a.id == id && a.scenario == scenario.id);
            let rounds: BTreeSet<&str> =
                phases.faults.iter().filter(|(id, _)| own(id)).map(|(id, _)| round(id)).collect();
            for number in rounds {
                let mut faults = phases.faults.clone();
                // The first match wins: this round's faults stand before all others.
                faults.sort_by_key(|(id, _)| !(own(id) && round(id) == number));
                let phases = Phases { faults, ..phases.clone() };
                let several = self.job.scenarios.len() > 1 || number != "1";
                for mut criterion in steady_state::judge(&scenario.expectations, &phases, facts) {
                    if several {
                        criterion.name = format!("{}#{number} {}", scenario.id, criterion.name);
                    }
                    criteria.push(criterion);
                }
            }
        }
        criteria
    }

    fn recoveries(
        &self,
        phases: &Phases,
        facts: &Facts<'_>,
        evidence: &mut Evidence,
        criteria: &mut Vec<Criterion>,
    ) {
        for done in &evidence.done {
            let act = &self.job.timeline.acts[done.act];
            let Some(healed_ns) = done.healed_ns else { continue };
            let Some(scenario) = self.job.scenarios.iter().find(|s| s.id == act.scenario) else { continue };
            let seconds = steady_state::seconds(&scenario.steady_state.checks, phases.load, facts);
            let (budget, stable) = (nanos(act.budget), nanos(act.stable));
            let finding = judge::recovered(&act.id, healed_ns, budget, stable, &seconds);
            criteria.push(judge::criterion(&finding, Kind::Slo, facts.operations));
            evidence.recovered.insert(act.id.clone(), judge::recovered_at(healed_ns, stable, &seconds));
            evidence.findings.push(finding);
        }
    }
}

/// `2` of `redis-refused#2`; `1` where the id has no round.
fn round(id: &str) -> &str {
    id.rsplit_once('#').map_or("1", |(_, number)| number)
}

async fn probe(paths: Vec<String>, base_url: String, run: Run, stop: CancellationToken) -> Vec<Probe> {
    let client = reqwest::Client::new();
    let mut probes = Vec::new();
    let mut tick = tokio::time::interval(PROBE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return probes,
            _ = tick.tick() => {}
        }
        let asked = paths
            .iter()
            .map(|path| steady_state::probe(&client, &base_url, path, PROBE_TIMEOUT, run.now_ns()));
        tokio::select! {
            () = stop.cancelled() => return probes,
            answers = futures::future::join_all(asked) => probes.extend(answers),
        }
    }
}

async fn facts_of(environment: &Environment) -> EnvironmentFacts {
    let server = environment.server();
    let health =
        steady_state::probe(&reqwest::Client::new(), &server.base_url(), "/health", PROBE_TIMEOUT, 0).await;
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

fn dropped(windows: &[Second]) -> Vec<(u64, u16, u64)> {
    let mut all = Vec::new();
    for second in windows {
        for (index, class) in second.classes.iter().enumerate().filter(|(_, class)| class.dropped > 0) {
            let class_id = ClassId(u16::try_from(index).unwrap_or(u16::MAX));
            all.push((second.second * SECOND_NS, class_id.0, class.dropped));
        }
    }
    all
}

/// Series of the server are known to scenarios by their metric's name: `runtime.outbox_pending` is also
/// `outbox_pending`.
fn named_plainly(samples: &BTreeMap<String, Vec<(u64, f64)>>) -> BTreeMap<String, Vec<(u64, f64)>> {
    let plain = |name: &String| name.strip_prefix("runtime.").unwrap_or(name).to_owned();
    samples
        .iter()
        .flat_map(|(name, points)| [(name.clone(), points.clone()), (plain(name), points.clone())])
        .collect()
}

fn line(name: &str, kind: Kind, outcome: Outcome, detail: String) -> Criterion {
    Criterion { name: name.into(), kind, outcome, detail, proof: vec![] }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
