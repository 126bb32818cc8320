//! The listening side: opens and closes the port as the plan says and hands each connection to a task of its own.
//!
//! While the port is closed a socket that is bound but does not listen keeps it: connections are refused by the kernel,
//! and nobody else (nor a client that happens to be given the port as its own) can take it meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Error;
use super::address;
use super::connection;
use super::event::What;
use super::state::Shared;

const BACKLOG: u32 = 1024;
/// Pause before a port that is taken is tried again, or before accepting when descriptors have run out.
const RETRY: Duration = Duration::from_millis(20);

/// Listens on `host:port`.
pub(super) async fn bind_text(listen: &str) -> Result<TcpListener, Error> {
    let address = address::resolve(listen).await.map_err(Error::Unresolved)?;
    bind(address).map_err(|source| Error::Listen { address: address.to_string(), source })
}

fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it on Linux: one system call less for each connection.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    socket(address)?.listen(BACKLOG)
}

/// The port as it is.
enum Port {
    Open(TcpListener),
    /// The socket only keeps the port.
    Closed(Option<TcpSocket>),
}

/// Runs until the proxy is stopped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut plan = shared.plan.subscribe();
    let mut port = Port::Closed(None);
    loop {
        let wanted = plan.borrow_and_update().clone();
        port = follow(&shared, port, wanted.open(), wanted.address);
        if shared.stopped.is_cancelled() {
            // Whatever the plan said when it was looked at: nobody would close the port or tell of it later.
            drop(port);
            shared.gate.send_replace(false);
            return;
        }
        let is_open = matches!(port, Port::Open(_));
        shared.gate.send_replace(is_open);
        tokio::select! {
            changed = plan.changed() => changed.expect("the plan's sender lives in shared"),
            () = accept(&shared, &port) => {}
            () = tokio::time::sleep(RETRY), if wanted.open() && !is_open => {}
        }
    }
}

fn follow(shared: &Shared, port: Port, open: bool, address: Option<SocketAddr>) -> Port {
    match (port, open, address) {
        (Port::Open(listener), false, address) => {
            drop(listener);
            let Some(address) = address.filter(|_| !shared.stopped.is_cancelled()) else {
                return Port::Closed(None);
            };
            // Only a refused port is kept; one that the user disabled is free for others.
            let keeper = if shared.plan.borrow().enabled { socket(address).ok() } else { None };
            Port::Closed(keeper)
        }
        (Port::Closed(keeper), true, Some(address)) => {
            let listener = shared.handover.lock().take().map_or_else(|| bind(address), Ok);
            match listener {
                Ok(listener) => Port::Open(listener),
                Err(error) => {
                    tracing::debug!(proxy = &*shared.name, %address, %error, "the port cannot be opened yet");
                    Port::Closed(keeper)
                }
            }
        }
        (port, _, _) => port,
    }
}

/// Accepts until something else has to be looked at.
async fn accept(shared: &Arc<Shared>, port: &Port) {
    let Port::Open(listener) = port else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((client, peer)) => take(shared, client, peer),
            Err(error) => {
                tracing::warn!(proxy = &*shared.name, %error, "failed to accept a connection");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn take(shared: &Arc<Shared>, client: TcpStream, peer: SocketAddr) {
    use std::sync::atomic::Ordering;
    let number = shared.totals.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    shared.say(Some(number), || What::Accepted { client: peer.to_string() });
    connection::spawn(shared.clone(), client, number);
}
