//! The history of a run: one append-only file with every operation and everything that happened beside it, on one
//! monotonic clock (nanoseconds since the run's start).
//!
//! Terms are Jepsen's: a *process* is a logical client that does one operation at a time; an operation is an invoke
//! followed by a completion that is ok, fail or unknown. An operation without a completion is unknown. A process whose
//! operation ended unknown is not used again: its next operation runs under a new process number.
//!
//! The file survives its writer: what was flushed before a SIGKILL is readable, a record cut in the middle at the end is
//! passed over and reported. Damage anywhere else is an error that names its offset, never a shorter history.

mod export;
mod file;
mod load;
pub mod op;

use serde::{Deserialize, Serialize};

pub use export::{Exported, export_jsonl};
pub use file::{Error, RECORD_BYTES_MAX, Reader, VERSION, Writer};
pub use load::{History, read};
pub use op::{ClassId, Complete, Invoke, OpId, Operation, Outcome};

use crate::fault::Evidence;

/// First record of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Format of the file, [`VERSION`]; readers refuse a number they do not know.
    pub version: u32,
    pub run: String,
    pub seed: u64,
    /// Wall clock at time zero of the history, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Names of the operation classes; a [`ClassId`] is an index into it.
    pub classes: Vec<String>,
}

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at_ns: u64,
    pub record: Record,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Invoke(Invoke),
    Complete(Complete),
    Fault(FaultRecord),
    Health(HealthRecord),
    Sample(SampleRecord),
}

/// A step in the life of an injected fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Unique in the run, for instance `redis-refused#1`.
    pub id: String,
    /// Wire name of the fault kind: `latency`, `refuse`, `kill` …
    pub kind: String,
    /// What it acts on: `postgres`, `redis`, `nats`, `runtime`.
    pub target: String,
    pub phase: FaultPhase,
    pub evidence: Evidence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultPhase {
    Injected,
    Healed,
    /// Healed, and checked from outside that nothing of it is left.
    VerifiedGone,
}

/// A state that was observed to change or hold: `subject` is `health`, `ready`, `dependency.redis` …
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    pub subject: String,
    pub state: String,
}

/// A number that was observed: `series` is `runtime.anonymous_bytes`, `runtime.fds` …
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    pub series: String,
    pub value: f64,
}
