//! The `harness` command: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use harness::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let cancel = cli::interrupt::install();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("harness: start the async runtime: {error}");
            return ExitCode::from(cli::EXIT_ERROR);
        }
    };
    let code = runtime.block_on(cli::run(cli, cancel));
    // Tasks that still wait (a probe, a log reader) must not delay the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ExitCode::from(code)
}
