//! A running server, from the configuration to the exit: the order in which things start and end.
//!
//! Start: health loop and workers, then the listener, then the `listening` log line. End, on
//! SIGTERM or SIGINT: `/ready` says draining, no new connections, requests in flight finish within
//! `shutdown_grace`, then the workers stop; a second signal ends the process at once.

pub mod listeners;
pub mod shutdown;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::listeners::Drained;
use self::workers::Workers;
use crate::api::middleware::gate::Gate;
use crate::api::{self, Frame};
use crate::config::Config;
use crate::observability::health::{HealthChecker, HealthMonitor};
use crate::observability::metrics::Metrics;
use crate::observability::trace::Tracer;

/// What the product puts into the frame.
pub struct Application {
    /// Its routes, with their state.
    pub routes: Router,
    pub health: HealthChecker,
    pub workers: Workers,
    /// Who comes in; without one everybody does.
    pub gate: Option<Gate>,
    /// Begins the traces of requests.
    pub tracer: Tracer,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}")]
    Bind {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("watch for the signals that end the server")]
    Signals(#[source] std::io::Error),
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub drained: Drained,
    /// Workers that had not stopped when the grace was over.
    pub workers_cut: usize,
}

impl Ended {
    pub fn is_clean(&self) -> bool {
        self.drained.connections_cut == 0 && self.workers_cut == 0
    }
}

/// Serves until a signal says to end.
///
/// # Errors
/// When the address is taken or not ours, or signals cannot be watched.
pub async fn run(config: &Config, metrics: Metrics, application: Application) -> Result<Ended, Error> {
    let stop = shutdown::on_signal().map_err(Error::Signals)?;
    let address = config.server.bind_address;
    let bind = TcpListener::bind(address).await;
    let listener = bind.map_err(|source| Error::Bind { address, source })?;
    Ok(serve(listener, config, metrics, application, stop).await)
}

/// Serves on the listener until `stop`, then ends in order.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    metrics: Metrics,
    application: Application,
    stop: CancellationToken,
) -> Ended {
    let Application { routes, health, mut workers, gate, tracer } = application;
    let checker = health.with_timeout(config.health.timeout);
    let (monitor, report) = HealthMonitor::new(checker, config.health.interval);
    let monitor = Arc::new(monitor);
    workers.add("health", move |stop| {
        let monitor = monitor.clone();
        async move { monitor.run(stop).await }
    });

    let frame = Frame::new(config, metrics.clone(), report, stop.clone()).with_gate(gate).traced(tracer);
    let connections = frame.http.connections.clone();
    let router = api::router(frame, routes);

    let stop_workers = CancellationToken::new();
    let workers = workers.start(&metrics, &stop_workers);
    log_listening(&listener);
    let limits = listeners::Limits {
        grace: config.server.shutdown_grace,
        connections_max: config.server.max_connections as usize,
    };
    let drained = listeners::run(listener, router, connections, limits, stop.clone()).await;

    stop_workers.cancel();
    let workers_cut = workers.stopped_by(Instant::now() + worker_grace(config)).await;
    tracing::info!(connections_cut = drained.connections_cut, workers_cut, "stopped");
    Ended { drained, workers_cut }
}

/// Workers get their own time: requests that used up the grace must not make a worker lose its job.
fn worker_grace(config: &Config) -> Duration {
    config.server.shutdown_grace.min(Duration::from_secs(5)).max(Duration::from_secs(1))
}

/// The line that says to whoever started us where we are.
fn log_listening(listener: &TcpListener) {
    match listener.local_addr() {
        Ok(address) => {
            let version = env!("CARGO_PKG_VERSION");
            tracing::info!(%address, version, pid = std::process::id(), "listening");
        }
        Err(error) => tracing::error!(%error, "listening, at an address that cannot be told"),
    }
}
