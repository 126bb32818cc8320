//! Every acknowledged request took effect exactly once.
//!
//! Requests with one key are attempts at one effect; an effect is one row of the final state, `(key, effect id)`. For each key:
//! - some attempt `Ok`: exactly one effect, else *lost* or *duplicate*;
//! - none `Ok`, some `Unknown`: none or one, else *duplicate*;
//! - all `Fail`: none, else *phantom*;
//! - an effect whose key was never requested is a *phantom*.
//!
//! O(n) in requests and effects.

use std::borrow::Borrow;

use super::keyed::{self, Group, anomaly, some};
use super::{Anomaly, Finding};
use crate::history::Operation;

const INVARIANT: &str = "effect-exactly-once";

/// Compares requests with the effects that are found once the system is quiet.
pub fn check<O: Borrow<Operation>>(requests: &[O], effects: &[(String, String)]) -> Finding {
    let groups = keyed::groups(requests);
    let found = keyed::effects_by_key(effects);
    let mut anomalies: Vec<Anomaly> = groups
        .iter()
        .filter_map(|(key, group)| judge(key, group, found.get(*key).map_or(&[][..], Vec::as_slice)))
        .collect();
    anomalies.extend(unasked(&groups, &found));
    let what = format!("{} requests for {} keys, {} effects", requests.len(), groups.len(), effects.len());
    Finding::judged(INVARIANT, requests.len() + effects.len(), &what, anomalies)
}

/// Effects of keys that no operation carries.
pub(super) fn unasked(
    groups: &std::collections::HashMap<&str, Group<'_>>,
    found: &std::collections::HashMap<&str, Vec<&str>>,
) -> Vec<Anomaly> {
    let keys = found.iter().filter(|(key, _)| !groups.contains_key(*key));
    keys.map(|(key, effects)| {
        let text = format!("`{key}` took effect as {},\nbut no operation ever asked for it", some(effects));
        anomaly("phantom", key, Vec::new(), None, text)
    })
    .collect()
}

pub(super) fn judge(key: &str, group: &Group<'_>, effects: &[&str]) -> Option<Anomaly> {
    if group.all_refused() && !effects.is_empty() {
        let told = group.outcomes();
        let text =
            format!("`{key}` took effect as {},\nbut every attempt was refused: {told}", some(effects));
        let at_ns = group.operations.iter().filter_map(|operation| operation.completed_ns).min();
        return Some(anomaly("phantom", key, group.ids(), at_ns, text));
    }
    if effects.len() > 1 {
        let (count, told) = (effects.len(), group.outcomes());
        let text = format!("`{key}` took effect {count} times: {};\nasked by {told}", some(effects));
        return Some(anomaly("duplicate", key, group.ids(), None, text));
    }
    let acked = group.acked().filter(|_| effects.is_empty())?;
    let (op, told) = (acked.op.0, group.outcomes());
    let text = format!("`{key}` was acknowledged to op {op} and never took effect;\nasked by {told}");
    Some(anomaly("lost", key, group.ids(), acked.completed_ns, text))
}
