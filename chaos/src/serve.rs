//! The server: from its arguments to the end that a signal orders.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use chaos::api::{self, Options};
use chaos::proxy::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

use crate::cli::{ServerArguments, Shared, variable};
use crate::memory;

pub async fn run(shared: &Shared, arguments: ServerArguments) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(level(variable("LOG_LEVEL").as_deref())?)
        .init();
    let host = shared.host.as_deref().unwrap_or("127.0.0.1");
    // An IPv6 address needs brackets before a port.
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    let host = if bare_v6 { format!("[{host}]") } else { host.to_owned() };
    let address = format!("{host}:{}", arguments.port);
    let listener = TcpListener::bind(&address).await.with_context(|| {
        format!("failed to listen on {address} for the API: end what listens there, or choose another -port")
    })?;
    let registry = Registry::new(arguments.seed.0);
    if let Some(path) = &arguments.config {
        let list = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        match api::populate(&registry, &list).await {
            Ok(count) => tracing::info!(count, config = %path.display(), "created the proxies of the file"),
            Err(reason) => bail!("failed to create the proxies of {}: {reason}", path.display()),
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
    tokio::spawn(memory::give_back(registry.clone()));
    tracing::info!(address = %listener.local_addr()?, seed = arguments.seed.0, "listening");
    let options = Options {
        token: shared.token(),
        proxy_metrics: arguments.proxy_metrics,
        runtime_metrics: arguments.runtime_metrics,
    };
    api::serve_with(registry.clone(), listener, options, cancel).await.context("failed to serve the API")?;
    registry.clear().await;
    Ok(())
}

/// Toxiproxy's words for how much is logged; unlike there, nothing said means `info`.
fn level(word: Option<&str>) -> anyhow::Result<LevelFilter> {
    Ok(match word.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "info") => LevelFilter::INFO,
        Some("trace") => LevelFilter::TRACE,
        Some("debug") => LevelFilter::DEBUG,
        Some("warn") => LevelFilter::WARN,
        Some("error") => LevelFilter::ERROR,
        Some("fatal" | "panic" | "disabled") => LevelFilter::OFF,
        Some(other) => {
            bail!("LOG_LEVEL is {other:?}: set trace, debug, info, warn, error, fatal, panic or disabled")
        }
    })
}
