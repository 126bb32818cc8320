//! Every expected event was delivered at least once, and a repetition is recognisable as one.
//!
//! `expected` names every key that the final state says must have an event, acknowledged or not: an `Unknown` operation that
//! did happen is in it, one that did not is not. For each key:
//! - expected and not delivered is *lost*;
//! - delivered under two message ids is a *duplicate* that no consumer can recognise;
//! - delivered and not expected is a *phantom*.
//!
//! One message id on two keys is a *collision*: a consumer that drops repetitions would lose the second. Repetitions with one
//! id are allowed and counted. O(n log n).

use std::collections::{BTreeMap, BTreeSet};

use super::keyed::{anomaly, some};
use super::{Anomaly, Finding};

const INVARIANT: &str = "event-at-least-once";

/// A message as it is stored in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is about, in the words of `expected`.
    pub key: String,
    /// The id by which a consumer drops repetitions.
    pub message_id: String,
    /// Its place in the stream.
    pub sequence: u64,
}

/// Compares what must have been delivered with what was.
pub fn check(expected: &[String], delivered: &[Message]) -> Finding {
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let mut by_key: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    let mut by_id: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in delivered {
        by_key.entry(&message.key).or_default().push(message);
        by_id.entry(&message.message_id).or_default().push(message);
    }
    let mut anomalies: Vec<Anomaly> = expected
        .iter()
        .filter(|key| !by_key.contains_key(*key))
        .map(|key| {
            let text = format!("an event about `{key}` had to be delivered,\nbut the stream holds none");
            anomaly("lost", key, Vec::new(), None, text)
        })
        .collect();
    for (key, messages) in &by_key {
        anomalies.extend(judge(key, messages, expected.contains(key)));
    }
    anomalies.extend(by_id.iter().filter_map(|(id, messages)| collision(id, messages)));
    let repeated: usize = by_key.values().map(|messages| messages.len() - 1).sum();
    let what =
        format!("{} events expected, {} delivered, {repeated} repetitions", expected.len(), delivered.len());
    Finding::judged(INVARIANT, expected.len() + delivered.len(), &what, anomalies)
}

fn judge(key: &str, messages: &[&Message], expected: bool) -> Option<Anomaly> {
    if !expected {
        let places = places(messages);
        let text =
            format!("an event about `{key}` is in the stream at {places},\nbut nothing of that key happened");
        return Some(anomaly("phantom", key, Vec::new(), None, text));
    }
    let ids: BTreeSet<&str> = messages.iter().map(|message| message.message_id.as_str()).collect();
    if ids.len() < 2 {
        return None;
    }
    let ids: Vec<&str> = ids.into_iter().collect();
    let places = places(messages);
    let text = format!("`{key}` was delivered at {places}\nunder {} message ids: {}", ids.len(), some(&ids));
    Some(anomaly("duplicate", key, Vec::new(), None, text))
}

fn collision(id: &str, messages: &[&Message]) -> Option<Anomaly> {
    let keys: BTreeSet<&str> = messages.iter().map(|message| message.key.as_str()).collect();
    if keys.len() < 2 {
        return None;
    }
    let keys: Vec<&str> = keys.into_iter().collect();
    let text =
        format!("message id `{id}` at {}\ncarries {} keys: {}", places(messages), keys.len(), some(&keys));
    Some(anomaly("collision", keys[0], Vec::new(), None, text))
}

fn places(messages: &[&Message]) -> String {
    let numbers: Vec<String> = messages.iter().map(|message| message.sequence.to_string()).collect();
    some(&numbers.iter().map(String::as_str).collect::<Vec<_>>())
}
