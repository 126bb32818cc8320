//! Checkers: pure functions from a history and the final state to a finding.
//!
//! A finding is valid, invalid or unknown, never silently absent; an invalid one lists every anomaly with the operations
//! that prove it. A checker that looked at nothing says `Unknown`, because a check of nothing proves nothing.

use serde::{Deserialize, Serialize};

use crate::history::OpId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validity {
    Valid,
    Invalid,
    Unknown,
}

/// The result of one checker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the invariant: `no-acked-write-lost`.
    pub invariant: String,
    pub validity: Validity,
    /// How many facts were examined.
    pub examined: u64,
    /// One sentence with the figures, for a person.
    pub summary: String,
    pub anomalies: Vec<Anomaly>,
}

/// One contradiction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// `lost`, `phantom`, `duplicate`, `different-answer`, `late`, `residue` …
    pub kind: String,
    pub key: String,
    /// The operations that prove it, oldest first; may be empty for a phantom.
    pub ops: Vec<OpId>,
    /// When the contradiction became visible, in nanoseconds of the history.
    pub at_ns: Option<u64>,
    /// Two lines at most, for a person.
    pub explanation: String,
}
