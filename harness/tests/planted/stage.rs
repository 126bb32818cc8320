//! What every plant needs: a short job made of a scenario's text, one run at a time, the server wrapped in a script that
//! misbehaves, and a look at the machine for what is left of a run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use harness::cli::{chaos::RunArgs, conduct};
use harness::environment::{Error, server_program};
use harness::load::Plan;
use harness::load::profile::{Hard, Overrides, Slo};
use harness::observe::scrape;
use harness::report::RunReport;
use harness::run::Run;
use harness::scenario::runner::{self, Job};
use harness::scenario::{Scenario, assemble, file, timeline};
use harness::verdict::{Criterion, Outcome};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::trials::NotRun;

/// So bad that no machine misses it: only what is planted may speak.
const ANY_LATENCY: Duration = Duration::from_secs(30);

/// Runs share the machine's ports and the load generator, so they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

pub async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

pub fn run_in(folder: &Path, cancel: &CancellationToken) -> Run {
    let id = format!("planted-{}", uuid::Uuid::new_v4().simple());
    Run::create(id.clone(), 7, folder.join(id), cancel.clone()).expect("run folder")
}

/// A load of `lasts` at 60 arrivals a second with one fault on Redis, which `fault` describes in the format's own words.
pub fn scenario(lasts: &str, fault: &str) -> Scenario {
    let text = format!(
        r#"
        schema = "scenario/v1"
        id = "planted"
        title = "A planted violation"
        why = "The verdict has to name it"
        seed = 7
        budget = "5m"
        [topology]
        runtime = {{ config = {{ "health.interval" = "1s", "server.shutdown_grace" = "2s" }} }}
        [load]
        arrival = "60/s"
        clients = 16
        lasts = "{lasts}"
        mix = {{ products = 1, createOrder = 3, updateOrderStatus = 1, requestInvoice = 2 }}
        [steady_state]
        window = "1s"
        checks = []
        [[fault]]
        id = "planted"
        on = "redis"
        {fault}
        [invariants]
        no-acked-write-lost = {{}}
        no-write-out-of-nothing = {{}}
        one-order-per-key = {{}}
        no-acked-status-lost = {{}}
        invoice-exactly-once = {{}}
        event-at-least-once = {{}}
        api-equals-database = {{}}
        [recover]
        within = "1s"
        stable = "1s"
        "#
    );
    match file::parse(&text, "planted") {
        Ok(scenario) => scenario,
        Err(diagnostics) => panic!("{diagnostics:?}"),
    }
}

/// The job that `harness chaos run --backend process` makes of the scenario, with objectives that cannot be missed.
pub fn job(scenario: Scenario, server: Option<&Path>) -> Job {
    let args = RunArgs {
        files: vec![],
        seed: None,
        backend: "process".into(),
        server: server.map(Path::to_path_buf),
        toxiproxy: None,
    };
    let seed = scenario.seed;
    let mut job = conduct::job_of(scenario, seed, &args).expect("a job");
    let mut profile = job.plan.profile;
    profile.slo =
        Slo { p95: ANY_LATENCY, p99: ANY_LATENCY, error_rate: 0.9, achieved_rate: 0.1, ..Slo::default() };
    profile.hard = Hard { p50: ANY_LATENCY, p95: ANY_LATENCY, p99: ANY_LATENCY };
    job.plan = Plan::new(profile, Overrides::default());
    // The port of Toxiproxy's API is one for the machine.
    job.settings.proxy.api = String::new();
    job
}

/// The same without any fault: what is planted is elsewhere.
pub fn calm(lasts: &str, server: Option<&Path>) -> Job {
    let fault = "inject.refuse = {}\nstart = { at = \"1s\" }\nstop = { lasts = \"1s\" }\nevidence = { min_refused = 1 }";
    let mut job = job(scenario(lasts, fault), server);
    job.scenarios.clear();
    job.timeline = timeline::Plan::default();
    job
}

