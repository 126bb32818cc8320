//! No acknowledged write is lost, and nothing is there that nobody wrote.
//!
//! A write is an operation's `key` and `value`; the final state is, by key, every value found. Precisely, for each key:
//! - *lost*: a value was acknowledged (`Ok`) by some write and is not found;
//! - *phantom*: a value is found which no write wrote, or only writes that were refused (`Fail`);
//! - *duplicate*: one value is found more than once, however many writes carried it.
//!
//! An `Unknown` write may be there or not, once: it proves neither loss nor phantom. What was there before the run (seed
//! data) is not part of `found`. O(n) in operations and values found.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

use super::keyed::{self, Group, anomaly, some};
use super::{Anomaly, Finding};
use crate::history::{Operation, Outcome};

/// How many writes of the same key are named beside a value that none of them wrote.
const PHANTOM_OPS_MAX: usize = 16;

/// Compares the writes with what is found in the end.
pub fn check<O: Borrow<Operation>>(
    invariant: &str,
    writes: &[O],
    found: &BTreeMap<String, Vec<String>>,
) -> Finding {
    let groups = keyed::groups(writes);
    let mut anomalies = Vec::new();
    for (key, group) in &groups {
        let there = found.get(*key).map_or(&[][..], Vec::as_slice);
        compare(key, group, there, &mut anomalies);
    }
    for (key, values) in found {
        if !groups.contains_key(key.as_str()) && !values.is_empty() {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let text =
                format!("found {} under `{key}`,\nbut no operation ever wrote that key", some(&values));
            anomalies.push(anomaly("phantom", key, Vec::new(), None, text));
        }
    }
    let values: usize = found.values().map(Vec::len).sum();
    let acked = writes.iter().filter(|write| (*write).borrow().outcome == Outcome::Ok).count();
    let what = format!("{} writes, {acked} acknowledged, {values} values found", writes.len());
    Finding::judged(invariant, writes.len() + values, &what, anomalies)
}

fn compare(key: &str, group: &Group<'_>, there: &[String], anomalies: &mut Vec<Anomaly>) {
    // Nearly every key is written once and found once; the tables below cost several times as much as this.
    if let ([only], [value]) = (group.operations.as_slice(), there)
        && only.value == *value
        && only.outcome != Outcome::Fail
    {
        return;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for value in there {
        *counts.entry(value).or_default() += 1;
    }
    let mut writers: HashMap<&str, Vec<&Operation>> = HashMap::new();
    for operation in &group.operations {
        writers.entry(&operation.value).or_default().push(operation);
    }
    for (value, writers) in &writers {
        let count = counts.get(value).copied().unwrap_or(0);
        anomalies.extend(judge(key, value, writers, count));
    }
    for value in counts.keys().filter(|value| !writers.contains_key(*value)) {
        let text = format!("found `{value}` under `{key}`,\nbut its writes were {}", group.outcomes());
        // Nobody wrote this value; the key's first writes are named, not all of them for each such value.
        let ops = group.operations.iter().take(PHANTOM_OPS_MAX).map(|operation| operation.op).collect();
        anomalies.push(anomaly("phantom", key, ops, None, text));
    }
}

fn judge(key: &str, value: &str, writers: &[&Operation], count: usize) -> Option<Anomaly> {
    let group = Group { operations: writers.to_vec() };
    if count > 1 {
        let told = group.outcomes();
        let text = format!("`{value}` is found {count} times under `{key}`,\nwritten by {told}");
        return Some(anomaly("duplicate", key, group.ids(), None, text));
    }
    if count == 0 {
        let acked = group.acked()?;
        let (op, told) = (acked.op.0, group.outcomes());
        let text = format!("`{value}` under `{key}` was acknowledged to op {op},\nbut is not found: {told}");
        return Some(anomaly("lost", key, group.ids(), acked.completed_ns, text));
    }
    if group.all_refused() {
        let told = group.outcomes();
        let text = format!("`{value}` is found under `{key}`,\nbut every write of it was refused: {told}");
        let at_ns = writers.iter().filter_map(|operation| operation.completed_ns).min();
        return Some(anomaly("phantom", key, group.ids(), at_ns, text));
    }
    None
}
