//! Turns a command into a job, runs it, writes its report and gives its exit code.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{chaos, load};
use crate::environment::{BackendChoice, ExternalUrls, Settings, merge_configuration, workspace};
use crate::load::clients;
use crate::load::profile::{self, Kind as ProfileKind, Mix, Profile, Slo};
use crate::load::{CLASSES, Plan, target, webhook};
use crate::report::{self, terminal};
use crate::run::Run;
use crate::scenario::runner::{self, Job};
use crate::scenario::{Asked, INVARIANTS, Inject, SUBSCRIBED, Scenario, assemble, file, overlay, timeline};
use crate::verdict::{Criterion, EXIT_BAD_FILE, Kind, Outcome, Verdict};

/// A surge is more than any number of clients can send at once: what cannot start by then is dropped.
const SURGE_START_WITHIN: Duration = Duration::from_millis(100);
/// Folder for runs, below the current one.
const RUNS: &str = "runs";

/// `harness baseline|stress|spike|soak|capacity`.
pub async fn load(name: &str, args: &load::Args, cancel: CancellationToken) -> anyhow::Result<u8> {
    let plan = match args.plan(name) {
        Ok(plan) => plan,
        Err(error @ profile::Error::Invalid(_)) => return Ok(bad_file(&error.to_string())),
        Err(error) => return Ok(bad_file(&format!("{:#}", anyhow::Error::from(error)))),
    };
    let started = now();
    let seed = args.seed.unwrap_or_else(|| drawn(started));
    let run = open_run(name, seed, args.out.as_deref(), started, cancel)?;
    if let Some(url) = &args.target {
        return against_target(&run, &plan, url.as_str()).await;
    }
    let (scenarios, timeline, left_out) = match faults(&plan) {
        Ok(faults) => faults,
        Err(error) => return Ok(bad_file(&format!("{error:#}"))),
    };
    let mut server_config = plan.profile.server.clone();
    merge_configuration(&mut server_config, plan.profile.clients.configuration(seed));
    if plan.profile.mix.payment_webhook > 0 {
        merge_configuration(&mut server_config, webhook::configuration());
    }
    for scenario in &scenarios {
        overlay::overlay(&mut server_config, scenario)?;
    }
    if let Some(schema) = &args.schema {
        let schema = schema.canonicalize().with_context(|| format!("the schema {}", schema.display()))?;
        let graphql = server_config.entry("graphql").or_insert_with(|| toml::Table::new().into());
        let graphql = graphql.as_table_mut().context("[graphql] is no table")?;
        graphql.insert("schema".into(), schema.display().to_string().into());
    }
    let subscribed = scenarios.iter().any(|scenario| scenario.load.subscribers > 0);
    let weights = plan.profile.mix.weights();
    let issues =
        |class: &str| CLASSES.iter().zip(weights).any(|(known, weight)| *known == class && weight > 0);
    let invariants = INVARIANTS
        .iter()
        .filter(|(name, _)| subscribed || *name != SUBSCRIBED)
        .filter(|(_, class)| issues(class))
        .map(|(name, _)| ((*name).to_owned(), Asked::default()))
        .collect();
    let mut job = Job {
        title: title(name, &plan),
        why: plan.profile.title.clone(),
        command: command_line(),
        plan,
        scenarios,
        timeline,
        invariants,
        backend: backend(&args.backend)?,
        settings: settings(args.toxiproxy.as_deref())?,
        server_binary: args.server.clone(),
        migrator: args.migrator.clone(),
        server_config,
        behind: None,
        tamper: None,
    };
    if job.needs_operator() {
        clients::add_operators(&mut job.server_config, seed);
    }
    let report = conduct(&run, &mut job, left_out, started).await?;
    Ok(report.exit_code())
}

/// `harness chaos run`: one after the other; the code is that of the worst verdict.
pub async fn scenarios(
    args: &chaos::RunArgs,
    scenarios: Vec<Scenario>,
    cancel: CancellationToken,
) -> anyhow::Result<u8> {
    let mut verdicts = Vec::new();
    for scenario in scenarios {
        if cancel.is_cancelled() {
            verdicts.push((scenario.id, Verdict::NotRun));
            continue;
        }
        let id = scenario.id.clone();
        let started = now();
        let seed = args.seed.unwrap_or(scenario.seed);
        let run = open_run(&id, seed, None, started, cancel.clone())?;
        let mut job = match job_of(scenario, seed, args) {
            Ok(job) => job,
            Err(error) => return Ok(bad_file(&format!("{error:#}"))),
        };
        verdicts.push((id, conduct(&run, &mut job, vec![], started).await?));
    }
    if verdicts.len() > 1 {
        println!();
        for (id, verdict) in &verdicts {
            println!("{id:<28} {}", verdict.sentence());
        }
    }
    Ok(worst(verdicts.iter().map(|(_, verdict)| *verdict)))
}

