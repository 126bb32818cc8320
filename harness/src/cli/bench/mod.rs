//! `harness bench`: what our own parts cost beside what is as simple as possible, and how exactly they act.

mod graphql;
mod overhead;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use chaos::client::Client;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::bench::subject::{self, Named, Subject, Targets};
use crate::bench::upstream::Upstream;
use crate::bench::{self, Options, accuracy};
use crate::environment::free_port;
use crate::environment::process::binaries::{Binaries, Search};
use crate::environment::process::fetch;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Rates, latency and memory of the fault proxy without toxics
    Proxy(ProxyArgs),
    /// How exactly latency and bandwidth are kept to
    Accuracy(AccuracyArgs),
    /// fraiseql-server beside the same operations by hand and by async-graphql's resolvers
    Graphql(graphql::Args),
    /// What metrics, traces and logs cost fraiseql-server: all of them off beside all of them on
    Overhead(overhead::Args),
}

#[derive(Debug, clap::Args)]
struct AccuracyArgs {
    /// A server of Toxiproxy's API to measure instead of chaos-proxy, http://HOST:PORT
    #[arg(long, value_name = "ADDR", value_parser = super::api_address)]
    toxiproxy: Option<String>,
    /// Length of the measurement of each rate
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Thousand bytes a second of the bandwidths that are measured.
const RATES: [u64; 5] = [10, 100, 1_000, 10_000, 100_000];

#[derive(Debug, clap::Args)]
struct ProxyArgs {
    /// Each subject is measured once in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of one measurement, for example 3s
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// Concurrent connections of the request measurements
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Idle connections of the memory measurement
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    idle: u16,
    /// Downloads that their client breaks off
    #[arg(long, default_value_t = 4_000)]
    aborts: u16,
    /// Another proxy: NAME=HOST:PORT that leads to --upstream, or NAME=api:HOST:PORT for a server of Toxiproxy's API
    #[arg(long, value_name = "NAME=ADDRESS")]
    against: Vec<Named>,
    /// Where the bench's own upstream listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    upstream: SocketAddr,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(args: &Args, cancel: CancellationToken) -> anyhow::Result<u8> {
    let measured = async {
        match &args.what {
            What::Proxy(args) => proxy(args).await,
            What::Accuracy(args) => accuracy(args).await,
            // Takes down what it started, so it is not simply dropped.
            What::Graphql(args) => return graphql::run(args, Vec::new(), cancel.clone()).await,
            What::Overhead(args) => return overhead::run(args, cancel.clone()).await,
        }
    };
    tokio::select! {
        done = measured => done,
        () = cancel.cancelled() => bail!("interrupted"),
    }
}

async fn accuracy(args: &AccuracyArgs) -> anyhow::Result<u8> {
    let upstream =
        Upstream::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.context("start the upstream")?;
    // Killed when it is dropped.
    let (_server, api) = match &args.toxiproxy {
        Some(address) => (None, address.clone()),
        None => subject::server().await.map(|(child, api)| (Some(child), api))?,
    };
    let options = accuracy::Options {
        delay: Duration::from_millis(100),
        echoes: 200,
        transfer: 20_000_000,
        rates: RATES.to_vec(),
        lasts: args.lasts,
    };
    let client = Client::new(&api)?;
    let figures = accuracy::measure(&options, &client, upstream.address, |line| eprintln!("{line}")).await?;
    write(&figures.markdown(&options), args.out.as_deref())
}

fn write(text: &str, out: Option<&Path>) -> anyhow::Result<u8> {
    print!("{text}");
    if let Some(path) = out {
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(0)
}

async fn proxy(args: &ProxyArgs) -> anyhow::Result<u8> {
    if !args.upstream.ip().is_loopback() {
        bail!("--upstream {}: the bench listens on a loopback address only", args.upstream);
    }
    if cfg!(debug_assertions) {
        eprintln!(
            "this harness is no release build: its clients are slower, which flatters every ratio; use cargo run --release"
        );
    }
    raise_descriptors(u64::from(args.idle) * 2 + 1_000)?;
    let upstream = Upstream::start(args.upstream).await.context("start the upstream")?;
    let redis = redis().await?;
    let targets = Targets { upstream: upstream.address, redis: redis.as_ref().map(|(address, _)| *address) };
    let mut subjects =
        vec![Subject::direct(targets), Subject::naive(targets).await?, Subject::ours(targets).await?];
    for named in &args.against {
        subjects.push(Subject::named(named, targets).await?);
    }
    let options = Options {
        rounds: args.rounds,
        lasts: args.lasts,
        connections: args.connections.into(),
        idle: args.idle.into(),
        aborts: args.aborts.into(),
    };
    let measured = bench::measure(&options, &mut subjects, |line| eprintln!("{line}")).await;
    for named in &args.against {
        subject::clean(named).await?;
    }
    write(&measured?.markdown(), args.out.as_deref())
}

/// A Redis of the bench's own, without persistence; said when there is none. It ends with the bench.
async fn redis() -> anyhow::Result<Option<(SocketAddr, Child)>> {
    let search = Search::of_this_machine();
    let fetched = fetch::unpacked(&search.cache);
    let Ok(binaries) = Binaries::find(&search, Some(&fetched)) else {
        eprintln!(
            "Redis: NOT RUN, no redis-server here (any harness run with --backend process fetches one)"
        );
        return Ok(None);
    };
    let port = free_port().context("find a free port")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let port = port.to_string();
    let child = Command::new(&binaries.redis)
        .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
        .envs(binaries.environment(&binaries.redis))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start redis-server")?;
    let up = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), up).await.context("redis-server does not answer")?;
    Ok(Some((address, child)))
}

/// Two sockets for each idle connection live in this process.
fn raise_descriptors(wanted: u64) -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        bail!(
            "--idle needs {wanted} open files, the limit is {hard}: use a smaller --idle or raise `ulimit -Hn`"
        );
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).context("raise the limit of open files")
}
