//! `chaos-proxy`: the fault proxy as a server of its own, with Toxiproxy's API.
//!
//! Takes Toxiproxy's flags with one dash or two. Ends with an error when the API's port is taken, and orderly on
//! SIGTERM and SIGINT.

use std::path::PathBuf;

use anyhow::{Context, bail};
use chaos::api;
use chaos::proxy::Registry;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Fault proxy with Toxiproxy's HTTP API.
#[derive(Debug, Parser)]
#[command(name = "chaos-proxy", version)]
struct Arguments {
    /// Host that the API listens on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port that the API listens on.
    #[arg(long, default_value_t = 8474)]
    port: u16,
    /// JSON file with the proxies to create at the start, as for POST /populate.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Seed of everything that is drawn (jitter, toxicity); the same seed draws the same.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Toxiproxy's flags have one dash (`-port 8474`, `-port=8474`).
fn two_dashes(argument: String) -> String {
    let name = argument.strip_prefix('-').unwrap_or("").split('=').next().unwrap_or("");
    if ["host", "port", "config", "seed", "version", "help"].contains(&name) {
        format!("-{argument}")
    } else {
        argument
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    run(Arguments::parse_from(std::env::args().map(two_dashes))).await
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let address = format!("{}:{}", arguments.host, arguments.port);
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("failed to listen on {address}"))?;
    let registry = Registry::new(arguments.seed);
    if let Some(path) = &arguments.config {
        let body = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        let (status, answer) = api::populate(&registry, &body).await;
        if !status.is_success() {
            bail!("failed to create the proxies of {}: {}", path.display(), answer["error"]);
        }
    }
    let cancel = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
    });
    tracing::info!(address = %listener.local_addr()?, seed = arguments.seed, "listening");
    api::serve(registry.clone(), listener, cancel).await.context("failed to serve the API")?;
    registry.clear().await;
    Ok(())
}
