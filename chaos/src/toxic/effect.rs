//! One effect that acts on a link, whoever asked for it: a fault of a scenario or a toxic of the API.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::clients::Clients;
use super::distribution::Distribution;
use crate::fault::{Direction, Evidence};

/// What acts, on which way of the link, and the record of what it touched.
#[derive(Debug)]
pub struct Effect {
    /// Stays the same when the effect's values are changed; `generation` then grows.
    pub id: u64,
    pub generation: u64,
    pub kind: Kind,
    pub direction: Direction,
    /// Probability, drawn for each connection and direction, that the effect acts there. At or above 1: always.
    pub toxicity: f32,
    /// Whose connections it concerns.
    pub clients: Clients,
    pub common: Arc<Common>,
    pub touched: Arc<Touched>,
}

impl Effect {
    /// True when the effect concerns the given way (`Upstream` or `Downstream`) of a link.
    pub fn covers(&self, way: Direction) -> bool {
        self.direction == Direction::Both || self.direction == way
    }
}

/// What an effect does. `Refuse` and `ConnectBlackhole` act on the listener, `Reset` and `FailFirst` on whole connections,
/// the rest on bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Noop,
    Refuse,
    /// Attempts to connect are not answered at all.
    ConnectBlackhole,
    Reset,
    /// Resets so many connections after they are accepted, and no more.
    FailFirst {
        connections: u64,
    },
    /// Swallows everything; a connection once silenced stays so.
    Silence,
    /// Keeps everything back until the effect is removed.
    Hold,
    Latency {
        delay: Duration,
        jitter: Duration,
    },
    /// A latency drawn for each chunk.
    LatencyDrawn(Distribution),
    /// 0: nothing passes until the effect is removed.
    Bandwidth {
        bytes_per_second: u64,
    },
    /// The same, for all connections together.
    SharedBandwidth {
        bytes_per_second: u64,
    },
    /// Keeps back what follows the first `after` bytes of a connection; `None`: until the effect is removed.
    Stall {
        after: u64,
        lasts: Option<Duration>,
    },
    /// Lets everything pass and keeps everything back, in turns that began with the effect.
    Flap {
        up: Duration,
        down: Duration,
    },
    /// Flips one bit in each byte that is drawn, with a probability in millionths.
    Corrupt {
        rate_ppm: u32,
    },
    /// Passes each chunk or datagram that is drawn twice, with a probability in millionths.
    Duplicate {
        rate_ppm: u32,
    },
    /// Holds a datagram that is drawn back until `gap` others have passed it, or for `hold`; one at a time.
    Reorder {
        rate_ppm: u32,
        gap: u64,
        hold: Duration,
    },
    /// Swallows what follows the first `bytes` of a connection; its end is passed on as it comes.
    Truncate {
        bytes: u64,
    },
    /// Swallows everything and closes so long after the last chunk; `None`: never. Removing it closes the connection.
    Timeout {
        after: Option<Duration>,
    },
    /// Swallows the first chunk or end and resets the connection so long after it.
    ResetPeer {
        after: Duration,
    },
    SlowClose {
        delay: Duration,
    },
    Slicer {
        average: u64,
        variation: u64,
        delay: Duration,
    },
    LimitData {
        bytes: u64,
    },
    /// Drops chunks, each with probability `rate`, or `rate + correlation` after one that was dropped.
    PacketLoss {
        rate: f64,
        correlation: f64,
    },
}

impl Kind {
    /// The word for it in events: Toxiproxy's where it has one, else the scenario files'.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Noop => "noop",
            Kind::Refuse => "refuse",
            Kind::ConnectBlackhole => "connect_blackhole",
            Kind::Reset => "reset",
            Kind::FailFirst { .. } => "fail_first",
            Kind::Silence => "blackhole",
            Kind::Hold => "hold",
            Kind::Latency { .. } => "latency",
            Kind::LatencyDrawn(distribution) => distribution.name(),
            Kind::Bandwidth { .. } => "bandwidth",
            Kind::SharedBandwidth { .. } => "shared_bandwidth",
            Kind::Stall { .. } => "stall",
            Kind::Flap { .. } => "flap",
            Kind::Corrupt { .. } => "corrupt",
            Kind::Duplicate { .. } => "duplicate",
            Kind::Reorder { .. } => "reorder",
            Kind::Truncate { .. } => "truncate",
            Kind::Timeout { .. } => "timeout",
            Kind::ResetPeer { .. } => "reset_peer",
            Kind::SlowClose { .. } => "slow_close",
            Kind::Slicer { .. } => "slicer",
            Kind::LimitData { .. } => "limit_data",
            Kind::PacketLoss { .. } => "packet_loss",
        }
    }
}

/// What all connections share that an effect acts on. It outlives changes of the effect's values.
#[derive(Debug)]
pub struct Common {
    /// When the effect began.
    pub since: Instant,
    /// Of the shared bandwidth: for which generation of the effect, and until when it is given away.
    reserved: Mutex<(u64, Option<Instant>)>,
    /// Connections that were failed.
    failed: AtomicU64,
}