/// Runs the job; not run when this machine has no servers and cannot fetch them.
pub async fn report(run: &Run, job: &mut Job) -> Result<RunReport, NotRun> {
    let evidence = Box::pin(runner::execute(run, job)).await;
    let report = assemble::report(run, job, &evidence, "2026-01-01T00:00:00Z".into());
    let impossible = report.criteria.iter().find_map(|c| match &c.outcome {
        Outcome::NotRun(why) if c.name == "environment" && why.starts_with("not possible here") => Some(why),
        _ => None,
    });
    if let Some(why) = impossible {
        return Err(NotRun::because(why));
    }
    for c in &report.criteria {
        eprintln!("{:<24} {:?}: {}", c.name, c.outcome, c.detail);
    }
    eprintln!("verdict {:?}, exit code {}", report.verdict, report.verdict.exit_code());
    Ok(report)
}

pub fn criterion<'a>(report: &'a RunReport, name: &str) -> &'a Criterion {
    let found = report.criteria.iter().find(|c| c.name == name);
    found.unwrap_or_else(|| panic!("the verdict has no line `{name}`: {:#?}", report.criteria))
}

/// A program that stands in the server's place: `script` is bash, `$SERVER` the real one. Everything but serving goes
/// to the real one directly. Not run when there is no server here and none can be built.
pub async fn wrapped(folder: &Path, script: &str) -> Result<PathBuf, NotRun> {
    let server = match server_program(None).await {
        Ok(server) => server,
        Err(Error::NotPossible { reason, .. }) => return Err(NotRun::because(reason)),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    };
    let path = folder.join("fraiseql-server");
    let text = format!(
        "#!/usr/bin/env bash\nSERVER='{}'\n[[ $1 == --config ]] || exec \"$SERVER\" \"$@\"\n{script}\n",
        server.display()
    );
    std::fs::write(&path, text).expect("write the wrapper");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    Ok(path)
}

/// Command lines of living processes that name the run's folder, the harness's own excepted.
fn processes_of(run: &Run) -> Vec<String> {
    let folder = run.folder().display().to_string();
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        // A process may end between the listing and the look; a zombie has no command line.
        .filter_map(|pid| Some((pid, std::fs::read(format!("/proc/{pid}/cmdline")).ok()?)))
        .map(|(pid, line)| format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " ")))
        .filter(|line| line.contains(&folder))
        .collect()
}

pub fn assert_nothing_is_left(run: &Run) {
    assert_eq!(processes_of(run), Vec::<String>::new());
    let open = chaos::ledger::read(run.ledger().path()).expect("ledger").open;
    assert_eq!(open, vec![], "the ledger has open entries");
    assert!(!run.folder().join("services").exists(), "the data is still there");
}

/// True while a process of the run's server is there; proves that [`assert_nothing_is_left`] can see one.
pub fn server_is_seen(run: &Run) -> bool {
    processes_of(run).iter().any(|line| line.contains("fraiseql.toml"))
}

/// The metrics page of the server that the run has brought up; `None` as long as it does not answer.
pub async fn metrics(run: &Run) -> Option<scrape::Metrics> {
    let config = std::fs::read_to_string(run.folder().join("server/fraiseql.toml")).ok()?;
    let config: toml::Table = toml::from_str(&config).ok()?;
    let address = config.get("server")?.get("bind_address")?.as_str()?.to_owned();
    scrape::fetch(&reqwest::Client::new(), &format!("http://{address}/metrics")).await.ok()
}

/// What the server says of itself; `None` when it does not answer.
pub async fn health(http: &reqwest::Client, base_url: &str) -> Option<String> {
    let page: serde_json::Value =
        http.get(format!("{base_url}/health")).send().await.ok()?.json().await.ok()?;
    page["status"].as_str().map(str::to_owned)
}

/// Drives both; what `watched` had not come to when the first was over is `None`.
pub async fn beside<A, B>(
    first: impl Future<Output = A>,
    watched: impl Future<Output = B>,
) -> (A, Option<B>) {
    match select(Box::pin(watched), Box::pin(first)).await {
        Either::Left((seen, first)) => (first.await, Some(seen)),
        Either::Right((done, _)) => (done, None),
    }
}

pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut check: F) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !check().await {
        assert!(Instant::now() < deadline, "{what} did not happen within two minutes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
