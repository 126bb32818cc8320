//! The listening side: opens and closes the port as the plan says and hands each datagram to the session of its client.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::add;
use super::session::{self, Session};
use super::table::Table;
use crate::proxy::event::{How, What};
use crate::proxy::followed::Live;
use crate::proxy::state::{Gate, Shared, Signal};

/// Pause before a port that is taken is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// Wanted from the kernel, which gives less where it is told to: datagrams come in bursts.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Datagrams that are read before anybody else has a turn.
const TURN: usize = 64;
/// No datagram is longer.
pub(super) const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// An open port. The socket closes when the last session has ended, too.
#[derive(Debug)]
pub(super) struct Port {
    pub socket: UdpSocket,
    pub sessions: Mutex<Table<Arc<Session>>>,
}

pub(super) fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    enlarge_buffers(&socket);
    UdpSocket::from_std(socket)
}

/// Fails on no system that has UDP; smaller buffers lose datagrams sooner, as they do without a proxy.
pub(super) fn enlarge_buffers(socket: &impl std::os::fd::AsFd) {
    let socket = SockRef::from(socket);
    for enlarged in
        [socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES), socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)]
    {
        if let Err(error) = enlarged {
            tracing::debug!(%error, "a socket buffer keeps its size");
        }
    }
}

/// Runs until the proxy is stopped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut plan = shared.followed.plan.subscribe();
    let mut port: Option<Arc<Port>> = None;
    loop {
        let (wanted, address) = {
            let plan = plan.borrow_and_update();
            (plan.enabled && !shared.stopped.is_cancelled(), plan.address)
        };
        match (wanted, address) {
            (true, Some(address)) if port.is_none() => port = open(&shared, address),
            (true, _) => {}
            (false, _) => port = None,
        }
        if shared.stopped.is_cancelled() {
            // Whatever the plan said when it was looked at: nobody would close the port or tell of it later.
            drop(port);
            shared.gate.send_replace(Gate::Closed);
            return;
        }
        shared.gate.send_replace(if port.is_some() { Gate::Open } else { Gate::Closed });
        tokio::select! {
            changed = plan.changed() => changed.expect("the plan's sender lives in shared"),
            () = serve(&shared, port.as_ref()) => {}
            () = tokio::time::sleep(RETRY), if wanted && port.is_none() => {}
        }
    }
}

fn open(shared: &Shared, address: SocketAddr) -> Option<Arc<Port>> {
    let udp = shared.udp.as_ref()?;
    let handed = udp.handover.lock().take();
    let socket = handed.map_or_else(|| bind(address), Ok).inspect_err(|error| {
        tracing::debug!(proxy = &*shared.name, %address, %error, "the port cannot be opened yet");
    });
    let sessions = Mutex::new(Table::new(udp.config.idle, udp.config.sessions_max));
    Some(Arc::new(Port { socket: socket.ok()?, sessions }))
}

/// Takes datagrams and ends sessions that are idle, until something else has to be looked at.
async fn serve(shared: &Arc<Shared>, port: Option<&Arc<Port>>) {
    let Some(port) = port else { return std::future::pending().await };
    let mut scratch = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let expiry = port.sessions.lock().next_expiry();
        let expired = async {
            match expiry {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            readable = port.socket.readable() => match readable {
                Ok(()) => take_turn(shared, port, &mut scratch),
                Err(error) => failed(shared, &error).await,
            },
            () = expired => {}
        }
        let idle = port.sessions.lock().expire(Instant::now(), |session| session.is_busy());
        for session in idle {
            session.retire(How::Idle);
        }
    }
}

fn take_turn(shared: &Arc<Shared>, port: &Arc<Port>, scratch: &mut [u8]) {
    for _ in 0..TURN {
        match port.socket.try_recv_from(scratch) {
            Ok((size, client)) => take(shared, port, client, &scratch[..size]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // What an earlier datagram met at a client that has gone.
            Err(error) => tracing::debug!(proxy = &*shared.name, %error, "a client could not be reached"),
        }
    }
}

async fn failed(shared: &Shared, error: &std::io::Error) {
    tracing::warn!(proxy = &*shared.name, %error, "failed to read a datagram");
    tokio::time::sleep(RETRY).await;
}

fn take(shared: &Arc<Shared>, port: &Arc<Port>, client: SocketAddr, payload: &[u8]) {
    let Some(udp) = &shared.udp else { return };
    add(&udp.totals.received_upstream, 1);
    add(&shared.totals.received_upstream, payload.len());
    let now = Instant::now();
    let known = port.sessions.lock().hear(client, now).cloned();
    let session = known.unwrap_or_else(|| begin(shared, port, client, now));
    if !session.push(Bytes::copy_from_slice(payload), now) {
        add(&udp.totals.dropped, 1);
    }
}

fn begin(shared: &Arc<Shared>, port: &Arc<Port>, client: SocketAddr, now: Instant) -> Arc<Session> {
    let number = shared.totals.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    let signal = Arc::new(Signal::default());
    let session = Arc::new(Session::new(number, client, signal.clone(), shared));
    shared.followed.live.lock().insert(number, Live { signal, client: client.ip() });
    shared.say(Some(number), || What::Accepted { client: client.to_string() });
    let displaced = port.sessions.lock().insert(client, number, session.clone(), now);
    if let Some(displaced) = displaced {
        displaced.retire(How::Displaced);
    }
    session::spawn(shared.clone(), port.clone(), session.clone());
    session
}