impl Common {
    /// Of an effect that begins at `since`.
    pub fn new(since: Instant) -> Common {
        Common { since, reserved: Mutex::default(), failed: AtomicU64::new(0) }
    }

    /// Takes the next free stretch of a shared rate, no earlier than `earliest`; when it ends. What was reserved at the rate
    /// of an earlier generation is forgotten, and who has not heard of the change yet has no claim on the new rate.
    pub fn reserve(&self, generation: u64, earliest: Instant, takes: Duration) -> Instant {
        let mut reserved = self.reserved.lock();
        if generation < reserved.0 {
            return earliest + takes;
        }
        let until = reserved.1.filter(|_| reserved.0 == generation);
        let end = until.map_or(earliest, |until| until.max(earliest)) + takes;
        *reserved = (generation, Some(end));
        end
    }

    /// True for the first `connections` calls.
    pub fn fails(&self, connections: u64) -> bool {
        let count = |failed: u64| (failed < connections).then_some(failed + 1);
        self.failed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }
}

/// Evidence under collection: counters that only grow.
#[derive(Debug, Default)]
pub struct Touched {
    refused: AtomicU64,
    unanswered: AtomicU64,
    reset: AtomicU64,
    connections: AtomicU64,
    delayed: AtomicU64,
    swallowed: AtomicU64,
    forwarded: AtomicU64,
    corrupted: AtomicU64,
    duplicated: AtomicU64,
    lost_datagrams: AtomicU64,
    delayed_datagrams: AtomicU64,
    duplicated_datagrams: AtomicU64,
    reordered_datagrams: AtomicU64,
}

/// Datagrams that an effect touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Datagrams {
    pub lost: u64,
    pub delayed: u64,
    pub duplicated: u64,
    /// Passed by others that came after them.
    pub reordered: u64,
}

impl Touched {
    /// A datagram of so many bytes never leaves.
    pub fn add_lost_datagram(&self, bytes: usize) {
        self.add_swallowed(bytes);
        self.lost_datagrams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_delayed_datagram(&self, bytes: usize) {
        self.add_delayed(bytes);
        self.delayed_datagrams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_duplicated_datagram(&self, bytes: usize) {
        self.add_duplicated(bytes);
        self.duplicated_datagrams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_reordered_datagram(&self) {
        self.reordered_datagrams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn datagrams(&self) -> Datagrams {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Datagrams {
            lost: read(&self.lost_datagrams),
            delayed: read(&self.delayed_datagrams),
            duplicated: read(&self.duplicated_datagrams),
            reordered: read(&self.reordered_datagrams),
        }
    }

    pub fn add_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_unanswered(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_reset(&self) {
        self.reset.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_delayed(&self, bytes: usize) {
        self.delayed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn add_swallowed(&self, bytes: usize) {
        self.swallowed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn add_forwarded(&self, bytes: usize) {
        self.forwarded.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn add_corrupted(&self, bytes: usize) {
        self.corrupted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn add_duplicated(&self, bytes: usize) {
        self.duplicated.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn evidence(&self) -> Evidence {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Evidence {
            refused: read(&self.refused),
            unanswered: read(&self.unanswered),
            reset: read(&self.reset),
            connections: read(&self.connections),
            delayed_bytes: read(&self.delayed),
            swallowed_bytes: read(&self.swallowed),
            forwarded_bytes: read(&self.forwarded),
            corrupted_bytes: read(&self.corrupted),
            duplicated_bytes: read(&self.duplicated),
            ..Evidence::default()
        }
    }
}

/// Which effects have acted on one connection, so that each counts it once although it has two ways.
#[derive(Debug, Default)]
pub struct Marks {
    seen: Mutex<Vec<u64>>,
    fresh: Mutex<Vec<(u64, &'static str)>>,
    is_fresh: AtomicBool,
}

impl Marks {
    pub fn mark(&self, effect: &Effect) {
        let mut seen = self.seen.lock();
        if !seen.contains(&effect.id) {
            seen.push(effect.id);
            effect.touched.add_connection();
            self.fresh.lock().push((effect.id, effect.kind.name()));
            self.is_fresh.store(true, Ordering::Release);
        }
    }

    /// Ids and kinds of the effects that were marked since the last call.
    pub fn fresh(&self) -> Vec<(u64, &'static str)> {
        if !self.is_fresh.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.fresh.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reserved_at_another_rate_binds_nobody() {
        let start = Instant::now();
        let common = Common::new(start);
        let (slow, quick) = (Duration::from_secs(100), Duration::from_secs(1));
        assert_eq!(common.reserve(0, start, slow), start + slow);
        assert_eq!(common.reserve(0, start, slow), start + 2 * slow);
        assert_eq!(common.reserve(1, start, quick), start + quick);
        // A connection that has not seen the change yet.
        assert_eq!(common.reserve(0, start, slow), start + slow);
        assert_eq!(common.reserve(1, start, quick), start + 2 * quick);
    }
}
