//! Environments for real: own Postgres, Redis and NATS come up behind their proxies, can be killed, frozen and brought
//! back, and leave nothing behind however they end.

#[macro_use]
#[path = "support/trials.rs"]
mod trials;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaos::ledger::{self, Holding};
use harness::environment::{
    BackendChoice, Control, Environment, Error, Kind, Request, ServiceName, Settings, cleanup, probe,
};
use harness::run::{Run, process_start_ticks};
use tokio_util::sync::CancellationToken;

use trials::{NotRun, Ran};

/// Set for the copy of this test binary that is killed.
const CHILD: &str = "FRAISEQL_TEST_UP_IN";

fn run_in(folder: &Path) -> Run {
    let id = format!("test-{}", uuid::Uuid::new_v4().simple());
    Run::create(id.clone(), 1, folder.join(id), CancellationToken::new()).expect("run folder")
}

fn request(backend: BackendChoice) -> Request {
    let mut settings = Settings::default();
    // The API's port is one for the machine, and tests run side by side.
    settings.proxy.api = String::new();
    Request { backend, settings, server: None, ..Request::default() }
}

/// The environment; what this machine cannot do is not run, everything else that goes wrong fails the test.
async fn up(run: &Run, backend: BackendChoice) -> Result<Environment, NotRun> {
    match Environment::up(run, request(backend)).await {
        Ok(environment) => Ok(environment),
        Err(Error::NotPossible { reason, .. }) => Err(NotRun::because(reason)),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

async fn until<F: AsyncFnMut() -> Result<(), String>>(what: &str, mut check: F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let last = match tokio::time::timeout(Duration::from_secs(2), check()).await {
            Ok(Ok(())) => return,
            Ok(Err(last)) => last,
            Err(_) => "no answer within 2 s".to_owned(),
        };
        assert!(Instant::now() < deadline, "{what}: {last}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn answers(name: ServiceName, url: &str) {
    until(&format!("{name} answers"), async || probe::ask(name, url).await.map(drop)).await;
}

/// Every process that the run's ledger ever opened.
fn processes(run_folder: &Path) -> Vec<(i32, u64)> {
    let text = std::fs::read_to_string(run_folder.join("ledger.jsonl")).expect("ledger");
    text.lines()
        .filter_map(|line| match serde_json::from_str(line).expect("ledger line") {
            ledger::Entry::Open(Holding::Process { pid, start_ticks, .. }) => Some((pid, start_ticks)),
            _ => None,
        })
        .collect()
}

/// Ended, and not yet reaped by whoever inherited it: pid 1 of a container may never do so.
fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// What was dropped is killed at once; its entry is closed by whoever reaps it, a moment later.
async fn closes(run_folder: &Path) {
    until("the ledger closes", async || {
        let open = ledger::read(&run_folder.join("ledger.jsonl")).expect("ledger").open;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
}

fn assert_gone(run_folder: &Path) {
    let processes = processes(run_folder);
    for (pid, start_ticks) in processes {
        let is_there = process_start_ticks(pid) == Some(start_ticks) && !is_zombie(pid);
        assert!(!is_there, "process {pid} is still there");
    }
    let open = ledger::read(&run_folder.join("ledger.jsonl")).expect("ledger").open;
    assert_eq!(open, vec![], "the ledger has open entries");
    assert!(!run_folder.join("services").exists(), "the data is still there");
}

async fn exercise(environment: &Environment) {
    for name in ServiceName::ALL {
        let service = environment.service(name);
        assert!(!service.version.is_empty(), "{name} has no version");
        let before = environment.proxy(name).counters().accepted;
        answers(name, service.proxied_url()).await;
        assert!(
            environment.proxy(name).counters().accepted > before,
            "{name} was not reached through its proxy"
        );
        let control: Arc<dyn Control> = environment.control(name.as_str()).expect("own service");

        assert!(control.pause().await.expect("pause") > 0, "{name}: nothing was paused");
        let silent =
            tokio::time::timeout(Duration::from_millis(500), probe::ask(name, service.direct_url())).await;
        assert!(!matches!(silent, Ok(Ok(_))), "{name} answers while it is paused");
        assert!(control.resume().await.expect("resume") > 0, "{name}: nothing was resumed");
        answers(name, service.direct_url()).await;

        assert!(control.kill().await.expect("kill") > 0, "{name}: nothing was killed");
        assert!(!control.alive().await, "{name} is alive after the kill");
        assert!(probe::ask(name, service.direct_url()).await.is_err(), "{name} answers after the kill");
        control.start().await.expect("start again");
        answers(name, service.proxied_url()).await;
    }
    let setting = |name, key: &str| environment.service(name).settings.get(key).cloned();
    assert_eq!(setting(ServiceName::Postgres, "fsync").as_deref(), Some("on"));
    assert_eq!(setting(ServiceName::Redis, "appendonly").as_deref(), Some("yes"));
    assert_eq!(setting(ServiceName::Nats, "jetstream").as_deref(), Some("true"));
    assert!(environment.control("mysql").is_none());
    assert!(environment.control("runtime").is_none(), "no server was asked for");
}

async fn own_processes_come_up_take_faults_and_leave_nothing() -> Ran {
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path());
    let environment = up(&run, BackendChoice::Process).await?;
    assert_eq!(environment.backend().kind, Kind::Process);
    exercise(&environment).await;
    assert_eq!(environment.down().await, vec![]);
    assert!(processes(run.folder()).len() >= 7, "initdb, three services and three restarts");
    assert_gone(run.folder());
    Ok(())
}

async fn containers_come_up_take_faults_and_leave_nothing() -> Ran {
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path());
    let environment = up(&run, BackendChoice::Container).await?;
    assert_eq!(environment.backend().kind, Kind::Container);
    exercise(&environment).await;
    assert_eq!(environment.down().await, vec![]);
    assert_gone(run.folder());
    Ok(())
}

async fn a_panic_leaves_nothing() -> Ran {
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path());
    let owner = run.clone();
    let task = tokio::spawn(async move {
        let _environment = match up(&owner, BackendChoice::Process).await {
            Ok(environment) => environment,
            Err(not_run) => return not_run,
        };
        panic!("planted");
    });
    match task.await {
        Ok(not_run) => return Err(not_run),
        Err(error) => assert!(error.is_panic()),
    }
    assert!(!processes(run.folder()).is_empty());
    closes(run.folder()).await;
    assert_gone(run.folder());
    Ok(())
}

async fn an_interrupt_while_it_comes_up_leaves_nothing() -> Ran {
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path());
    run.cancel().cancel();
    let result = Environment::up(&run, request(BackendChoice::Process)).await;
    assert!(matches!(result, Err(Error::Interrupted)));
    closes(run.folder()).await;
    assert_gone(run.folder());
    Ok(())
}

/// Brings an environment up and waits to be killed. Is among the tests only in the copy that has [`CHILD`].
async fn helper_that_is_killed() -> Ran {
    let folder = std::env::var_os(CHILD).expect("only the copy runs it");
    let run = run_in(Path::new(&folder));
    let _environment = match up(&run, BackendChoice::Process).await {
        Ok(environment) => environment,
        Err(not_run) => {
            std::fs::write(Path::new(&folder).join("not-run"), not_run.to_string()).expect("say so");
            return Err(not_run);
        }
    };
    std::fs::write(Path::new(&folder).join("is-up"), run.id()).expect("say so");
    std::future::pending().await
}

async fn what_a_killed_harness_left_is_swept() -> Ran {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut child = tokio::process::Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "helper_that_is_killed"])
        .env(CHILD, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("second harness");
    let not_run = folder.path().join("not-run");
    until("the second harness is up", async || {
        let said = folder.path().join("is-up").exists() || not_run.exists();
        if said { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    if let Ok(reason) = std::fs::read_to_string(&not_run) {
        return Err(NotRun::because(reason));
    }
    let id = std::fs::read_to_string(folder.path().join("is-up")).expect("run id");
    let left = folder.path().join(id);
    assert_eq!(cleanup::sweep(folder.path()).await, Vec::<String>::new(), "a live run was touched");
    child.kill().await.expect("SIGKILL");
    let swept = cleanup::sweep(folder.path()).await;
    assert!(!swept.is_empty(), "nothing was swept");
    assert!(swept.iter().all(|line| !line.contains(" stays: ")), "{swept:?}");
    assert_gone(&left);
    assert_eq!(cleanup::sweep(folder.path()).await, Vec::<String>::new(), "a second sweep found more");
    Ok(())
}

async fn missing_programs_are_fetched_and_run_with_their_own_libraries() -> Ran {
    use harness::environment::process::binaries::{Binaries, Search};

    // No folder is searched, so nothing is found however much is installed.
    let cache = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(cache.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("chmod");
    let search = Search { folders: Vec::new(), cache: cache.path().join("cache") };
    // Two at a time: one fetches, the other waits for the lock and uses the result.
    let (first, second) = tokio::join!(Binaries::find_or_fetch(&search), Binaries::find_or_fetch(&search));
    let binaries = match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            first
        }
        (Err(Error::NotPossible { reason, hint }), _) if !Path::new("/usr/bin/apt-get").exists() => {
            assert!(!hint.is_empty());
            return Err(NotRun::because(reason));
        }
        (first, second) => panic!("{first:?} {second:?}"),
    };
    for program in [&binaries.initdb, &binaries.postgres, &binaries.redis, &binaries.nats] {
        assert!(program.starts_with(&search.cache), "{}", program.display());
        let output = std::process::Command::new(program)
            .arg("--version")
            .envs(binaries.environment(program))
            .output()
            .expect("run it");
        assert!(output.status.success(), "{}: {output:?}", program.display());
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let mut trials = trials![
        own_processes_come_up_take_faults_and_leave_nothing,
        containers_come_up_take_faults_and_leave_nothing,
        a_panic_leaves_nothing,
        an_interrupt_while_it_comes_up_leaves_nothing,
        what_a_killed_harness_left_is_swept,
        missing_programs_are_fetched_and_run_with_their_own_libraries,
    ];
    if std::env::var_os(CHILD).is_some() {
        trials.extend(trials![helper_that_is_killed]);
    }
    trials::run(trials)
}
