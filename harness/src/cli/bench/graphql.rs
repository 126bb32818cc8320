//! `harness bench graphql`: fraiseql-server beside the yardsticks, as a table and as JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::write;
use crate::bench::graphql::figures::Figures;
use crate::bench::graphql::{Bench, Options, Programs, Setup, Variant};
use crate::cli::up::Backend;
use crate::environment::{Error, Profile, Settings};
use crate::run::Run;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Each operation of each subject is measured once in each round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of one measurement, for example 2s
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// Concurrent connections of the client
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Connections to PostgreSQL that each subject has at most
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=50))]
    database_connections: u16,
    /// Server program to use instead of building one
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Configuration of fraiseql-server that is merged over the bench's own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where PostgreSQL, Redis and NATS come from
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
    /// Images, tags, commands and settings
    #[arg(long, value_name = "FILE", default_value = "harness.toml")]
    settings: PathBuf,
    /// Folder that gets the run folder
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    runs: PathBuf,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write every figure of every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Exit code 0 when everything was measured, 3 when something was not run, 5 when something was left behind. `variants` are
/// servers to be measured beside each other; none: one beside the yardsticks.
pub(super) async fn run(
    args: &Args,
    variants: Vec<Variant>,
    cancel: CancellationToken,
) -> anyhow::Result<u8> {
    if cfg!(debug_assertions) {
        eprintln!(
            "this harness is no release build: its clients are slower, which flatters every ratio; use cargo run --release"
        );
    }
    let id = format!("bench-{}", uuid::Uuid::now_v7().simple());
    let run = Run::create(id.clone(), 0, args.runs.join(&id), cancel.clone())?;
    let bench = tokio::select! {
        () = cancel.cancelled() => bail!("interrupted"),
        bench = up(args, variants, &run) => match bench? {
            Ok(bench) => bench,
            Err(error @ Error::NotPossible { .. }) => {
                eprintln!("not run: {error}");
                return Ok(3);
            }
            Err(error) => return Err(error.into()),
        },
    };
    let measured = tokio::select! {
        () = cancel.cancelled() => Err(anyhow::anyhow!("interrupted")),
        measured = measure(args, &bench) => measured,
    };
    let leftovers = bench.down().await;
    for left in &leftovers {
        eprintln!("left behind: {}: {}", left.kind, left.detail);
    }
    let figures = measured?;
    write(&figures.markdown(), args.out.as_deref())?;
    if let Some(path) = &args.json {
        write_json(args, &figures, path)?;
    }
    Ok(match (leftovers.is_empty(), figures.not_run().is_empty()) {
        (false, _) => 5,
        (true, false) => 3,
        (true, true) => 0,
    })
}

async fn up(args: &Args, variants: Vec<Variant>, run: &Run) -> anyhow::Result<Result<Bench, Error>> {
    let config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            toml::from_str(&text).with_context(|| format!("read {}", path.display()))?
        }
        None => toml::Table::new(),
    };
    let settings = Settings::load(&args.settings)?;
    let programs = if variants.is_empty() {
        Programs::build(Profile::Release, args.server.clone()).await
    } else {
        Programs::of_server(args.server.clone()).await
    };
    let programs = match programs {
        Ok(programs) => programs,
        Err(error) => return Ok(Err(error)),
    };
    let database_connections = args.database_connections;
    let backend = args.backend.into();
    Ok(Bench::up(run, Setup { backend, settings, programs, database_connections, config, variants }).await)
}

async fn measure(args: &Args, bench: &Bench) -> anyhow::Result<Figures> {
    let options = Options { rounds: args.rounds, lasts: args.lasts, connections: args.connections.into() };
    let agreement = bench.agree().await?;
    bench.measure(&options, agreement, |line| eprintln!("{line}")).await
}

fn write_json(args: &Args, figures: &Figures, path: &Path) -> anyhow::Result<()> {
    let mut json = figures.json();
    json["options"] = json!({
        "rounds": args.rounds,
        "lasts": humantime::format_duration(args.lasts).to_string(),
        "connections": args.connections,
        "database_connections": args.database_connections,
    });
    let text = serde_json::to_string_pretty(&json).context("write the figures")?;
    std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}
