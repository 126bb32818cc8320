//! Reaching the upstream, and what becomes of a client when that fails.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::DIAL_TIMEOUT;
use super::event::{What, micros};
use super::side::Side;
use super::state::Shared;
use crate::fault::Direction;
use crate::toxic::effect::{Effect, Kind, Touched};
use crate::toxic::pipeline::Finish;

/// Pause between two dials for one client.
const RETRY: Duration = Duration::from_millis(100);

/// What becomes of a client whose upstream cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DialFailure {
    /// Its connection is closed, as Toxiproxy does.
    #[default]
    Close,
    /// Its connection is reset: nearest to the refusal that it would have met without a proxy.
    Reset,
    /// It waits while the upstream is dialled again and again, for 30 s at most; then its connection is closed. A client that
    /// resets its connection, or ends it before it has sent a byte, is not waited with. One that sent something and then its
    /// end may have half closed: its bytes are kept for the upstream.
    Retry,
}

impl DialFailure {
    pub const ALL: [DialFailure; 3] = [DialFailure::Close, DialFailure::Reset, DialFailure::Retry];

    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            DialFailure::Close => "close",
            DialFailure::Reset => "reset",
            DialFailure::Retry => "retry",
        }
    }

    /// How a client ends whose upstream was not reached.
    pub(super) fn finish(self) -> Finish {
        match self {
            DialFailure::Close | DialFailure::Retry => Finish::Close,
            DialFailure::Reset => Finish::Reset,
        }
    }
}

/// Reaches `upstream` for a connection; `None` when it cannot be reached as the proxy wants it tried, or the client left
/// while it waited.
pub(super) async fn dial(
    shared: &Shared,
    number: u64,
    upstream: String,
    client: &mut impl Side,
) -> Option<TcpStream> {
    let until = Instant::now() + DIAL_TIMEOUT;
    if shared.dial_failure != DialFailure::Retry {
        return dial_once(shared, number, upstream, until).await;
    }
    tokio::select! {
        biased;
        server = dial_again(shared, number, upstream, until) => server,
        () = client.gone() => {
            tracing::debug!(proxy = &*shared.name, number, "a client left before its upstream was reached");
            None
        }
    }
}

/// Dials until it is answered, or there is no time for another dial.
async fn dial_again(shared: &Shared, number: u64, upstream: String, until: Instant) -> Option<TcpStream> {
    loop {
        let server = dial_once(shared, number, upstream.clone(), until).await;
        if server.is_some() || Instant::now() + RETRY >= until {
            return server;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Dials once; `None` when there is no answer `until` then, which is counted and told.
async fn dial_once(shared: &Shared, number: u64, upstream: String, until: Instant) -> Option<TcpStream> {
    let began = Instant::now();
    let reason = match tokio::time::timeout_at(until.into(), TcpStream::connect(&upstream)).await {
        Ok(Ok(server)) => {
            let took_us = micros(began.elapsed());
            shared.say(Some(number), || What::Dialled { upstream, took_us });
            return Some(server);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", began.elapsed().as_secs()),
    };
    shared.totals.refused_dials.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(proxy = &*shared.name, upstream, reason, "failed to dial the upstream");
    shared.say(Some(number), || What::DialFailed { upstream, reason });
    None
}

/// A client whose upstream cannot be reached is closed; behind a blackhole it is not told, and what it sends vanishes.
pub(super) async fn stay_silent(shared: &Shared, client: &mut impl Side, peer: IpAddr) {
    let silences = |effect: &&Arc<Effect>| {
        effect.kind == Kind::Silence && effect.covers(Direction::Downstream) && effect.clients.contain(peer)
    };
    let Some(effect) = shared.followed.plan.borrow().effects.iter().find(silences).cloned() else { return };
    effect.touched.add_connection();
    poll_fn(|context| swallow(context, client, &effect.touched)).await;
}

/// Ready when the client goes.
fn swallow(context: &mut Context<'_>, client: &mut impl Side, touched: &Touched) -> Poll<()> {
    let mut scratch = [0; 4096];
    loop {
        let mut buffer = ReadBuf::new(&mut scratch);
        match client.poll_read(context, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                touched.add_swallowed(buffer.filled().len());
            }
            Poll::Ready(_) => return Poll::Ready(()),
        }
    }
}
