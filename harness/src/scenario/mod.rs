//! Scenarios: a hypothesis, faults on a timeline, expectations; steady, inject, observe, recover, verify.
//!
//! A [`Scenario`] is what was checked; the structs of `file` are what was written. `timeline`, `steady_state` and
//! `judge` are pure: they get times and facts and return a plan or a verdict. Only `readback` and the runner touch
//! sockets.

pub mod assemble;
pub mod check;
pub mod conclude;
pub mod diagnostic;
pub mod evidence;
pub mod file;
mod inject;
pub mod injector;
pub mod judge;
pub mod lint;
pub mod overlay;
pub mod possible;
pub mod probe;
pub mod readback;
pub mod recovery;
mod rollout;
pub mod runner;
pub mod steady_state;
mod stubs;
mod subscribers;
pub mod suggest;
mod tally;
pub mod timeline;
pub mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use chaos::fault::NetworkFault;
use chaos::protocol::fault::WireFault;
use chaos::proxy::LinkFault;

use check::Check;
use evidence::Wanted;

use crate::environment::behind::Behind;
use crate::environment::stub::StubName;
use crate::load::clients::Clients;

/// The operations that load can issue, in the order of their class ids.
pub const CLASSES: [&str; 7] =
    ["products", "order", "createOrder", "updateOrderStatus", "requestInvoice", "paymentWebhook", "request"];

/// What a fault can act on.
pub const TARGETS: [&str; 8] = ["postgres", "redis", "nats", "runtime", LOAD, "webhook", "slack", "email"];

/// The target of faults that are the callers'.
pub const LOAD: &str = "load";

/// Invariants that `judge` knows, and the operation class without which each proves nothing.
pub const INVARIANTS: [(&str, &str); 9] = [
    ("no-acked-write-lost", "createOrder"),
    ("no-write-out-of-nothing", "createOrder"),
    ("one-order-per-key", "createOrder"),
    ("no-acked-status-lost", "updateOrderStatus"),
    ("invoice-exactly-once", "requestInvoice"),
    ("webhook-exactly-once", "paymentWebhook"),
    ("event-at-least-once", "createOrder"),
    ("event-reaches-subscribers", "createOrder"),
    ("api-equals-database", "createOrder"),
];

/// The invariant that needs subscribers.
pub const SUBSCRIBED: &str = "event-reaches-subscribers";

/// The invariant that counts deliveries under one message id.
pub const REPEATS: &str = "event-at-least-once";

/// Series that fill up while a dependency is away: looked at after every fault unless the file names others.
pub const DRAINED: [&str; 3] = ["outbox_pending", "queue_depth", "spool_jobs"];

/// The invariants to judge, by name.
pub type Invariants = BTreeMap<String, Asked>;

/// One hypothesis, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Same as the file's name without its extension.
    pub id: String,
    pub title: String,
    pub why: String,
    pub tags: Vec<String>,
    pub seed: u64,
    /// The whole run has to fit, start and read-back included.
    pub budget: Duration,
    /// `any`, `process`, `container` or `external`.
    pub backend: String,
    /// Others whom the server calls, stood in for.
    pub stubs: Vec<StubName>,
    /// Settings of the server under test by dotted key (`health.interval`).
    pub server_config: BTreeMap<String, toml::Value>,
    pub load: Load,
    pub steady_state: SteadyState,
    /// A field that gets a second function behind a flag.
    pub behind: Option<Behind>,
    /// In the order of the file.
    pub faults: Vec<Fault>,
    pub expectations: Vec<Expectation>,
    pub invariants: Invariants,
    pub recover: Recover,
}

impl Scenario {
    /// Whether the server has to know somebody who may do and read what its callers may not: to ask for a rollout, or to
    /// read back what they wrote when their limits are used up.
    pub fn needs_operator(&self) -> bool {
        self.behind.is_some() || self.server_config.keys().any(|key| key.starts_with("limits."))
    }
}

