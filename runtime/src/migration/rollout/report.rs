//! A rollout as people and programs read it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::machine::{Step, percentage, word};
use super::plan::Plan;
use super::samples::Samples;
use super::store::Stored;
use crate::feature_flags::cohorts::Sample;

/// What it is and what its gate sees.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The flag.
    pub feature: String,
    /// `deploy`, `migrate`, `canary`, `rollout`, `cleanup` or `complete`.
    pub phase: &'static str,
    /// What was reached.
    pub percentage: u8,
    /// `running`, `waiting`, `paused`, `rolled_back` or `complete`.
    pub status: &'static str,
    /// Why; empty when there is nothing to say.
    pub reason: String,
    /// What is being watched.
    pub step: Option<StepReport>,
    /// What the gate sees.
    pub gate: GateReport,
    /// When it was changed last.
    pub changed_at: DateTime<Utc>,
    /// By whom.
    pub changed_by: String,
    /// What it is to do.
    pub plan: Plan,
}

/// A step that is being watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// To how many of a hundred; 0 for the canary users.
    pub to: u8,
    /// Since when.
    pub began: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// Both sides of the flag, in the gate's window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateReport {
    /// Those whom it is on for.
    pub on: SideReport,
    /// Those whom it is off for.
    pub off: SideReport,
}

/// How one side does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SideReport {
    /// Requests.
    pub requests: u64,
    /// The part that failed on our side; null of none.
    pub error_rate: Option<f64>,
    /// Milliseconds within which 99 of 100 ended; null of none.
    pub p99_ms: Option<f64>,
}

impl From<&Sample> for SideReport {
    fn from(sample: &Sample) -> Self {
        let known = |value: f64| value.is_finite().then_some(value);
        Self {
            requests: sample.requests,
            error_rate: known(sample.error_rate()),
            p99_ms: known(sample.p99_ms()),
        }
    }
}

impl Report {
    /// Of a rollout and what was counted of it.
    pub fn new(stored: &Stored, samples: &Samples) -> Self {
        let rollout = &stored.rollout;
        Self {
            feature: rollout.plan.flag.clone(),
            phase: word(rollout.phase),
            percentage: percentage(rollout.phase),
            status: rollout.status.word(),
            reason: rollout.reason.clone(),
            step: rollout.step.map(|Step { to, began, until }| StepReport { to, began, until }),
            gate: GateReport { on: (&samples.on).into(), off: (&samples.off).into() },
            changed_at: stored.changed_at,
            changed_by: stored.changed_by.clone(),
            plan: rollout.plan.clone(),
        }
    }
}
