//! Operations: what a client asked for and what came of it.

use serde::{Deserialize, Serialize};

/// Number of an operation, unique in a run, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// Index into [`super::Header::classes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClassId(pub u16);

/// What is known of an operation's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Acknowledged: it happened.
    Ok,
    /// Refused before it was executed: it did not happen.
    Fail,
    /// No answer, or an answer that does not tell: it may have happened, now or later.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoke {
    pub op: OpId,
    pub process: u32,
    pub class: ClassId,
    /// When the schedule wanted it to start; latency counts from here.
    pub intended_ns: u64,
    /// What the operation is about: an idempotency key, an order id.
    pub key: String,
    /// What it writes, unique in the run; empty for reads.
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    pub op: OpId,
    pub outcome: Outcome,
    /// Status or error code, from a small set: `200`, `timeout`, `reset`, `VALIDATION` …
    pub code: String,
    /// The answer in a canonical form: equal answers are equal strings. Empty where there is none.
    pub answer: String,
}

/// An invoke joined with its completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub op: OpId,
    pub process: u32,
    pub class: ClassId,
    pub intended_ns: u64,
    pub invoked_ns: u64,
    /// `None`: it never completed, and its outcome is [`Outcome::Unknown`].
    pub completed_ns: Option<u64>,
    pub key: String,
    pub value: String,
    pub outcome: Outcome,
    pub code: String,
    pub answer: String,
}
