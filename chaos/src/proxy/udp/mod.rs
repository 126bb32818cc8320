//! Proxies of datagrams: each client address has a session with an upstream socket of its own.
//!
//! Without a toxic every datagram that is read is sent, whole and once, in the order of its arrival. Sessions are bounded
//! in number and in what they queue: the one that has been idle for longest makes room for a new one, and what does not
//! fit into a queue is dropped and counted. An upstream that is away ends nothing. What is decided is decided in
//! [`table`] and [`pipeline`], which are pure; sockets are in [`listener`], [`session`] and [`flow`]. Toxics that are about
//! connections are refused.

pub mod budget;
mod flow;
mod listener;
pub mod pipeline;
mod session;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::{Error, address};
use budget::Budget;
pub(super) use listener::run;

/// How long a session lasts in which nothing is said, unless the proxy is told otherwise.
pub const IDLE: Duration = Duration::from_secs(60);
/// Sessions of one proxy.
const SESSIONS_MAX: usize = 4096;
/// Queue of each way of a session.
const SESSION_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// All queues of a proxy together.
const PROXY_QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// What a proxy of datagrams is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// A session ends when neither side has sent anything for so long.
    pub idle: Duration,
    /// The session that has been idle for longest makes room for one more.
    pub sessions_max: usize,
    /// What each way of a session may keep back; what comes on top is dropped.
    pub queue_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { idle: IDLE, sessions_max: SESSIONS_MAX, queue_bytes_max: SESSION_QUEUE_BYTES }
    }
}

/// Datagrams of a proxy since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Read from clients.
    pub received_upstream: u64,
    /// Read from the server.
    pub received_downstream: u64,
    /// Sent to the server.
    pub sent_upstream: u64,
    /// Sent to clients.
    pub sent_downstream: u64,
    /// Dropped because a queue was full, a socket refused them, or their session ended; not what a toxic lost.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Totals {
    received_upstream: AtomicU64,
    received_downstream: AtomicU64,
    sent_upstream: AtomicU64,
    sent_downstream: AtomicU64,
    dropped: AtomicU64,
}

/// What a proxy of datagrams has beside what all proxies share.
#[derive(Debug)]
pub(super) struct Udp {
    pub config: Config,
    totals: Totals,
    budget: Arc<Budget>,
    /// A bound socket for the listener task, from a caller that wanted to see binding fail.
    handover: Mutex<Option<UdpSocket>>,
}

impl Udp {
    pub fn new(config: Config) -> Udp {
        let budget = Budget::new(PROXY_QUEUE_BYTES.max(config.queue_bytes_max));
        Udp { config, totals: Totals::default(), budget, handover: Mutex::new(None) }
    }

    /// Binds `host:port` for the listener task; the address.
    pub async fn bind_text(&self, listen: &str) -> Result<std::net::SocketAddr, Error> {
        let address = address::resolve(listen).await.map_err(Error::UnresolvedUdp)?;
        let failed = |source| Error::ListenUdp { address: address.to_string(), source };
        let socket = listener::bind(address).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        *self.handover.lock() = Some(socket);
        Ok(bound)
    }

    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let totals = &self.totals;
        Counters {
            received_upstream: read(&totals.received_upstream),
            received_downstream: read(&totals.received_downstream),
            sent_upstream: read(&totals.sent_upstream),
            sent_downstream: read(&totals.sent_downstream),
            dropped: read(&totals.dropped),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
