//! What a session forwards: the datagrams of one client and of its upstream, through a pipeline for each way.
//!
//! Memory is taken for datagrams that wait and given back with them. An upstream whose host answers with "port
//! unreachable" is counted and told of, and ends nothing: it may come back.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::budget::{Budget, Share};
use super::listener::{DATAGRAM_BYTES_MAX, Port};
use super::pipeline::{Next, Pipeline};
use super::session::{Inbox, Session, budget, say_unreachable};
use super::{Totals, Udp, add};
use crate::fault::Direction;
use crate::proxy::alarm::Alarm;
use crate::proxy::event::What;
use crate::proxy::state::Shared;
use crate::seed;
use crate::toxic::effect::{Effect, Marks};

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM_BYTES_MAX]);
}

/// What went out on one way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub datagrams: u64,
    pub bytes: u64,
}

/// What a session carried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub upstream: Sent,
    pub downstream: Sent,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

impl Moved {
    pub fn datagrams(&self) -> What {
        What::Datagrams {
            upstream: self.upstream.datagrams,
            downstream: self.downstream.datagrams,
            lost: self.lost,
            duplicated: self.duplicated,
            reordered: self.reordered,
        }
    }
}

/// Why a session is awake.
enum News {
    End,
    /// From the upstream; `None`: it is not there.
    Received(Option<(Bytes, Option<Share>)>),
    /// Something else has to be looked at.
    Look,
}

/// A session whose upstream is dialled.
pub(super) struct Flow<'a> {
    shared: &'a Shared,
    totals: &'a Totals,
    session: &'a Session,
    port: &'a Port,
    socket: &'a UdpSocket,
    up: Pipeline,
    down: Pipeline,
    /// Room for what comes from the upstream.
    budget: Arc<Budget>,
    marks: Arc<Marks>,
    /// Version of the plan that the pipelines follow; `None`: none yet.
    followed: Option<u64>,
    alarm: Alarm,
    /// The upstream said that nobody is there, and nothing came from it since.
    refused: bool,
    sent_upstream: Sent,
    sent_downstream: Sent,
}

