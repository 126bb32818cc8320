//! Links through a server of Toxiproxy's API that somebody else runs: it gets this run's proxies and faults, keeps its own,
//! and has nothing of the run when that is over, however it ended.

#[macro_use]
#[path = "support/trials.rs"]
mod trials;

use std::path::Path;
use std::time::{Duration, Instant};

use chaos::client::Client;
use chaos::ledger::{self, Holding, Ledger};
use chaos::protocol::Protocol;
use chaos::proxy::{LinkFault, Registry};
use harness::environment::link::{Acting, Dialect};
use harness::environment::{
    BackendChoice, Environment, Error, Request, ServiceName, Settings, Toxiproxy, cleanup, probe,
};
use harness::run::Run;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use trials::{NotRun, Ran};

/// A proxy that is not ours to touch.
const THEIRS: &str = "theirs";

/// A server of the API with a proxy that somebody else made.
struct Server {
    address: String,
    client: Client,
    _end: DropGuard,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("address").to_string();
        let end = CancellationToken::new();
        tokio::spawn(chaos::api::serve(Registry::new(1), listener, end.clone()));
        let client = Client::new(&address).expect("an address");
        client.create(THEIRS, "127.0.0.1:0", "127.0.0.1:1").await.expect("a proxy");
        Server { address, client, _end: end.drop_guard() }
    }

    async fn proxies(&self) -> Vec<String> {
        self.client.proxies().await.expect("proxies").into_iter().map(|proxy| proxy.name).collect()
    }
}

/// Another address of the server, where it knows no faults, as Toxiproxy does not.
async fn without_faults(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("address").to_string();
    let behind = server.address.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, behind.clone()));
        }
    });
    address
}

