//! What happens on proxies as it happens: each connection, and each thing that is done to it.
//!
//! Bounded: whoever reads too slowly loses the oldest events and is told how many. While nobody listens an event costs one
//! atomic load. The order of events of one connection is the order in which they happened.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::fault::Direction;
use crate::protocol::rule::Did;
use crate::toxic::effect::Effect;

/// Events that wait for a reader who is behind.
pub const KEPT: usize = 4096;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Microseconds since the Unix epoch.
    pub at_us: u64,
    pub proxy: Arc<str>,
    /// Counted for each proxy from 1; `None`: about the proxy as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    Accepted {
        client: String,
    },
    Dialled {
        upstream: String,
        took_us: u64,
    },
    DialFailed {
        upstream: String,
        reason: String,
    },
    /// TLS is spoken with a peer from now on.
    Secured {
        with: Peer,
        /// `1.2` or `1.3`.
        version: &'static str,
        took_us: u64,
    },
    /// A handshake failed or took too long, or a peer sent what is no TLS later on.
    TlsFailed {
        with: Peer,
        reason: String,
    },
    /// A fault or toxic acts on the connection for the first time.
    Struck {
        fault: u64,
        kind: &'static str,
    },
    /// A fault on messages acted on one.
    Message {
        fault: u64,
        direction: Direction,
        did: &'static str,
    },
    /// What a session of datagrams carried, right before it ended.
    Datagrams {
        /// Sent to the server.
        upstream: u64,
        /// Sent to the client.
        downstream: u64,
        /// By toxics and by full queues.
        lost: u64,
        duplicated: u64,
        reordered: u64,
    },
    Ended {
        how: How,
        /// Written to the server.
        bytes_upstream: u64,
        /// Written to the client.
        bytes_downstream: u64,
        lasted_us: u64,
    },
    /// A fault or toxic acts from now on, or acts with other values.
    Began {
        fault: u64,
        kind: &'static str,
        direction: Direction,
    },
    Healed {
        fault: u64,
    },
}

/// One of the two whom a proxy stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    Client,
    Server,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Both sides closed it, each in its own time.
    Finished,
    /// The proxy closed it: it was disabled or stopped, or an effect says so.
    Closed,
    /// The proxy reset it, because a fault says so.
    Reset,
    /// A peer reset it or vanished, which was passed on.
    Broken,
    /// The upstream could not be dialled.
    NoUpstream,
    /// Neither side of a session of datagrams had sent any for a while.
    Idle,
    /// There were too many sessions, and this one had been idle for longest.
    Displaced,
    /// The client or the upstream could not be spoken to by TLS.
    NoTls,
}

/// Where the events of a set of proxies go.
#[derive(Debug, Clone)]
pub(super) struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Events {
        Events(broadcast::Sender::new(KEPT))
    }
}

impl Events {
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    /// `what` is only made when somebody listens.
    pub fn say(&self, proxy: &Arc<str>, connection: Option<u64>, what: impl FnOnce() -> What) {
        if self.0.receiver_count() > 0 {
            // The last reader may have gone meanwhile.
            let _ = self.0.send(Event { at_us: now_us(), proxy: proxy.clone(), connection, what: what() });
        }
    }
}

impl What {
    pub(super) fn began(effect: &Effect) -> What {
        What::Began { fault: effect.id, kind: effect.kind.name(), direction: effect.direction }
    }
}

pub(super) fn did(did: Did) -> &'static str {
    match did {
        Did::Acted => "acted",
        Did::Missed => "missed",
        Did::Blind(_) => "blind",
    }
}

#[allow(clippy::disallowed_methods, reason = "sockets are the edge, and nothing is decided by this time")]
fn now_us() -> u64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
