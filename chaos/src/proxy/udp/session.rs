//! One session from its first datagram to its end: what came from its client, the dial to the upstream, and the lists
//! that it stands on. A session is one task; what is forwarded goes through [`Flow`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::budget::{Budget, Share};
use super::flow::{Flow, Moved};
use super::listener::{Port, enlarge_buffers};
use super::{Udp, add};
use crate::proxy::event::{How, What, micros};
use crate::proxy::state::{Kill, Shared, Signal};
use crate::proxy::{DIAL_TIMEOUT, address};
use crate::toxic::pipeline::Finish;

/// What the listener knows of a session.
#[derive(Debug)]
pub(super) struct Session {
    pub number: u64,
    pub client: SocketAddr,
    pub signal: Arc<Signal>,
    inbox: Mutex<Inbox>,
    budget: Arc<Budget>,
    /// Datagrams wait in its queues.
    pub busy: AtomicBool,
    /// Why the listener ended it.
    retired: OnceLock<How>,
}

/// What came from the client and was not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub datagrams: VecDeque<(Bytes, Share, Instant)>,
    /// Datagrams that found no room, and their bytes.
    pub overflowed: u64,
    pub overflowed_bytes: usize,
}

impl Session {
    pub fn new(number: u64, client: SocketAddr, signal: Arc<Signal>, shared: &Shared) -> Session {
        Session {
            number,
            client,
            signal,
            inbox: Mutex::default(),
            budget: budget(shared),
            busy: AtomicBool::new(false),
            retired: OnceLock::new(),
        }
    }

    /// Takes a datagram of its client over; false when there is no room for it.
    pub fn push(&self, payload: Bytes, now: Instant) -> bool {
        let size = payload.len();
        let share = self.budget.take(size);
        let fits = share.is_some();
        {
            let mut inbox = self.inbox.lock();
            match share {
                Some(share) => inbox.datagrams.push_back((payload, share, now)),
                None => {
                    inbox.overflowed += 1;
                    inbox.overflowed_bytes += size;
                }
            }
        }
        self.signal.wake();
        fits
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) || !self.inbox.lock().datagrams.is_empty()
    }

    /// Ends it.
    pub fn retire(&self, how: How) {
        // The first reason counts.
        let _ = self.retired.set(how);
        self.signal.end(Kill { finish: Finish::Close, touched: None });
    }

    pub fn has_mail(&self) -> bool {
        let inbox = self.inbox.lock();
        !inbox.datagrams.is_empty() || inbox.overflowed > 0
    }

    pub fn take_inbox(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock())
    }
}

/// Room for one way of one session.
pub(super) fn budget(shared: &Shared) -> Arc<Budget> {
    match &shared.udp {
        Some(udp) => Budget::within(&udp.budget, udp.config.queue_bytes_max),
        None => Budget::new(0),
    }
}

/// Takes the session off the lists however its task ends.
struct Listed {
    shared: Arc<Shared>,
    port: Option<Arc<Port>>,
    session: Arc<Session>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            port.sessions.lock().remove(self.session.client, self.session.number);
        }
        // Only after the port's socket is let go: who waits for the end may want to bind its address.
        self.shared.followed.live.lock().remove(&self.session.number);
        self.shared.ended.notify_waiters();
    }
}

pub(super) fn spawn(shared: Arc<Shared>, port: Arc<Port>, session: Arc<Session>) {
    tokio::spawn(async move {
        let listed = Listed { shared, port: Some(port), session };
        let began = Instant::now();
        let (how, moved) = serve(&listed).await;
        let say = |what| listed.shared.say(Some(listed.session.number), || what);
        say(moved.datagrams());
        say(What::Ended {
            how,
            bytes_upstream: moved.upstream.bytes,
            bytes_downstream: moved.downstream.bytes,
            lasted_us: micros(began.elapsed()),
        });
        drop(listed);
    });
}

async fn serve(listed: &Listed) -> (How, Moved) {
    let (shared, session) = (&*listed.shared, &*listed.session);
    let (Some(udp), Some(port)) = (&shared.udp, &listed.port) else { return (How::Closed, Moved::default()) };
    let dialled = tokio::select! {
        dialled = dial(shared, session.number) => dialled,
        _ = session.signal.ended() => {
            return (retired(session), Moved { lost: drop_inbox(udp, session), ..Moved::default() });
        }
    };
    let Some(socket) = dialled else {
        return (How::NoUpstream, Moved { lost: drop_inbox(udp, session), ..Moved::default() });
    };
    let mut flow = Flow::new(shared, udp, session, port, &socket);
    flow.run().await;
    (retired(session), flow.moved())
}

fn retired(session: &Session) -> How {
    session.retired.get().copied().unwrap_or(How::Closed)
}

/// What came for an upstream that cannot be dialled; how many datagrams those were.
fn drop_inbox(udp: &Udp, session: &Session) -> u64 {
    let waiting = session.take_inbox().datagrams.len();
    add(&udp.totals.dropped, waiting);
    waiting as u64
}

/// A socket that speaks with the upstream alone.
async fn dial(shared: &Shared, number: u64) -> Option<UdpSocket> {
    let upstream = shared.settings.lock().upstream.clone();
    let began = Instant::now();
    let reason = match tokio::time::timeout(DIAL_TIMEOUT, address::resolve(&upstream)).await {
        Ok(Ok(address)) => match connect(address).await {
            Ok(socket) => {
                let took_us = micros(began.elapsed());
                shared.say(Some(number), || What::Dialled { upstream, took_us });
                return Some(socket);
            }
            Err(error) => error.to_string(),
        },
        Ok(Err(reason)) => reason,
        Err(_) => format!("no answer in {} s", DIAL_TIMEOUT.as_secs()),
    };
    say_unreachable(shared, number, upstream, reason);
    None
}

async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    enlarge_buffers(&socket);
    socket.connect(address).await?;
    Ok(socket)
}

pub(super) fn say_unreachable(shared: &Shared, number: u64, upstream: String, reason: String) {
    shared.totals.refused_dials.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(proxy = &*shared.name, upstream, reason, "the upstream is not reached");
    shared.say(Some(number), || What::DialFailed { upstream, reason });
}
