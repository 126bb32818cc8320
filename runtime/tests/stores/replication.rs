//! A real replica of the database: how far it is behind is a metric.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use harness::environment::process::binaries::{Binaries, Other, Search};
use harness::environment::{Program, ServiceName};
use harness::run::Run;
use sqlx::{Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::support::{Shop, Stage, eventually};

const BYTES: &str = "db_replication_lag_bytes{replica=\"second\"}";
const SECONDS: &str = "db_replication_lag_seconds{replica=\"second\"}";

/// A second server that follows the stage's.
async fn replica(stage: &Stage) -> (Run, Program, Url) {
    let binaries = Binaries::find_or_fetch(&Search::of_this_machine()).await.expect("the stage has them");
    let first = stage.url(ServiceName::Postgres);
    let id = format!("replica-{}", uuid::Uuid::new_v4().simple());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stores").join(&id);
    let run = Run::create(id, 1, folder, CancellationToken::new()).expect("a run");
    let environment = binaries.environment(&binaries.postgres);
    let copy = |folder: &Path, port: u16| {
        let data = folder.join("data");
        let mut source = first.clone();
        source.set_query(Some("application_name=second"));
        let status = Command::new(binaries.postgres.with_file_name("pg_basebackup"))
            .envs(environment.clone())
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream", "--write-recovery-conf"])
            .arg("--pgdata")
            .arg(&data)
            .arg("--dbname")
            .arg(source.as_str())
            .status()?;
        assert!(status.success(), "pg_basebackup: {status}");
        // A replica takes no fewer connections than the server that it follows.
        let port = port.to_string();
        let words = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-c",
            "unix_socket_directories=",
            "-c",
            "max_connections=300",
            "-D",
        ];
        let mut arguments: Vec<_> = words.iter().map(std::ffi::OsString::from).collect();
        arguments.push(data.into());
        Ok(arguments)
    };
    let other = Other { path: binaries.postgres.clone(), environment: environment.clone() };
    let program = Program::start_other(&run, "replica", &other, copy).await.expect("it follows");
    let mut url = first.clone();
    url.set_port(Some(program.address().port())).expect("a port");
    (run, program, url)
}

pub async fn a_replica_that_falls_behind_is_seen_and_one_that_is_gone_is_not(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    shop.start(&["replication-gauge"]);
    let (run, program, url) = replica(&stage).await;
    let seen = async |what: &str, wanted: &dyn Fn(Option<f64>) -> bool| {
        eventually(what, async || {
            let bytes = shop.metric_if_there(BYTES);
            if wanted(bytes) { Ok(()) } else { Err(format!("{bytes:?} bytes behind")) }
        })
        .await;
    };
    seen("the replica is seen", &|bytes| bytes.is_some()).await;
    assert!(shop.metric_if_there(SECONDS).is_some_and(|seconds| seconds >= 0.0));

    let mut second = eventually("the replica takes connections", async || {
        PgConnection::connect(url.as_str()).await.map_err(|error| error.to_string())
    })
    .await;
    second.execute("SELECT pg_wal_replay_pause()").await.expect("it stops to replay");
    shop.run("CREATE TABLE much AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 20000) n")
        .await;
    // More than two million bytes of rows.
    seen("it falls behind", &|bytes| bytes.is_some_and(|bytes| bytes > 2e6)).await;
    second.execute("SELECT pg_wal_replay_resume()").await.expect("it goes on");
    seen("it catches up", &|bytes| bytes.is_some_and(|bytes| bytes < 1e6)).await;

    second.close().await.expect("closed");
    assert!(program.stop(Duration::from_secs(20)).await.is_none(), "the replica ends");
    seen("it is not shown any more", &|bytes| bytes.is_none()).await;
    shop.close().await;
    std::fs::remove_dir_all(run.folder()).expect("its folder goes");
}
