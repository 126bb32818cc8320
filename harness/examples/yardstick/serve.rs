//! `YARDSTICK DATABASE_URL PORT CONNECTIONS`: listens on 127.0.0.1, prints where, and ends on SIGTERM when its
//! requests are answered.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::pool::Pool;

/// The connections and the port that the command line names.
pub fn arguments() -> anyhow::Result<(Arc<Pool>, u16)> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, port, connections] = words.as_slice() else {
        bail!("three arguments are needed: DATABASE_URL PORT CONNECTIONS")
    };
    let connections = connections.parse().context("CONNECTIONS is a number")?;
    let pool = Pool::new(url, connections).context("DATABASE_URL is no URL of PostgreSQL")?;
    Ok((Arc::new(pool), port.parse().context("PORT is a number")?))
}

/// Serves until SIGTERM.
pub async fn serve(router: Router, port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.context("listen")?;
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    // Without it a small answer may wait for the client's acknowledgement of the one before.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    let ended = async move {
        terminate.recv().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(ended).await.context("serve")
}

/// An answer in JSON.
pub fn json(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
