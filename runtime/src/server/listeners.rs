//! Accepts connections and ends them in order.
//!
//! At most `connections_max` are open; the next wait in the system's backlog. When told to stop,
//! no connection is accepted, idle ones close, and those with a request finish it within the grace.
//! A connection that became a WebSocket counts as open, and is waited for and cut, as any other.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::util::MapRequest;

use crate::api::connection::Connection;
use crate::observability::metrics::Gauge;

/// A caller who has not sent the head of a request by then is cut off.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long requests in flight may take after the stop.
    pub grace: Duration,
    pub connections_max: usize,
}

/// How the connections ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that still had a request when the grace was over.
    pub connections_cut: usize,
}

/// Serves until `stop`; returns when all connections have ended or the grace is over.
pub async fn run(
    listener: TcpListener,
    router: Router,
    active: Gauge,
    limits: Limits,
    stop: CancellationToken,
) -> Drained {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let (stream, permit) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        // Tracked by what is open and not by the task: a WebSocket outlives the task that accepted it.
        let open = Open::new(&active, permit, connections.token());
        let cut = cut.child_token();
        let peer = stream.peer_addr().ok().map(|address| address.ip());
        let connection = Connection::new(peer, stop.clone(), cut.clone(), Arc::new(open));
        let router = router.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = serve(stream, router, connection) => {}
            }
        });
    }
    drop(listener);
    connections.close();
    tracing::info!(connections = connections.len(), "draining");
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_ok() {
        return Drained { connections_cut: 0 };
    }
    let connections_cut = connections.len();
    tracing::warn!(connections_cut, grace = ?limits.grace, "requests cut off");
    cut.cancel();
    connections.wait().await;
    Drained { connections_cut }
}

/// The next connection. Errors of the system, as too many open files, are waited out.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The caller was gone before we took the connection: nothing to wait for.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve(stream: TcpStream, router: Router, connection: Connection) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection without TCP_NODELAY");
    }
    let stop = connection.ending.clone();
    let tell = move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        request
    };
    let service = TowerToHyperService::new(MapRequest::new(router, tell));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // Callers hang up and send nonsense all the time; neither is our failure.
        tracing::debug!(%error, "connection ended with an error");
    }
}

/// An open connection in the gauge and in the bound.
struct Open {
    active: Gauge,
    _permit: OwnedSemaphorePermit,
    _tracked: TaskTrackerToken,
}

impl Open {
    fn new(active: &Gauge, permit: OwnedSemaphorePermit, tracked: TaskTrackerToken) -> Self {
        active.inc();
        Self { active: active.clone(), _permit: permit, _tracked: tracked }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.active.dec();
    }
}
