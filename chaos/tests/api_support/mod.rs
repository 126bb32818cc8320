//! The API in this process, for tests that ask it over HTTP.

use chaos::proxy::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Serves a fresh registry on a free port until the guard is dropped; `host:port` of it.
pub async fn serve() -> (String, Registry, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let registry = Registry::new(7);
    let end = CancellationToken::new();
    tokio::spawn(chaos::api::serve(registry.clone(), listener, end.clone()));
    (address, registry, end.drop_guard())
}
