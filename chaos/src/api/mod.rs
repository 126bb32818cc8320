//! Toxiproxy's HTTP API.
//!
//! The same proxies that the harness holds, for clients of Toxiproxy 2.12: routes, bodies, status codes and messages
//! are the same wherever a client can see them. `docs/toxiproxy-compatibility.md` lists what differs on purpose. No
//! call waits for traffic; whatever a request began is finished even if its client has gone.

mod error;
mod events;
mod faults;
mod handlers;
mod metrics;
mod populate;
mod process;
mod reply;
mod route;
mod server;
mod tls;
mod wire;

use std::io;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::proxy::Registry;
pub use populate::populate;

/// The version of Toxiproxy that clients are told, since they decide by it what they may ask for.
pub const VERSION: &str = "2.12.0";

/// What a server offers beyond the plain API.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Demanded of every request as `Authorization: Bearer TOKEN`; none: everybody is served.
    pub token: Option<String>,
    /// Counters of the proxies under `/metrics`.
    pub proxy_metrics: bool,
    /// Figures of this process under `/metrics`.
    pub runtime_metrics: bool,
}

/// Serves until `cancel`; requests that have begun are answered.
pub async fn serve(registry: Registry, listener: TcpListener, cancel: CancellationToken) -> io::Result<()> {
    serve_with(registry, listener, Options::default(), cancel).await
}

/// [`serve`] with options.
pub async fn serve_with(
    registry: Registry,
    listener: TcpListener,
    options: Options,
    cancel: CancellationToken,
) -> io::Result<()> {
    server::run(registry, listener, options, cancel).await
}