/// The exit code of several verdicts: a violated invariant weighs most, then residue, a missed objective, what is
/// inconclusive.
fn worst(verdicts: impl Iterator<Item = Verdict>) -> u8 {
    let weight = |verdict: &Verdict| match verdict {
        Verdict::InvariantViolated => 5,
        Verdict::Residue => 4,
        Verdict::SloMissed => 3,
        Verdict::Inconclusive => 2,
        Verdict::NotRun => 1,
        Verdict::Valid => 0,
    };
    verdicts.max_by_key(weight).map_or(Verdict::NotRun.exit_code(), Verdict::exit_code)
}

async fn conduct(
    run: &Run,
    job: &mut Job,
    extra: Vec<Criterion>,
    started: DateTime<Utc>,
) -> anyhow::Result<Verdict> {
    eprintln!("{} (seed {}, run {})", job.title, run.seed(), run.folder().display());
    let mut evidence = Box::pin(runner::execute(run, job)).await;
    evidence.criteria.extend(extra);
    let report = assemble::report(run, job, &evidence, started.to_rfc3339());
    let written = report::write_all(&report, run.folder())?;
    print!("{}", terminal::render(&report, std::io::stdout().is_terminal()));
    println!("report   {}", written.html.display());
    Ok(report.verdict)
}

async fn against_target(run: &Run, plan: &Plan, url: &str) -> anyhow::Result<u8> {
    let result = target::run(run, plan, url).await?;
    for line in target::lines(&result) {
        println!("{line}");
    }
    Ok(result.verdict.exit_code())
}

type Faults = (Vec<Scenario>, timeline::Plan, Vec<Criterion>);

/// The scenarios that a profile's slots name, placed; what does not fit into a shortened run is said.
fn faults(plan: &Plan) -> anyhow::Result<Faults> {
    let lasts = plan.schedule.duration();
    let mut placed: Vec<(Scenario, Duration)> = Vec::new();
    let mut left_out = Vec::new();
    for slot in &plan.profile.chaos {
        let scenario = file::load(&scenario_file(&slot.scenario)?)?;
        if scenario.faults.iter().any(|fault| matches!(fault.inject, Inject::Surge { .. })) {
            bail!("scenario `{}` makes the load surge: it cannot act in another load", scenario.id);
        }
        if scenario.behind.is_some() {
            bail!("scenario `{}` changes the schema: it cannot act in another load", scenario.id);
        }
        let placement =
            timeline::Placement { scenario: &scenario, first_fault: Some(slot.start), repeat: None };
        match timeline::plan(&[placement], lasts) {
            Ok(_) => placed.push((scenario, slot.start)),
            Err(timeline::Error::TooLate { until, .. }) => left_out.push(Criterion {
                name: format!("scenario {}", slot.scenario),
                kind: Kind::Slo,
                outcome: Outcome::NotJudged(format!("needs a run of {}", humantime::format_duration(until))),
                detail: format!("it does not fit into {}", humantime::format_duration(lasts)),
                proof: vec![],
            }),
            Err(error) => return Err(error.into()),
        }
    }
    let placements: Vec<timeline::Placement<'_>> = placed
        .iter()
        .map(|(scenario, start)| timeline::Placement {
            scenario,
            first_fault: Some(*start),
            repeat: plan.profile.chaos_repeat,
        })
        .collect();
    let timeline = timeline::plan(&placements, lasts)?;
    Ok((placed.into_iter().map(|(scenario, _)| scenario).collect(), timeline, left_out))
}

fn scenario_file(name: &str) -> anyhow::Result<PathBuf> {
    let below = Path::new(chaos::FOLDER).join(format!("{name}.toml"));
    let roots = std::iter::once(PathBuf::new()).chain(workspace());
    let mut candidates = roots.map(|root| root.join(&below));
    candidates
        .find(|path| path.is_file())
        .with_context(|| format!("the profile names scenario `{name}`, and there is no {}", below.display()))
}

/// A scenario file as a job of its own: its load is the profile.
pub fn job_of(scenario: Scenario, seed: u64, args: &chaos::RunArgs) -> anyhow::Result<Job> {
    let placement = timeline::Placement { scenario: &scenario, first_fault: None, repeat: None };
    let mut timeline = timeline::plan(&[placement], scenario.load.lasts)?;
    for act in &mut timeline.acts {
        act.id = act.fault.id.clone();
    }
    let mut server_config = scenario.load.callers.configuration(seed);
    if scenario.needs_operator() {
        clients::add_operators(&mut server_config, seed);
    }
    if scenario.load.mix.get(CLASSES[5]).is_some_and(|weight| *weight > 0) {
        merge_configuration(&mut server_config, webhook::configuration());
    }
    overlay::overlay(&mut server_config, &scenario)?;
    let wanted =
        if args.backend == "auto" && scenario.backend != "any" { &scenario.backend } else { &args.backend };
    Ok(Job {
        title: scenario.title.clone(),
        why: scenario.why.clone(),
        command: command_line(),
        plan: plan_of(&scenario),
        invariants: scenario.invariants.clone(),
        backend: backend(wanted)?,
        settings: settings(args.toxiproxy.as_deref())?,
        server_binary: args.server.clone(),
        migrator: None,
        server_config,
        behind: scenario.behind.clone(),
        timeline,
        scenarios: vec![scenario],
        tamper: None,
    })
}

