//! Operations grouped by key, and sentences about them; shared by the checkers of keyed effects.

use std::borrow::Borrow;
use std::collections::HashMap;

use super::Anomaly;
use crate::history::{OpId, Operation, Outcome};

/// All operations of one key, oldest first.
pub(super) struct Group<'a> {
    pub operations: Vec<&'a Operation>,
}

impl<'a> Group<'a> {
    pub fn with(&self, outcome: Outcome) -> impl Iterator<Item = &'a Operation> + '_ {
        self.operations.iter().copied().filter(move |operation| operation.outcome == outcome)
    }

    /// The first acknowledgement of the key.
    pub fn acked(&self) -> Option<&'a Operation> {
        self.with(Outcome::Ok).min_by_key(|operation| operation.completed_ns)
    }

    /// Every operation was refused before it was executed.
    pub fn all_refused(&self) -> bool {
        self.operations.iter().all(|operation| operation.outcome == Outcome::Fail)
    }

    pub fn ids(&self) -> Vec<OpId> {
        ids(&self.operations)
    }

    /// `ops 3 ok, 4 unknown`, the first five of them.
    pub fn outcomes(&self) -> String {
        let named: Vec<String> = self.operations.iter().take(5).map(|op| outcome(op)).collect();
        let more = self.operations.len().saturating_sub(5);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{tail}", named.join(", "))
    }
}

pub(super) fn groups<O: Borrow<Operation>>(operations: &[O]) -> HashMap<&str, Group<'_>> {
    let mut groups: HashMap<&str, Group<'_>> = HashMap::new();
    for operation in operations {
        let operation = operation.borrow();
        let group = groups.entry(&operation.key).or_insert_with(|| Group { operations: Vec::new() });
        group.operations.push(operation);
    }
    for group in groups.values_mut() {
        group.operations.sort_by_key(|operation| (operation.invoked_ns, operation.op));
    }
    groups
}

/// Effect ids by key, in the order given.
pub(super) fn effects_by_key(effects: &[(String, String)]) -> HashMap<&str, Vec<&str>> {
    let mut by_key: HashMap<&str, Vec<&str>> = HashMap::new();
    for (key, effect) in effects {
        by_key.entry(key).or_default().push(effect);
    }
    by_key
}

pub(super) fn ids(operations: &[&Operation]) -> Vec<OpId> {
    operations.iter().map(|operation| operation.op).collect()
}

pub(super) fn anomaly(
    kind: &str,
    key: &str,
    ops: Vec<OpId>,
    at_ns: Option<u64>,
    explanation: String,
) -> Anomaly {
    Anomaly { kind: kind.into(), key: key.into(), ops, at_ns, explanation }
}

/// `op 7 (ok 200 at 12.310 s)`.
pub(super) fn outcome(operation: &Operation) -> String {
    let word = match operation.outcome {
        Outcome::Ok => "ok",
        Outcome::Fail => "refused",
        Outcome::Unknown => "unknown",
    };
    let code = if operation.code.is_empty() { "without an answer" } else { &operation.code };
    let at = operation.completed_ns.unwrap_or(operation.invoked_ns);
    format!("op {} ({word} {code} at {})", operation.op.0, seconds(at))
}

/// `12.310 s` since the start of the history.
pub(super) fn seconds(at_ns: u64) -> String {
    format!("{}.{:03} s", at_ns / 1_000_000_000, at_ns / 1_000_000 % 1000)
}

/// The first five of a list, quoted.
pub(super) fn some(values: &[&str]) -> String {
    let mut text = values.iter().take(5).map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    if values.len() > 5 {
        text.push_str(&format!(" and {} more", values.len() - 5));
    }
    text
}
