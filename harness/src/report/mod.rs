//! One result, many forms: terminal, JSON, Markdown, JUnit, HTML.
//!
//! A [`RunReport`] is everything a person or a tool is told about a run. It is plain data: written once as
//! `report.json`, and every other form is a pure function of it, so that `harness report` can render an old run again.
//! Times are seconds since the start of the load, latencies milliseconds; nothing here reads a clock or a socket.

pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod svg;
pub mod terminal;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chaos::fault::Evidence;
use serde::{Deserialize, Serialize};

use crate::verdict::{Criterion, Outcome, Verdict};

/// Format of `report.json`; readers refuse another one.
pub const SCHEMA: &str = "report/v1";

/// Most anomalies that a report lists one by one; the rest are counted in [`RunReport::anomalies_omitted`].
pub const ANOMALIES_MAX: usize = 50;

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// Always [`SCHEMA`].
    pub schema: String,
    pub run: RunInfo,
    pub environment: EnvironmentInfo,
    pub verdict: Verdict,
    /// In the order they were judged.
    pub criteria: Vec<Criterion>,
    /// `None` when no load was driven.
    pub load: Option<LoadFigures>,
    /// One row per operation class.
    pub classes: Vec<ClassFigures>,
    /// One point per second of the run, by intended start.
    pub seconds: Vec<SecondPoint>,
    /// Series name (`runtime.anonymous_bytes`, `outbox_pending`) to points of (second, value).
    pub samples: BTreeMap<String, Vec<(f64, f64)>>,
    /// Changes only, oldest first.
    pub health: Vec<HealthChange>,
    pub faults: Vec<FaultReport>,
    pub anomalies: Vec<AnomalyReport>,
    /// Anomalies that were found and not listed.
    pub anomalies_omitted: u64,
    /// Objectives drawn into the latency lane.
    pub objectives: Objectives,
    /// The command that does the same again.
    pub replay: String,
}

/// Which run it was, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    pub id: String,
    /// What a person calls it: the scenario's title or `soak, 2 minutes`.
    pub title: String,
    /// The hypothesis, one sentence; empty where there is none.
    pub why: String,
    pub command: String,
    pub seed: u64,
    /// RFC 3339.
    pub started: String,
    pub duration_s: f64,
    pub host: Host,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub os: String,
    pub kernel: String,
    pub cores: u32,
    pub memory_bytes: u64,
}

/// What the run ran against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentInfo {
    /// `container`, `process`, `external`, or `target` for a server that the user started.
    pub backend: String,
    /// Why this backend and not another, one sentence.
    pub backend_reason: String,
    /// The server under test: version, build, where it came from.
    pub server: String,
    pub services: Vec<ServiceInfo>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceInfo {
    pub name: String,
    pub version: String,
    /// The settings that matter to the claims: `fsync`, `appendonly` …
    pub settings: BTreeMap<String, String>,
}

/// How the load went, and whether the generator was good enough to judge by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadFigures {
    pub profile: String,
    pub scheduled: u64,
    pub released: u64,
    pub answered: u64,
    pub dropped: u64,
    pub target_rate: f64,
    pub achieved_rate: f64,
    pub wake_lag_p50_ms: f64,
    pub wake_lag_p99_ms: f64,
    pub generator_cpu_seconds: f64,
    pub server_cpu_seconds: Option<f64>,
    /// Share of the machine's CPU that other processes took, 0 to 1.
    pub other_cpu_share: f64,
}

impl LoadFigures {
    /// Length of the schedule in seconds: the run also has its start and its end, and builds the server where needed.
    pub fn schedule_s(&self) -> f64 {
        if self.target_rate > 0.0 { self.scheduled as f64 / self.target_rate } else { 0.0 }
    }
}

/// One operation class over the whole run; percentiles from the intended start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassFigures {
    pub class: String,
    pub ok: u64,
    pub fail: u64,
    pub unknown: u64,
    pub dropped: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl ClassFigures {
    pub fn total(&self) -> u64 {
        self.ok + self.fail + self.unknown + self.dropped
    }
}

/// One second of the run. Counts are of operations whose intended start lies in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondPoint {
    pub second: u32,
    /// What the schedule wanted.
    pub target: f64,
    pub ok: u64,
    pub fail: u64,
    pub unknown: u64,
    pub dropped: u64,
    /// `None` when nothing completed.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthChange {
    pub at_s: f64,
    /// `health`, `ready`, `dependency.redis` …
    pub subject: String,
    pub state: String,
}

/// One injected fault, what it touched and how long the system took to come back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultReport {
    pub id: String,
    pub kind: String,
    pub target: String,
    pub injected_s: f64,
    /// `None`: it was never healed, which is residue.
    pub healed_s: Option<f64>,
    pub verified_gone: bool,
    /// How long after healing the steady state may be away.
    pub recovery_budget_s: f64,
    /// When the steady state was back and stayed; `None`: not seen.
    pub recovered_s: Option<f64>,
    /// When what had queued up (outbox, queue, spool) was gone; `None`: not seen, or nothing was looked at.
    #[serde(default)]
    pub drained_s: Option<f64>,
    pub evidence: Evidence,
    /// The clauses that had to hold: `refused >= 1`.
    pub wanted: Vec<String>,
    /// All of them held.
    pub bit: bool,
}

/// One contradiction with what proves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnomalyReport {
    pub invariant: String,
    pub kind: String,
    pub key: String,
    pub at_s: Option<f64>,
    pub explanation: String,
    /// The operations, oldest first, a line each.
    pub operations: Vec<String>,
}

/// What the run is held to, where one number says it; drawn as dashed lines.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// Failure to read or write a report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read report {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("write report {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("report {path} is not a report of this program")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("report {path} has schema `{found}`, this program reads `{SCHEMA}`")]
    Schema { path: PathBuf, found: String },
}

/// Where the forms of a report were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub json: PathBuf,
    pub markdown: PathBuf,
    pub junit: PathBuf,
    pub html: PathBuf,
}

/// Writes `report.{json,md,html}` and `junit.xml` into `folder`.
pub fn write_all(report: &RunReport, folder: &Path) -> Result<Written, Error> {
    let written = Written {
        json: folder.join("report.json"),
        markdown: folder.join("report.md"),
        junit: folder.join("junit.xml"),
        html: folder.join("report.html"),
    };
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).map_err(|source| Error::Write { path: path.clone(), source })
    };
    write(&written.json, json::render(report))?;
    write(&written.markdown, markdown::render(report))?;
    write(&written.junit, junit::render(report))?;
    write(&written.html, html::render(report))?;
    Ok(written)
}

impl RunReport {
    /// Criteria that did not pass, worst kind of trouble first as the verdict weighs them, else in their order.
    pub fn failures(&self) -> Vec<&Criterion> {
        let mut failures: Vec<_> = self.criteria.iter().filter(|c| is_trouble(&c.outcome)).collect();
        failures.sort_by_key(|c| (c.outcome != Outcome::Fail, c.kind as u8));
        failures
    }

    /// Most seconds on the time axis: the load's length or the last thing that happened, at least 1.
    pub fn span_s(&self) -> f64 {
        let seconds = self.seconds.last().map_or(0.0, |s| f64::from(s.second) + 1.0);
        let faults = self.faults.iter().filter_map(|f| f.healed_s).fold(0.0, f64::max);
        seconds.max(faults).max(1.0)
    }
}

/// True for what a reader has to look at: failed, undecided, not run. Not judged is a remark.
fn is_trouble(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Fail | Outcome::Inconclusive(_) | Outcome::NotRun(_))
}
