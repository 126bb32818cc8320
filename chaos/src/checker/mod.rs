//! Checkers: pure functions from a history and the final state to a finding.
//!
//! A finding is valid, invalid or unknown, never silently absent; an invalid one lists every anomaly with the operations
//! that prove it. A checker that looked at nothing says `Unknown`, because a check of nothing proves nothing.

pub mod acked_writes;
pub mod delivery;
pub mod exactly_once;
pub mod idempotency;
mod keyed;
pub mod reads;
pub mod recovery;
pub mod subscriptions;
pub mod trend;

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

impl Finding {
    /// Judges by the anomalies: any is invalid; none is valid if something was examined, and unknown otherwise.
    /// Anomalies are sorted by time, then key.
    fn judged(invariant: &str, examined: usize, what: &str, mut anomalies: Vec<Anomaly>) -> Finding {
        anomalies.sort_by(|a, b| (a.at_ns, &a.key, &a.kind).cmp(&(b.at_ns, &b.key, &b.kind)));
        let (validity, summary) = if !anomalies.is_empty() {
            (Validity::Invalid, format!("{what}: {}", tally(&anomalies)))
        } else if examined == 0 {
            (Validity::Unknown, format!("{what}: nothing to examine, so nothing is proved"))
        } else {
            (Validity::Valid, format!("{what}: no contradiction"))
        };
        Finding { invariant: invariant.into(), validity, examined: examined as u64, summary, anomalies }
    }
}

/// `2 lost, 1 phantom`, in the order of the alphabet.
fn tally(anomalies: &[Anomaly]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for anomaly in anomalies {
        *counts.entry(anomaly.kind.as_str()).or_insert(0_usize) += 1;
    }
    let parts: Vec<String> = counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    parts.join(", ")
}