/// What is asked of an invariant beyond that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// How many deliveries beyond the first of a message have to be seen; with fewer, that repetitions are recognisable
    /// was not put to the test, and the run is inconclusive.
    pub min_repetitions: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Arrivals per second.
    pub rate: f64,
    pub users: u32,
    /// Clients that listen to the events of orders from before the load until the final state was read.
    pub subscribers: u32,
    /// Whose keys the requests show, in turn.
    pub callers: Clients,
    /// That some of it is refused is what the scenario is about, and no error.
    pub may_be_refused: bool,
    pub lasts: Duration,
    /// Weights by class name; classes that are absent are not issued.
    pub mix: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SteadyState {
    /// How long it has to hold before the first fault.
    pub window: Duration,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub id: String,
    /// One of [`TARGETS`].
    pub target: String,
    pub inject: Inject,
    pub start: Start,
    /// From injection to healing; zero for what acts in an instant.
    pub lasts: Duration,
    pub evidence: Wanted,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Inject {
    Network(NetworkFault),
    /// On messages, as the proxy understands them.
    Wire(WireFault),
    /// SIGKILL to the whole tree; started again, at the same address, when healed.
    Kill,
    /// SIGSTOP to the whole tree; SIGCONT when healed.
    Pause,
    /// What it uses becomes this share of the memory that it may use, in percent.
    Memory {
        used_percent: u32,
    },
    /// SIGTERM with this much time to end; started again when healed.
    Terminate {
        grace: Duration,
    },
    /// So many requests a second instead of the load's own rate.
    Surge {
        rate: f64,
    },
    /// Every call is answered with this status instead of being taken; `at_once`: all of them when this heals.
    Answer {
        status: u16,
        at_once: bool,
    },
    /// The server is asked for a rollout of the flag that a field is behind; it has to have come to an end when this heals.
    Rollout {
        /// What is posted.
        plan: serde_json::Value,
    },
}

impl Inject {
    /// The word for it in files, histories and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Inject::Network(fault) => fault.kind(),
            Inject::Wire(fault) => fault.kind(),
            Inject::Kill => "kill",
            Inject::Pause => "pause",
            Inject::Memory { .. } => "memory",
            Inject::Terminate { .. } => "terminate",
            Inject::Surge { .. } => "surge",
            Inject::Answer { .. } => "answer",
            Inject::Rollout { .. } => "rollout",
        }
    }

    /// As a link takes it; `None` for a fault on a process.
    pub fn on_link(&self) -> Option<LinkFault> {
        match self {
            Inject::Network(fault) => Some(LinkFault::Network(fault.clone())),
            Inject::Wire(fault) => Some(LinkFault::Wire(fault.clone())),
            Inject::Kill
            | Inject::Pause
            | Inject::Memory { .. }
            | Inject::Terminate { .. }
            | Inject::Surge { .. }
            | Inject::Answer { .. }
            | Inject::Rollout { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// From the start of the load.
    At(Duration),
    /// From the healing of another fault of this scenario.
    After { fault: String, delay: Duration },
}

/// What has to hold in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    pub window: Window,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// From the start of the load to the first fault.
    Before,
    /// From injection to healing of the fault.
    During(String),
    /// From healing of the fault to the next fault or the end of the load.
    After(String),
    /// The whole load.
    Always,
    /// After the load, with every fault healed and the queues drained.
    End,
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Window::Before => f.write_str("before"),
            Window::During(id) => write!(f, "during:{id}"),
            Window::After(id) => write!(f, "after:{id}"),
            Window::Always => f.write_str("always"),
            Window::End => f.write_str("end"),
        }
    }
}

/// How soon after a healing the steady state has to be back, and what queued up has to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recover {
    pub within: Duration,
    /// It counts as back only when it then holds this long.
    pub stable: Duration,
    pub drain: Drain,
}

/// Series that have to be back at what they were before the first fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    pub series: Vec<String>,
    /// The file names them: one that was never sampled is then undecided, where a default is passed over.
    pub named: bool,
    pub within: Duration,
}
