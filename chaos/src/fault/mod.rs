//! Faults: what can be done to a link or a process, and the proof that it was done.
//!
//! A fault acts until its guard is healed or dropped. It counts what it touched while it acts; a fault whose evidence
//! stays empty proved nothing, and the run that relied on it is inconclusive.

pub mod process;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a fault on a link does. Each acts on new and on live connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkFault {
    /// Every byte is delivered `delay` later, give or take `jitter` (uniform); order is kept.
    Latency {
        #[serde(with = "humantime_serde")]
        delay: Duration,
        #[serde(default, with = "humantime_serde")]
        jitter: Duration,
        #[serde(default)]
        direction: Direction,
    },
    /// New connections are refused (the listener is closed: ECONNREFUSED).
    Refuse {
        #[serde(default)]
        existing: Existing,
    },
    /// Live connections, idle ones too, end with a TCP RST at once; connections made while it acts are reset after
    /// they are accepted.
    Reset {},
    /// Bytes vanish and nobody is told: no FIN, no RST, the TCP peer keeps acknowledging.
    Blackhole {
        /// True: connections that were silenced stay silent after the fault is healed, until their peer gives up.
        #[serde(default = "yes")]
        sticky: bool,
        #[serde(default)]
        direction: Direction,
    },
    /// At most so many bytes a second on each connection and direction.
    Bandwidth {
        bytes_per_second: u64,
        #[serde(default)]
        direction: Direction,
    },
}

impl NetworkFault {
    /// The word for it in scenario files, histories and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            NetworkFault::Latency { .. } => "latency",
            NetworkFault::Refuse { .. } => "refuse",
            NetworkFault::Reset {} => "reset",
            NetworkFault::Blackhole { .. } => "blackhole",
            NetworkFault::Bandwidth { .. } => "bandwidth",
        }
    }
}

/// Which way of a link: *upstream* runs from the client to the server, *downstream* back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    #[default]
    Both,
    Upstream,
    Downstream,
}

/// What happens to connections that are open when new ones begin to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    Keep,
    #[default]
    Reset,
}

/// What a fault touched. All counters only grow while the fault acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Connection attempts that got ECONNREFUSED or were closed at once. A closed listener cannot see attempts; they
    /// are counted from the client side where the harness can (`refused` is then filled by the runner).
    pub refused: u64,
    /// Connections ended with RST.
    pub reset: u64,
    /// Live connections that the fault acted on.
    pub connections: u64,
    pub delayed_bytes: u64,
    pub swallowed_bytes: u64,
    pub forwarded_bytes: u64,
    /// Processes that were signalled and seen to change state (ended, stopped).
    pub processes: u64,
    /// Messages that a fault on messages was about.
    pub matched: u64,
    /// Messages on which it acted, completely.
    pub acted: u64,
    /// Messages on which it began to act, but which the server failed by itself.
    pub missed: u64,
    /// Connections and messages that it could not see, because they were encrypted or not understood.
    pub blind: u64,
}

impl Evidence {
    /// True when the fault touched nothing at all.
    pub fn is_empty(&self) -> bool {
        self.refused == 0
            && self.reset == 0
            && self.delayed_bytes == 0
            && self.swallowed_bytes == 0
            && self.processes == 0
            && self.acted == 0
    }
}

fn yes() -> bool {
    true
}