impl<'a> Flow<'a> {
    pub fn new(
        shared: &'a Shared,
        udp: &'a Udp,
        session: &'a Session,
        port: &'a Port,
        socket: &'a UdpSocket,
    ) -> Flow<'a> {
        let marks = Arc::new(Marks::default());
        let way = |way, name| {
            let rng = seed::stream(shared.seed, &["proxy", &shared.name, &session.number.to_string(), name]);
            Pipeline::new(way, rng, marks.clone())
        };
        Flow {
            shared,
            totals: &udp.totals,
            session,
            port,
            socket,
            up: way(Direction::Upstream, "upstream"),
            down: way(Direction::Downstream, "downstream"),
            budget: budget(shared),
            marks,
            followed: None,
            alarm: Alarm::default(),
            refused: false,
            sent_upstream: Sent::default(),
            sent_downstream: Sent::default(),
        }
    }

    /// Forwards until the session is to end.
    pub async fn run(&mut self) {
        loop {
            self.follow_plan();
            self.read_inbox();
            let signal = &self.session.signal.clone();
            let wake = tokio::select! {
                biased;
                wake = self.send_due() => wake,
                _ = signal.ended() => return,
            };
            self.say_struck();
            self.tell_busy();
            match self.wait(wake).await {
                News::End => return,
                News::Received(received) => self.take(received),
                News::Look => {}
            }
        }
    }

    /// What left after a delay gets as much time to be answered as any other.
    fn tell_busy(&self) {
        let busy = !self.up.is_empty() || !self.down.is_empty();
        if self.session.busy.load(Ordering::Relaxed) && !busy {
            self.heard(Instant::now());
        }
        self.session.busy.store(busy, Ordering::Relaxed);
    }

    fn heard(&self, now: Instant) {
        self.port.sessions.lock().answered(self.session.client, self.session.number, now);
    }

    fn follow_plan(&mut self) {
        let looked = self.shared.followed.follow(&mut self.followed, |plan| plan.effects.clone());
        let Some(effects) = looked else { return };
        let client = self.session.client.ip();
        let effects: Vec<Arc<Effect>> =
            effects.iter().filter(|effect| effect.clients.contain(client)).cloned().collect();
        let now = Instant::now();
        self.up.apply(&effects, now);
        self.down.apply(&effects, now);
    }

    fn read_inbox(&mut self) {
        let Inbox { datagrams, overflowed, overflowed_bytes } = self.session.take_inbox();
        for (payload, share, arrived) in datagrams {
            self.up.receive(payload, share, arrived);
        }
        if overflowed > 0 {
            self.up.overflowed(overflowed, overflowed_bytes);
        }
    }

    /// Sends what may leave now; when there is more.
    async fn send_due(&mut self) -> Option<Instant> {
        let up = loop {
            match self.up.next(Instant::now()) {
                Next::Send(payload) => self.send_upstream(&payload).await,
                Next::Wait(at) => break at,
            }
        };
        let down = loop {
            match self.down.next(Instant::now()) {
                Next::Send(payload) => self.send_downstream(&payload).await,
                Next::Wait(at) => break at,
            }
        };
        up.into_iter().chain(down).min()
    }

    async fn send_upstream(&mut self, payload: &[u8]) {
        let mut sent = self.socket.send(payload).await;
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            // That was about an earlier datagram; this one was not sent.
            self.unreachable();
            sent = self.socket.send(payload).await;
        }
        if self.went(sent) {
            self.sent_upstream.add(payload);
            add(&self.totals.sent_upstream, 1);
            add(&self.shared.totals.bytes_upstream, payload.len());
        }
    }

    async fn send_downstream(&mut self, payload: &[u8]) {
        let sent = self.port.socket.send_to(payload, self.session.client).await;
        if self.went(sent) {
            self.sent_downstream.add(payload);
            add(&self.totals.sent_downstream, 1);
            add(&self.shared.totals.bytes_downstream, payload.len());
        }
    }

    fn went(&self, sent: io::Result<usize>) -> bool {
        if let Err(error) = &sent {
            tracing::debug!(proxy = &*self.shared.name, %error, "a datagram could not be sent");
            add(&self.totals.dropped, 1);
        }
        sent.is_ok()
    }

    /// The upstream's host said that nobody is there; told once until somebody is.
    fn unreachable(&mut self) {
        if std::mem::replace(&mut self.refused, true) {
            self.shared.totals.refused_dials.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let upstream = self.shared.settings.lock().upstream.clone();
        let reason = io::Error::from(ErrorKind::ConnectionRefused).to_string();
        say_unreachable(self.shared, self.session.number, upstream, reason);
    }

    fn say_struck(&self) {
        for (fault, kind) in self.marks.fresh() {
            self.shared.say(Some(self.session.number), || What::Struck { fault, kind });
        }
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, wake: Option<Instant>) -> News {
        let socket = self.socket;
        // A refusal alone makes a socket neither readable nor writable.
        let mut erroneous = pin!(socket.ready(Interest::ERROR));
        poll_fn(|context| {
            // First: a change that follows wakes the task.
            if self.session.signal.poll_ended(context).is_ready() {
                return Poll::Ready(News::End);
            }
            if self.followed != Some(self.shared.followed.version()) || self.session.has_mail() {
                return Poll::Ready(News::Look);
            }
            match wake {
                Some(at) if self.alarm.poll(context, at.into_std()).is_ready() => {
                    return Poll::Ready(News::Look);
                }
                Some(_) => {}
                None => self.alarm.clear(),
            }
            if erroneous.as_mut().poll(context).is_ready() {
                return Poll::Ready(if refused(socket) { News::Received(None) } else { News::Look });
            }
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                socket.poll_recv(context, &mut buffer).map(|received| match received {
                    Ok(()) => {
                        let payload = buffer.filled();
                        let share = self.budget.take(payload.len());
                        News::Received(Some((Bytes::copy_from_slice(payload), share)))
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => News::Received(None),
                    Err(error) => {
                        tracing::debug!(proxy = &*self.shared.name, %error, "the upstream could not be read");
                        News::Look
                    }
                })
            })
        })
        .await
    }

    fn take(&mut self, received: Option<(Bytes, Option<Share>)>) {
        let Some((payload, share)) = received else { return self.unreachable() };
        let now = Instant::now();
        self.refused = false;
        self.heard(now);
        add(&self.totals.received_downstream, 1);
        add(&self.shared.totals.received_downstream, payload.len());
        // What was injected before it came acts on it.
        self.follow_plan();
        match share {
            Some(share) => self.down.receive(payload, share, now),
            None => {
                add(&self.totals.dropped, 1);
                self.down.overflowed(1, payload.len());
            }
        }
    }

    /// What was carried; what still waits is lost with the session.
    pub fn moved(&mut self) -> Moved {
        self.read_inbox();
        let waiting = self.up.len() + self.down.len();
        add(&self.totals.dropped, waiting);
        let (up, down) = (self.up.done(), self.down.done());
        Moved {
            upstream: self.sent_upstream,
            downstream: self.sent_downstream,
            lost: up.lost + down.lost + waiting as u64,
            duplicated: up.duplicated + down.duplicated,
            reordered: up.reordered + down.reordered,
        }
    }
}

/// Takes the error of a socket; true when nobody is there.
fn refused(socket: &UdpSocket) -> bool {
    let error = socket.try_io(Interest::ERROR, || {
        // Without an error the socket counts as sound until the next one.
        socket.take_error()?.ok_or_else(|| ErrorKind::WouldBlock.into())
    });
    error.is_ok_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Sent {
    fn add(&mut self, payload: &[u8]) {
        self.datagrams += 1;
        self.bytes += payload.len() as u64;
    }
}
