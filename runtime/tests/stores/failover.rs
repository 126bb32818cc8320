//! Redis with Sentinels: the master is killed, another takes its place, and quotas go on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fraiseql_runtime::limits::Limits;
use fraiseql_runtime::security::guard::Caller;
use futures::future::join_all;
use harness::environment::process::binaries::{Binaries, Other, Search};
use harness::environment::{Leftover, Program};
use harness::run::Run;
use http::HeaderMap;
use redis::aio::MultiplexedConnection;
use tokio_util::sync::CancellationToken;

use crate::support::{Shop, Stage, equal, eventually};

/// Sentinels, of which most have to agree.
const SENTINELS: usize = 3;

/// A master, its replica, and who watches them.
struct Pair {
    run: Run,
    master: Program,
    replica: Program,
    sentinels: Vec<Program>,
}

impl Pair {
    async fn open() -> Self {
        let binaries = Binaries::find_or_fetch(&Search::of_this_machine()).await.expect("a redis-server");
        let environment = binaries.environment(&binaries.redis);
        let redis = Other { path: binaries.redis, environment };
        let id = format!("failover-{}", uuid::Uuid::new_v4().simple());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stores").join(&id);
        let run = Run::create(id, 1, folder, CancellationToken::new()).expect("a run");
        let server = |master: Option<u16>| {
            move |folder: &Path, port: u16| {
                let of = master.map_or(String::new(), |master| format!("replicaof 127.0.0.1 {master}\n"));
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\ndatabases 256\nsave \"\"\nrepl-diskless-sync-delay 0\n{of}",
                    folder.display()
                );
                write(folder, "redis.conf", &text).map(|path| vec![path])
            }
        };
        let master = Program::start_other(&run, "redis-master", &redis, server(None)).await.expect("started");
        let of = Some(master.address().port());
        let replica = Program::start_other(&run, "redis-replica", &redis, server(of)).await.expect("started");
        let mut sentinels = Vec::new();
        for number in 0..SENTINELS {
            let master = master.address().port();
            let configure = |folder: &Path, port: u16| {
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {master} 2\n\
                     sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n",
                    folder.display()
                );
                Ok(vec![write(folder, "sentinel.conf", &text)?, "--sentinel".into()])
            };
            let role = format!("redis-sentinel-{number}");
            sentinels.push(Program::start_other(&run, &role, &redis, configure).await.expect("started"));
        }
        let pair = Self { run, master, replica, sentinels };
        pair.is_ready().await;
        pair
    }

    /// Every Sentinel knows the replica and the others; before that nobody is elected.
    async fn is_ready(&self) {
        eventually("the sentinels know each other and the replica", async || {
            for sentinel in &self.sentinels {
                let mut connection = connect(sentinel, "").await?;
                for (what, wanted) in [("REPLICAS", 1), ("SENTINELS", SENTINELS - 1)] {
                    let known: Vec<redis::Value> =
                        command(&mut connection, &["SENTINEL", what, "mymaster"]).await?;
                    equal(known.len(), wanted)?;
                }
            }
            let mut replica = connect(&self.replica, "").await?;
            let info: String = command(&mut replica, &["INFO", "replication"]).await?;
            if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
        })
        .await;
    }

    fn settings(&self) -> String {
        let addresses: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("\"{}\"", sentinel.address())).collect();
        format!("cache.redis.sentinels = [{}]", addresses.join(", "))
    }

    async fn close(self) {
        let programs = self.sentinels.iter().chain([&self.replica]);
        let stopped = join_all(programs.map(|program| program.stop(Duration::from_secs(10)))).await;
        let left: Vec<Leftover> = stopped.into_iter().flatten().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        std::fs::remove_dir_all(self.run.folder()).expect("its folder goes");
    }
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<std::ffi::OsString> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    Ok(path.into())
}

/// `database` is the path of a URL.
async fn connect(program: &Program, database: &str) -> Result<MultiplexedConnection, String> {
    let client = redis::Client::open(format!("redis://{}{database}", program.address()));
    let client = client.map_err(|error| error.to_string())?;
    client.get_multiplexed_async_connection().await.map_err(|error| error.to_string())
}

async fn command<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> Result<T, String> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query_async(connection).await.map_err(|error| error.to_string())
}

/// So many requests of one address; how many of them come in.
async fn ask(limits: &Limits, address: &str, count: usize) -> usize {
    let peer = Some(address.parse().expect("an address"));
    let client = limits.client(&Caller::Anonymous, peer, &HeaderMap::new());
    let asked = (0..count).map(|_| limits.request(&client, "/graphql", false));
    join_all(asked).await.into_iter().filter(Result::is_ok).count()
}

pub async fn a_master_that_is_killed_is_replaced_and_quotas_go_on(stage: Arc<Stage>) {
    let pair = Box::pin(Pair::open()).await;
    let settings = format!(
        "{}\nlimits.policy = 'uniform'\nlimits.default_rpm = 10\nlimits.client_max_qps = 100000\n\
         limits.client_max_concurrent = 1000\nlimits.redis_timeout = '1s'",
        pair.settings()
    );
    let shop = Shop::open_with(&stage, &settings).await;
    let limits = shop.state.limits.clone().expect("limits are on");
    assert_eq!(ask(&limits, "203.0.113.9", 4).await, 4);
    assert_eq!(shop.metric("rate_limit_decisions_total{store=\"redis\"}"), 4.0);
    let database = shop.redis.direct.path().to_owned();
    let mut master = connect(&pair.master, &database).await.expect("the master answers");
    eventually("the replica has the count", async || {
        equal(command::<i64>(&mut master.clone(), &["WAIT", "1", "1000"]).await?, 1)
    })
    .await;
    let keys: Vec<String> = command(&mut master, &["KEYS", "*203.0.113.9*"]).await.expect("an answer");
    assert_eq!(keys.len(), 1, "the quota is counted by the master: {keys:?}");

    pair.master.kill().await.expect("killed");
    let callers = AtomicU32::new(0);
    // Until another is elected each replica of the server decides on its own; then Redis is asked again.
    eventually("the new master is asked", async || {
        // Somebody new each time: who has used up a quota here is not asked about.
        let caller = format!("198.51.100.{}", callers.fetch_add(1, Ordering::Relaxed) % 250);
        ask(&limits, &caller, 1).await;
        let mut replica = connect(&pair.replica, &database).await?;
        let keys: Vec<String> = command(&mut replica, &["KEYS", "*198.51.100.*"]).await?;
        equal(keys.is_empty(), false)?;
        equal(shop.metric("degraded{component=\"limits\"}"), 0.0)
    })
    .await;
    assert_eq!(ask(&limits, "203.0.113.9", 50).await, 6, "what was counted before still counts");
    shop.close().await;
    pair.close().await;
}
