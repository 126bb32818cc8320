//! `chaos-proxy`: the fault proxy as a server of its own, and a client for every server with Toxiproxy's API.
//!
//! Without a verb it is the server and takes Toxiproxy's flags, with one dash or two. It ends with an error when the
//! API's port is taken, and orderly on SIGTERM and SIGINT.

mod cli;
mod memory;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use cli::{Arguments, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse_from(std::env::args().enumerate().map(cli::two_dashes));
    let outcome = match arguments.verb {
        Some(verb) => cli::run(&arguments.shared, verb).await,
        None => serve::run(&arguments.shared, arguments.server).await.map_err(Failure::from),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}