async fn pass_on(mut client: TcpStream, behind: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(&head);
    if line.lines().next().is_some_and(|line| line.contains("/faults")) {
        let answer =
            "HTTP/1.1 404 Not Found\r\ncontent-length: 19\r\nconnection: close\r\n\r\n404 page not found\n";
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(behind).await?;
    server.write_all(&head).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn run_in(folder: &Path) -> Run {
    let id = format!("test-{}", uuid::Uuid::new_v4().simple());
    Run::create(id.clone(), 1, folder.join(id), CancellationToken::new()).expect("run folder")
}

/// Services as processes, with their links on the server; the one to Redis reads along where that is possible.
async fn up(run: &Run, toxiproxy: Toxiproxy) -> Result<Environment, NotRun> {
    let request = Request {
        backend: BackendChoice::Process,
        settings: Settings::default(),
        read_along: (toxiproxy.dialect() == Dialect::Faults)
            .then_some(ServiceName::Redis)
            .into_iter()
            .collect(),
        toxiproxy: Some(toxiproxy),
        ..Request::default()
    };
    match Environment::up(run, request).await {
        Ok(environment) => Ok(environment),
        Err(Error::NotPossible { reason, .. }) => Err(NotRun::because(reason)),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

fn fault(value: Value) -> LinkFault {
    LinkFault::read(value).expect("a fault")
}

async fn inject(environment: &Environment, name: ServiceName, value: Value) -> Acting {
    environment.link(name).inject(&fault(value)).await.expect("inject")
}

async fn ask(environment: &Environment, name: ServiceName) -> Result<Duration, String> {
    let began = Instant::now();
    let url = environment.service(name).proxied_url();
    let asked = tokio::time::timeout(Duration::from_secs(20), probe::ask(name, url));
    asked.await.map_err(|_| "no answer".to_owned())?.map(|_| began.elapsed())
}

async fn healed(environment: &Environment, name: ServiceName) {
    environment.link(name).verify_healed().await.expect("healed");
    ask(environment, name).await.expect("answers again");
}

async fn goes_down(run: &Run, server: &Server, environment: Environment) {
    assert_eq!(environment.down().await, vec![]);
    assert_eq!(server.proxies().await, [THEIRS]);
    assert_eq!(ledger::read(run.ledger().path()).expect("ledger").open, vec![]);
}

async fn a_server_that_knows_faults_has_them_all_and_counts() -> Ran {
    let server = Server::start().await;
    let toxiproxy = Toxiproxy::reach(&server.address).await.expect("reach");
    assert_eq!(toxiproxy.dialect(), Dialect::Faults);
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path());
    let environment = up(&run, toxiproxy).await?;
    assert!(environment.backend().reason.contains(&server.address), "{}", environment.backend().reason);
    assert_eq!(environment.toxiproxy_api(), None, "there is no second server");

    let mut wanted: Vec<String> =
        ServiceName::ALL.iter().map(|name| format!("{}-{name}", run.id())).collect();
    wanted.push(THEIRS.into());
    let mut proxies = server.proxies().await;
    wanted.sort();
    proxies.sort();
    assert_eq!(proxies, wanted);
    for name in ServiceName::ALL {
        ask(&environment, name).await.expect("answers through its proxy");
    }

    let slow = json!({"latency": {"delay": "100ms", "direction": "downstream"}});
    let acting = inject(&environment, ServiceName::Nats, slow).await;
    let took = ask(&environment, ServiceName::Nats).await.expect("answers late");
    assert!(took >= Duration::from_millis(100), "{took:?}");
    environment.link(ServiceName::Nats).verify_healed().await.expect_err("it acts");
    assert!(acting.counts() && acting.evidence().await.expect("evidence").delayed_bytes > 0);
    assert!(acting.heal().await.expect("heal").delayed_bytes > 0);
    healed(&environment, ServiceName::Nats).await;

    let reply = json!({"redis": {"reply": {"error": "LOADING", "command": ["PING"]}}});
    let acting = inject(&environment, ServiceName::Redis, reply).await;
    let told = ask(&environment, ServiceName::Redis).await.expect_err("PING is struck");
    assert!(told.contains("LOADING") || told.contains("loading"), "{told}");
    assert!(acting.heal().await.expect("heal").acted > 0);
    healed(&environment, ServiceName::Redis).await;

    // What nobody heals is undone when its value is dropped.
    drop(inject(&environment, ServiceName::Postgres, json!({"blackhole": {}})).await);
    let name = format!("{}-postgres", run.id());
    let gone = async {
        while !server.client.faults(&name).await.expect("faults").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the fault is undone");
    goes_down(&run, &server, environment).await;
    Ok(())
}

async fn a_server_of_toxics_has_what_means_the_same() -> Ran {
    let server = Server::start().await;
    let toxiproxy = Toxiproxy::reach(&without_faults(&server).await).await.expect("reach");
    assert_eq!(toxiproxy.dialect(), Dialect::Toxics);
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path());
    let environment = up(&run, toxiproxy).await?;

    let slow = json!({"latency": {"delay": "150ms", "jitter": "50ms"}});
    let acting = inject(&environment, ServiceName::Redis, slow).await;
    let took = ask(&environment, ServiceName::Redis).await.expect("answers late");
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert!(acting.counts());
    let evidence = acting.heal().await.expect("heal");
    assert!(evidence.probes > 0 && evidence.delayed_bytes == 0, "{evidence:?}");
    healed(&environment, ServiceName::Redis).await;

    let acting = inject(&environment, ServiceName::Postgres, json!({"refuse": {}})).await;
    ask(&environment, ServiceName::Postgres).await.expect_err("refused");
    assert!(acting.heal().await.expect("heal").refused > 0);
    healed(&environment, ServiceName::Postgres).await;

    let pieces = json!({"slice": {"average_bytes": 16, "pause": "100us"}});
    let acting = inject(&environment, ServiceName::Nats, pieces).await;
    let name = format!("{}-nats", run.id());
    assert_eq!(server.client.toxics(&name).await.expect("toxics").len(), 2);
    environment.link(ServiceName::Nats).verify_healed().await.expect_err("it acts");
    assert!(!acting.counts(), "nobody can tell what it touches");
    acting.heal().await.expect("heal");
    healed(&environment, ServiceName::Nats).await;

    let flap = fault(json!({"flap": {"up": "1s", "down": "1s"}}));
    let told = environment.link(ServiceName::Nats).inject(&flap).await.expect_err("there is none");
    assert!(told.to_string().contains("Toxiproxy has no `flap`"), "{told:#}");
    goes_down(&run, &server, environment).await;
    Ok(())
}

async fn what_a_killed_run_left_on_a_server_is_swept() -> Ran {
    let server = Server::start().await;
    let runs = tempfile::tempdir().expect("temporary folder");
    let folder = runs.path().join("killed");
    std::fs::create_dir(&folder).expect("run folder");
    // No process has had this pid since a time before the machine started.
    let ledger = Ledger::create(&folder.join("ledger.jsonl"), "killed", i32::MAX, 1).expect("ledger");
    let holding = |name: &str| Holding::Proxy { api: server.address.clone(), name: name.into() };
    for name in ["killed-redis", "killed-before-it-was-made"] {
        ledger.open(holding(name)).expect("write");
    }
    server.client.create("killed-redis", "127.0.0.1:0", "127.0.0.1:1").await.expect("a proxy");
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("listen").local_addr().expect("address");
    ledger
        .open(Holding::Proxy { api: elsewhere.to_string(), name: "of-a-server-that-ended".into() })
        .expect("write");

    let swept = cleanup::sweep(runs.path()).await;
    assert_eq!(swept.len(), 3, "{swept:?}");
    assert!(swept.iter().all(|line| !line.contains(" stays: ")), "{swept:?}");
    assert_eq!(server.proxies().await, [THEIRS]);
    assert_eq!(cleanup::sweep(runs.path()).await, Vec::<String>::new(), "a second sweep found more");
    Ok(())
}

async fn a_proxy_that_its_server_cannot_be_asked_about_stays_in_the_ledger() -> Ran {
    let runs = tempfile::tempdir().expect("temporary folder");
    let run = run_in(runs.path());
    // Takes connections and ends them: a server that is there and does not say.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let api = listener.local_addr().expect("address").to_string();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    run.ledger().open(Holding::Proxy { api: api.clone(), name: "p".into() }).expect("write");
    let left = cleanup::verify(&run).await;
    let told: Vec<(&str, &str)> = left.iter().map(|l| (l.kind.as_str(), l.detail.as_str())).collect();
    assert_eq!(told, [("proxy", format!("proxy p on {api}").as_str())]);
    Ok(())
}

async fn a_server_that_is_not_there_is_told_with_its_address() -> Ran {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("listen").local_addr().expect("address");
    match Toxiproxy::reach(&closed.to_string()).await {
        Err(Error::NotPossible { reason, .. }) => assert!(reason.contains(&closed.to_string()), "{reason}"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn a_protocol_is_asked_for_only_where_messages_are_struck() -> Ran {
    let server = Server::start().await;
    let toxiproxy = Toxiproxy::reach(&server.address).await.expect("reach");
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path());
    let environment = up(&run, toxiproxy).await?;
    let spoken =
        server.client.proxies().await.expect("proxies").into_iter().filter_map(|proxy| proxy.protocol);
    assert_eq!(spoken.collect::<Vec<_>>(), [Protocol::Redis.name()]);
    goes_down(&run, &server, environment).await;
    Ok(())
}

fn main() -> std::process::ExitCode {
    trials::run(trials![
        a_server_that_knows_faults_has_them_all_and_counts,
        a_server_of_toxics_has_what_means_the_same,
        what_a_killed_run_left_on_a_server_is_swept,
        a_proxy_that_its_server_cannot_be_asked_about_stays_in_the_ledger,
        a_server_that_is_not_there_is_told_with_its_address,
        a_protocol_is_asked_for_only_where_messages_are_struck,
    ])
}
