//! Command line: a file per subcommand; parse, run, exit code.
//!
//! Data goes to stdout and talk to stderr. Exit codes: 0 valid, 1 an invariant was violated (or the command failed), 2 an
//! objective or a recovery budget was missed (or the command line is wrong), 3 inconclusive or not run, 4 a file cannot
//! be used, 5 something was left behind.

pub mod bench;
pub mod chaos;
pub mod conduct;
pub mod doctor;
pub mod gc;
pub mod interrupt;
pub mod load;
pub mod report;
pub mod up;

use std::io::IsTerminal;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Exit code of a command that could not do its work; a verdict has its own.
pub const EXIT_ERROR: u8 = 1;

/// Starts the runtime and its dependencies, drives load and faults, judges, reports.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 100)]
pub struct Cli {
    /// More talk on stderr; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// 1,000 requests a second, held: latency and errors within their objectives
    Baseline(load::Args),
    /// To 5,000 requests a second: degradation is graceful and nothing acknowledged is lost
    Stress(load::Args),
    /// 0 to 10,000 requests a second in 30 s, and back
    Spike(load::Args),
    /// 500 requests a second for two hours with faults: no leak, no slow-down, nothing lost
    Soak(load::Args),
    /// 10,000 requests a second of a cached read, as far as this machine goes: nothing is refused, and the figure is told
    Capacity(load::Args),
    /// Scenarios: list, check or run them
    Chaos(chaos::Args),
    /// Measure what our own parts cost
    Bench(bench::Args),
    /// Keep an environment running and print how to reach it
    Up(up::Args),
    /// Say what this machine can do: engines, images, binaries, privileges, fault kinds
    Doctor(doctor::Args),
    /// Remove what a killed run left, by its ledger
    Gc(gc::Args),
    /// Render an old run's report again
    Report(report::Args),
}

/// Runs a command and returns the exit code of the process.
pub async fn run(cli: Cli, cancel: CancellationToken) -> u8 {
    talk(cli.verbose);
    let done = match cli.command {
        Command::Baseline(args) => conduct::load("baseline", &args, cancel).await,
        Command::Stress(args) => conduct::load("stress", &args, cancel).await,
        Command::Spike(args) => conduct::load("spike", &args, cancel).await,
        Command::Soak(args) => conduct::load("soak", &args, cancel).await,
        Command::Capacity(args) => conduct::load("capacity", &args, cancel).await,
        Command::Chaos(args) => {
            chaos::execute(&args, async |asked, scenarios| conduct::scenarios(asked, scenarios, cancel).await)
                .await
        }
        Command::Bench(args) => bench::run(&args, cancel).await,
        Command::Up(args) => up::run(args, cancel).await,
        Command::Doctor(args) => doctor::run(args, cancel).await,
        Command::Gc(args) => gc::run(args, cancel).await,
        Command::Report(args) => report::execute(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("harness: {error:#}");
        EXIT_ERROR
    })
}

/// An address of Toxiproxy's API, as it was written.
fn api_address(text: &str) -> Result<String, String> {
    ::chaos::client::Client::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn talk(verbose: u8) {
    let level = match verbose {
        0 => "warn,harness=info,async_nats=off",
        1 => "info,harness=debug,chaos=debug",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("HARNESS_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 0)
        .without_time();
    // A second subscriber in one process (tests) keeps the first.
    drop(format.try_init());
}
