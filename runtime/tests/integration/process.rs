//! The binary's own commands and exit codes, as a user meets them.

use std::process::Command;

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