/// A scenario's load as a plan. Its objectives are the bounds that no run may exceed: what it promises beyond them is in
/// its steady state and its expectations.
fn plan_of(scenario: &Scenario) -> Plan {
    let weight = |class: &str| scenario.load.mix.get(class).copied().unwrap_or(0);
    let mix = Mix {
        products: weight(CLASSES[0]),
        order: weight(CLASSES[1]),
        create_order: weight(CLASSES[2]),
        update_order_status: weight(CLASSES[3]),
        request_invoice: weight(CLASSES[4]),
        payment_webhook: weight(CLASSES[5]),
        ..Mix::default()
    };
    let hard = profile::Hard::default();
    let surges = scenario.faults.iter().any(|fault| matches!(fault.inject, Inject::Surge { .. }));
    let profile = Profile {
        name: scenario.id.clone(),
        title: scenario.title.clone(),
        kind: ProfileKind::Sustained,
        users: scenario.load.users,
        start_within: surges.then_some(SURGE_START_WITHIN),
        timeout: Duration::from_secs(5),
        chaos_repeat: None,
        mix,
        slo: Slo {
            p95: hard.p95,
            p99: hard.p99,
            error_rate: 0.01,
            may_be_refused: scenario.load.may_be_refused,
            ..Slo::default()
        },
        hard,
        overload: profile::Overload::default(),
        leak: profile::Leak::default(),
        stage: timeline::stages(scenario),
        clients: scenario.load.callers,
        server: toml::Table::new(),
        request: vec![],
        chaos: vec![],
    };
    Plan::new(profile, profile::Overrides::default())
}

fn backend(word: &str) -> anyhow::Result<BackendChoice> {
    Ok(match word {
        "auto" | "any" => BackendChoice::Auto,
        "container" => BackendChoice::Container,
        "process" => BackendChoice::Process,
        "external" => BackendChoice::External(external_urls()?),
        other => bail!("no backend is called `{other}`; known are auto, container, process, external"),
    })
}

/// The user's own servers, by the variables that the server itself reads.
fn external_urls() -> anyhow::Result<ExternalUrls> {
    let read = |name: &str| {
        let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
        value.with_context(|| {
            format!("backend external needs {name} in the environment: the URL of your server")
        })
    };
    Ok(ExternalUrls { postgres: read("DATABASE_URL")?, redis: read("REDIS_URL")?, nats: read("NATS_URL")? })
}

/// `harness.toml` of the current folder or the workspace; built-in settings without one. `toxiproxy` stands above what
/// they say.
fn settings(toxiproxy: Option<&str>) -> anyhow::Result<Settings> {
    let roots = std::iter::once(PathBuf::new()).chain(workspace());
    let file = roots.map(|root| root.join("harness.toml")).find(|path| path.is_file());
    Ok(file.map(|path| Settings::load(&path)).transpose()?.unwrap_or_default().through(toxiproxy))
}

fn title(name: &str, plan: &Plan) -> String {
    let length = Duration::from_secs(plan.schedule.duration().as_secs());
    format!(
        "{name}: {:.0} requests a second, {}",
        plan.profile.peak_rate(),
        humantime::format_duration(length)
    )
}

fn open_run(
    name: &str,
    seed: u64,
    folder: Option<&Path>,
    started: DateTime<Utc>,
    cancel: CancellationToken,
) -> anyhow::Result<Run> {
    // Milliseconds: two runs of one second get two folders.
    let id = format!("{}-{name}", started.format("%Y%m%dT%H%M%S%3fZ"));
    let folder = folder.map_or_else(|| Path::new(RUNS).join(&id), Path::to_path_buf);
    Run::create(id, seed, folder, cancel)
}

fn command_line() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let name =
        Path::new(&program).file_name().map_or("harness".into(), |name| name.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

fn bad_file(message: &str) -> u8 {
    eprintln!("{message}");
    EXIT_BAD_FILE
}

fn drawn(started: DateTime<Utc>) -> u64 {
    // Small enough to be typed again.
    chaos_seed(started) % 1_000_000
}

fn chaos_seed(started: DateTime<Utc>) -> u64 {
    ::chaos::seed::derive(u64::try_from(started.timestamp_micros()).unwrap_or_default(), &["run"])
}

#[expect(
    clippy::disallowed_methods,
    reason = "a run is named by the wall-clock time of its start, read once"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}
