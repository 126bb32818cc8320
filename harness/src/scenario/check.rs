//! One fact that a scenario wants: what is looked at, how it is compared, and from when in its window.

use std::time::Duration;

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
    /// Refused because the server was busy or a dependency of its away, over all that was due.
    RefusedRatio,
    /// How soon that was said.
    RefusedP99Ms,
    P50Ms,
    P95Ms,
    P99Ms,
    /// Acknowledged operations a second.
    OkRate,
}

impl Metric {
    pub const ALL: [(&'static str, Metric); 8] = [
        ("ok_ratio", Metric::OkRatio),
        ("unknown_ratio", Metric::UnknownRatio),
        ("refused_ratio", Metric::RefusedRatio),
        ("refused_p99_ms", Metric::RefusedP99Ms),
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
