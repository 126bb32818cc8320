//! The binary's own commands and exit codes, as a user meets them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A schema that is there; without a database it is not looked at.
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas/ecommerce/schema.graphql");

fn server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fraiseql-server"));
    command.env_clear();
    command
}

#[test]
fn help_names_the_exit_codes() {
    let output = server().arg("--help").output().expect("the binary runs");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(help.contains("Exit codes: 0"), "{help}");
    for command in ["migrate", "config", "healthcheck"] {
        assert!(help.contains(command), "{command} is missing in {help}");
    }
}

#[test]
fn a_wrong_argument_is_exit_code_two() {
    let output = server().arg("--confg").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_server_that_is_not_there_fails_its_health_check() {
    // A port that was free a moment ago and that nothing listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let output = server().args(["healthcheck", "--address", &address]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(told.contains(&format!("connect to {address}")), "{told}");
}

#[test]
fn migrations_are_judged_by_exit_code_and_by_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("20270101090000_step.sql");
    let lint = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let output = server().args(["migrate", "lint", "--release", "1.4.0"]).arg(folder.path()).output();
        let output = output.expect("the binary runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    let announced = "-- fraiseql: unused-since 1.3.0\nALTER TABLE t DROP COLUMN a;";
    assert_eq!(lint(announced), (Some(0), String::new()));
    let (code, told) = lint("ALTER TABLE t\n    DROP COLUMN a;");
    assert_eq!(code, Some(1));
    assert!(told.starts_with(&format!("{}:2:5: drop-unannounced: ", file.display())), "{told}");
    assert_eq!(lint("ALTER TABEL t;").0, Some(2));
    let missing = server().args(["migrate", "lint"]).arg(folder.path().join("none")).output();
    assert_eq!(missing.expect("the binary runs").status.code(), Some(2));
}

#[test]
fn the_migrations_of_the_build_are_judged_without_a_folder() {
    let output = server().args(["migrate", "lint"]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_follows_the_health_of_the_server() {
    use crate::support::{Planted, TestFrame, eventually};
    use fraiseql_runtime::observability::health::{CheckResult, Criticality};
    let database = Planted::healthy("database", Criticality::Critical);
    let fast = "[health]\ninterval = \"20ms\"";
    let frame = TestFrame::with(fast, axum::Router::new(), [database.clone()]).await;
    let address = frame.address.to_string();
    let asked = async |expected: i32| {
        eventually(&format!("exit code {expected}"), async || {
            let mut command = server();
            command.args(["healthcheck", "--address", &address]);
            let output = tokio::task::spawn_blocking(move || command.output());
            let output = output.await.expect("no panic").expect("the binary runs");
            if output.status.code() == Some(expected) { Ok(()) } else { Err(format!("{output:?}")) }
        })
        .await;
    };
    asked(0).await;
    database.becomes(CheckResult::unhealthy("gone", std::time::Duration::ZERO));
    asked(1).await;
}

/// The server without a single dependency, killed when the test is over.
struct Alone {
    process: Child,
    log: mpsc::Receiver<String>,
    _folder: tempfile::TempDir,
}

impl Alone {
    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut toml = "[server]\nbind_address = \"127.0.0.1:0\"\nshutdown_grace = \"2s\"\n\n[health]\ninterval = \"50ms\"\n".to_owned();
        toml.push_str(&format!("\n[graphql]\nschema = {SCHEMA:?}\n"));
        toml.push_str(more);
        std::fs::write(folder.path().join("fraiseql.toml"), toml).expect("written");
        // Nothing listens on port 1.
        let mut process = server()
            .current_dir(folder.path())
            .envs([
                ("DATABASE_URL", "postgres://shop:hunter2@127.0.0.1:1/shop"),
                ("REDIS_URL", "redis://127.0.0.1:1"),
                ("NATS_URL", "nats://127.0.0.1:1"),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        // No line is taken before the test asks for it: who takes none stands still.
        let (send, log) = mpsc::sync_channel(0);
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { process, log, _folder: folder }
    }

    /// The next log line with this message; lines before it are dropped.
    fn wait_for(&self, message: &str) -> Value {
        loop {
            let line = self.log.recv_timeout(Duration::from_secs(20)).expect(message);
            let line: Value = serde_json::from_str(&line).expect("each line is JSON");
            assert!(!line.to_string().contains("hunter2"), "{line}");
            if line["message"] == message {
                return line;
            }
        }
    }

    /// The lines of requests up to the end of the log.
    fn requests(&self) -> Vec<Value> {
        let lines: Vec<String> = self.log.iter().collect();
        let lines = lines.iter().map(|line| serde_json::from_str(line).expect("each line is JSON"));
        lines.filter(|line: &Value| line["span"]["name"] == "request").collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("the process is there");
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // It may have ended by itself, which is what most tests want.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_dependencies_are_all_away_says_so_and_ends_in_order() {
    let mut alone = Alone::start("");
    let address = alone.wait_for("listening")["address"].as_str().expect("an address").to_owned();
    let client = reqwest::Client::new();
    let get =
        async |path: &str| client.get(format!("http://{address}{path}")).send().await.expect("an answer");

    crate::support::eventually("every check has run", async || {
        let body: Value = get("/health").await.json().await.expect("JSON");
        let ran =
            ["database", "redis", "nats"].iter().all(|name| body["checks"][name]["latency_ms"].is_u64());
        if ran { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    assert_eq!(get("/livez").await.status(), 200);
    assert_eq!(get("/ready").await.status(), 503);
    let health = get("/health").await;
    assert_eq!(health.status(), 503);
    let text = health.text().await.expect("a body");
    assert!(text.contains("\"unhealthy\"") && !text.contains("127.0.0.1"), "{text}");
    assert_eq!(get("/metrics").await.status(), 200);

    alone.signal(Signal::SIGTERM);
    alone.wait_for("shutdown begins");
    let stopped = alone.wait_for("stopped");
    assert_eq!((&stopped["connections_cut"], &stopped["workers_cut"]), (&0.into(), &0.into()), "{stopped}");
    let status = alone.process.wait().expect("ends");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_the_requests_that_the_configuration_names() {
    let (fine, wrong, failed) = (("/metrics", 200), ("unmatched", 404), ("/ready", 503));
    for (access, share, expected) in [
        ("all", 1, vec![fine, wrong, failed]),
        // Of those that went well, none.
        ("all", 0, vec![wrong, failed]),
        ("errors-and-slow", 1, vec![wrong, failed]),
        ("failures", 1, vec![failed]),
    ] {
        // Nothing here takes an hour: what is logged is logged for its status.
        let logging = format!(
            "\n[logging]\naccess = \"{access}\"\nsample_rate = {share}.0\nslow_request_threshold = \"1h\"\n"
        );
        // Without Redis a request would tell that the limits are degraded, which is a line of its own.
        let logging = format!("{logging}\n[limits]\nuse_redis = false\n");
        let mut alone = Alone::start(&logging);
        let address = alone.wait_for("listening")["address"].as_str().expect("an address").to_owned();
        for path in ["/metrics", "/nowhere", "/ready"] {
            reqwest::get(format!("http://{address}{path}")).await.expect("an answer");
        }
        alone.signal(Signal::SIGTERM);
        assert!(alone.process.wait().expect("ends").success());
        let lines = alone.requests();
        let told: Vec<_> = lines
            .iter()
            .map(|line| {
                assert_eq!(line["message"], "close", "{line}");
                assert!(line["span"]["duration_ms"].is_number(), "{line}");
                (
                    line["span"]["path"].as_str().expect("a path"),
                    line["span"]["status"].as_u64().expect("a status"),
                )
            })
            .collect();
        assert_eq!(told, expected, "{access} {share}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_whoever_takes_the_log() {
    let mut alone = Alone::start("\n[logging]\nbuffer_lines = 100\n\n[limits]\nuse_redis = false\n");
    let address = alone.wait_for("listening")["address"].as_str().expect("an address").to_owned();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
    let url = |path: &str| format!("http://{address}{path}");
    // From here on nobody takes a line. A pipe has room for 64 KiB, which is some two hundred of them.
    let many = async || {
        for _ in 0..1_000 {
            client.get(url("/nowhere")).send().await.expect("an answer");
        }
    };
    many().await;
    crate::support::eventually("what was dropped is counted", async || {
        let text = client.get(url("/metrics")).send().await.expect("an answer").text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix("log_lines_dropped_total "));
        match line.map(str::parse::<f64>) {
            Some(Ok(lines)) if lines > 100.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The first that says so may have found room when few had been dropped.
    while alone.wait_for("lines of the log were dropped: they are not taken fast enough")["in_all"]
        .as_u64()
        .expect("a number")
        <= 100
    {}

    many().await;
    alone.signal(Signal::SIGTERM);
    crate::support::eventually("it ends all the same", || {
        let status = alone.process.try_wait().expect("it is a child of ours");
        async move { status.filter(|status| status.success()).map(drop).ok_or(format!("{status:?}")) }
    })
    .await;
}

#[test]
fn an_address_that_is_taken_is_exit_code_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let toml = format!("[server]\nbind_address = \"{address}\"\n\n[graphql]\nschema = {SCHEMA:?}\n");
    std::fs::write(folder.path().join("fraiseql.toml"), toml).expect("written");
    let output = server()
        .current_dir(folder.path())
        .envs([
            ("DATABASE_URL", "postgres://127.0.0.1:1/shop"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("NATS_URL", "nats://127.0.0.1:1"),
        ])
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(told.contains(&format!("listen on {address}")), "{told}");
}
