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
use super::deaf::DeafPort;
use super::event::What;
use super::state::{Gate, Shared};

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
    /// Held for as long as nobody is to be answered.
    Deaf {
        _port: DeafPort,
    },
    /// The socket only keeps the port.
    Closed(Option<TcpSocket>),
}

impl Port {
    fn gate(&self) -> Gate {
        match self {
            Port::Open(_) => Gate::Open,
            Port::Deaf { .. } => Gate::Deaf,
            Port::Closed(_) => Gate::Closed,
        }
    }
}

/// Runs until the proxy is stopped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut plan = shared.followed.plan.subscribe();
    let mut port = Port::Closed(None);
    loop {
        let wanted = plan.borrow_and_update().clone();
        port = follow(&shared, port, wanted.gate(), wanted.address).await;
        if shared.stopped.is_cancelled() {
            // Whatever the plan said when it was looked at: nobody would close the port or tell of it later.
            drop(port);
            shared.gate.send_replace(Gate::Closed);
            return;
        }
        shared.gate.send_replace(port.gate());
        tokio::select! {
            changed = plan.changed() => changed.expect("the plan's sender lives in shared"),
            () = accept(&shared, &port) => {}
            () = tokio::time::sleep(RETRY), if wanted.gate() != port.gate() => {}
        }
    }
}

async fn follow(shared: &Shared, port: Port, wanted: Gate, address: Option<SocketAddr>) -> Port {
    if port.gate() == wanted {
        return port;
    }
    // One socket at a time can listen there.
    let keeper = match port {
        Port::Closed(keeper) => keeper,
        Port::Open(_) | Port::Deaf { .. } => {
            drop(port);
            None
        }
    };
    let Some(address) = address.filter(|_| !shared.stopped.is_cancelled()) else {
        return Port::Closed(None);
    };
    let opened = match wanted {
        Gate::Closed => {
            // Only a refused port is kept; one that the user disabled is free for others.
            return Port::Closed(if shared.followed.plan.borrow().enabled {
                socket(address).ok()
            } else {
                None
            });
        }
        Gate::Open => open(shared, address).map(Port::Open),
        Gate::Deaf => deafen(shared, address).await.map(|port| Port::Deaf { _port: port }),
    };
    opened.unwrap_or_else(|error| {
        tracing::debug!(proxy = &*shared.name, %address, %error, "the port cannot be opened yet");
        Port::Closed(keeper)
    })
}

fn open(shared: &Shared, address: SocketAddr) -> std::io::Result<TcpListener> {
    shared.handover.lock().take().map_or_else(|| bind(address), Ok)
}

async fn deafen(shared: &Shared, address: SocketAddr) -> std::io::Result<DeafPort> {
    // A listener that was handed over holds the port.
    drop(shared.handover.lock().take());
    DeafPort::listen(socket(address)?, address).await
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
    connection::spawn(shared.clone(), client, peer.ip(), number);
}
