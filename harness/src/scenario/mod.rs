//! Scenarios: a hypothesis, faults on a timeline, expectations; steady, inject, observe, recover, verify.
//!
//! A [`Scenario`] is what was checked; the structs of `file` are what was written. `timeline`, `steady_state` and
//! `judge` are pure: they get times and facts and return a plan or a verdict. Only `readback` and the runner touch
//! sockets.

pub mod assemble;
pub mod diagnostic;
pub mod file;
pub mod injector;
pub mod judge;
pub mod lint;
pub mod readback;
pub mod runner;
pub mod steady_state;
pub mod suggest;
pub mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chaos::fault::{Evidence, NetworkFault};

/// The operations that load can issue, in the order of their class ids.
pub const CLASSES: [&str; 6] =
    ["products", "order", "createOrder", "updateOrderStatus", "requestInvoice", "request"];

/// What a fault can act on.
pub const TARGETS: [&str; 4] = ["postgres", "redis", "nats", "runtime"];

/// Invariants that `judge` knows, and the operation class without which each proves nothing.
pub const INVARIANTS: [(&str, &str); 7] = [
    ("no-acked-write-lost", "createOrder"),
    ("no-write-out-of-nothing", "createOrder"),
    ("one-order-per-key", "createOrder"),
    ("no-acked-status-lost", "updateOrderStatus"),
    ("invoice-exactly-once", "requestInvoice"),
    ("event-at-least-once", "createOrder"),
    ("api-equals-database", "createOrder"),
];

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
    /// Settings of the server under test by dotted key (`health.interval`).
    pub server_config: BTreeMap<String, toml::Value>,
    pub load: Load,
    pub steady_state: SteadyState,
    /// In the order of the file.
    pub faults: Vec<Fault>,
    pub expectations: Vec<Expectation>,
    pub invariants: BTreeSet<String>,
    pub recover: Recover,
}

impl Scenario {
    /// `server_config` as nested tables: `"health.interval" = "2s"` becomes `[health] interval = "2s"`. A later key wins
    /// over an earlier one that is not a table.
    pub fn server_table(&self) -> toml::Table {
        let mut root = toml::Table::new();
        for (dotted, value) in &self.server_config {
            let mut parts: Vec<&str> = dotted.split('.').collect();
            let last = parts.pop().expect("split gives one part at least");
            let mut table = &mut root;
            for part in parts {
                let entry = table.entry(part).or_insert_with(|| toml::Table::new().into());
                if !entry.is_table() {
                    *entry = toml::Table::new().into();
                }
                table = entry.as_table_mut().expect("made a table above");
            }
            table.insert(last.to_owned(), value.clone());
        }
        root
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Arrivals per second.
    pub rate: f64,
    pub users: u32,
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
    /// SIGKILL to the whole tree; started again, at the same address, when healed.
    Kill,
    /// SIGSTOP to the whole tree; SIGCONT when healed.
    Pause,
    /// SIGTERM with this much time to end; started again when healed.
    Terminate {
        grace: Duration,
    },
}

impl Inject {
    /// The word for it in files, histories and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Inject::Network(fault) => fault.kind(),
            Inject::Kill => "kill",
            Inject::Pause => "pause",
            Inject::Terminate { .. } => "terminate",
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

/// What is counted, the least of it, and where it is found.
type Clause = (&'static str, u64, fn(&Evidence) -> u64);

/// The least a fault has to touch to have been a test at all. Zero asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    pub refused: u64,
    pub reset: u64,
    pub connections: u64,
    pub delayed_bytes: u64,
    pub swallowed_bytes: u64,
    pub forwarded_bytes: u64,
    pub processes: u64,
}

impl Wanted {
    fn clauses(&self) -> [Clause; 7] {
        [
            ("refused", self.refused, |e| e.refused),
            ("reset", self.reset, |e| e.reset),
            ("live connections", self.connections, |e| e.connections),
            ("delayed bytes", self.delayed_bytes, |e| e.delayed_bytes),
            ("swallowed bytes", self.swallowed_bytes, |e| e.swallowed_bytes),
            ("forwarded bytes", self.forwarded_bytes, |e| e.forwarded_bytes),
            ("processes", self.processes, |e| e.processes),
        ]
    }

    /// True when every clause asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Wanted::default()
    }

    /// The clauses for a person: `refused >= 1`.
    pub fn sentences(&self) -> Vec<String> {
        self.clauses().iter().filter(|c| c.1 > 0).map(|(what, min, _)| format!("{what} >= {min}")).collect()
    }

    /// The clauses that `found` does not meet; empty: the fault bit.
    pub fn missing(&self, found: &Evidence) -> Vec<String> {
        self.clauses()
            .iter()
            .filter(|(_, min, of)| of(found) < *min)
            .map(|(what, min, of)| format!("{what} {} of at least {min}", of(found)))
            .collect()
    }
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

/// One fact that has to hold from `within` after the start of its window to the window's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub name: String,
    pub subject: Subject,
    pub within: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// Over the operations of the window whose intended start lies in it; no classes: all of them.
    Metric { metric: Metric, classes: Vec<String>, op: Op, value: f64 },
    /// A series that was sampled (`outbox_pending`).
    Series { series: String, op: Op, value: f64 },
    /// `status` of an answer and, where given, one value of its JSON by pointer (RFC 6901).
    Http { path: String, status: Option<u16>, json: Option<(String, Op, serde_json::Value)> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Answered as asked over all that was due, dropped arrivals included.
    OkRatio,
    /// Outcome not known (timeouts, resets, 5xx) over all that was due.
    UnknownRatio,
    P50Ms,
    P95Ms,
    P99Ms,
    /// Acknowledged operations a second.
    OkRate,
}

impl Metric {
    pub const ALL: [(&'static str, Metric); 6] = [
        ("ok_ratio", Metric::OkRatio),
        ("unknown_ratio", Metric::UnknownRatio),
        ("p50_ms", Metric::P50Ms),
        ("p95_ms", Metric::P95Ms),
        ("p99_ms", Metric::P99Ms),
        ("ok_rate", Metric::OkRate),
    ];

    pub fn name(self) -> &'static str {
        Metric::ALL.iter().find(|(_, m)| *m == self).expect("every metric is in ALL").0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// The series' highest value in the window lies above its first by at least `value`.
    Increases,
}

impl Op {
    pub const ALL: [(&'static str, Op); 7] = [
        ("==", Op::Eq),
        ("!=", Op::Ne),
        ("<", Op::Lt),
        ("<=", Op::Le),
        (">", Op::Gt),
        (">=", Op::Ge),
        ("increases", Op::Increases),
    ];

    pub fn sign(self) -> &'static str {
        Op::ALL.iter().find(|(_, op)| *op == self).expect("every operator is in ALL").0
    }

    /// Whether `found op wanted`; `Increases` is not a comparison of two numbers and is false here.
    pub fn holds(self, found: f64, wanted: f64) -> bool {
        match self {
            Op::Eq => found == wanted,
            Op::Ne => found != wanted,
            Op::Lt => found < wanted,
            Op::Le => found <= wanted,
            Op::Gt => found > wanted,
            Op::Ge => found >= wanted,
            Op::Increases => false,
        }
    }
}

/// How soon after the last healing the steady state has to be back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recover {
    pub within: Duration,
    /// It counts as back only when it then holds this long.
    pub stable: Duration,
}
