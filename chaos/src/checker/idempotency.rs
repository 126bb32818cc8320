//! One idempotency key, one effect, one answer.
//!
//! Operations of one class that share a key are the same request made again, one after the other or at once. For each key:
//! - more than one effect is a *duplicate*;
//! - an `Ok` without any effect is *lost*;
//! - two `Ok` with different answers are *different-answer*;
//! - an effect though every attempt was refused, or though nobody asked, is a *phantom*.
//!
//! An `Unknown` attempt may have had the effect or not, and has no answer to compare. An effect is one row of the final
//! state, `(key, effect id)`. O(n) in operations and effects.

use std::borrow::Borrow;

use super::exactly_once::{judge, unasked};
use super::keyed::{self, Group, anomaly, outcome, some};
use super::{Anomaly, Finding};
use crate::history::{Operation, Outcome};

const INVARIANT: &str = "one-effect-per-idempotency-key";

/// Compares all operations of one class with the effects that are found in the end.
pub fn check<O: Borrow<Operation>>(operations: &[O], effects: &[(String, String)]) -> Finding {
    let groups = keyed::groups(operations);
    let found = keyed::effects_by_key(effects);
    let mut anomalies = unasked(&groups, &found);
    for (key, group) in &groups {
        anomalies.extend(judge(key, group, found.get(*key).map_or(&[][..], Vec::as_slice)));
        anomalies.extend(different_answers(key, group));
    }
    let repeated = groups.values().filter(|group| group.operations.len() > 1).count();
    let what =
        format!("{} keys, {repeated} of them used more than once, {} effects", groups.len(), effects.len());
    Finding::judged(INVARIANT, operations.len() + effects.len(), &what, anomalies)
}

fn different_answers(key: &str, group: &Group<'_>) -> Option<Anomaly> {
    let mut acked: Vec<&Operation> = group.with(Outcome::Ok).collect();
    acked.sort_by_key(|operation| (operation.completed_ns, operation.op));
    let first = *acked.first()?;
    let other = *acked.iter().find(|operation| operation.answer != first.answer)?;
    let mut answers: Vec<&str> = acked.iter().map(|operation| operation.answer.as_str()).collect();
    answers.sort_unstable();
    answers.dedup();
    let text = format!(
        "`{key}` was answered in {} ways: {};\nfirst {}, then {}",
        answers.len(),
        some(&answers),
        outcome(first),
        outcome(other)
    );
    Some(anomaly("different-answer", key, keyed::ids(&acked), other.completed_ns, text))
}
