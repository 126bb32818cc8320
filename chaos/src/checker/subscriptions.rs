//! Every event reached every subscriber at least once, through one subscription that was never ended.
//!
//! `expected` names what the final state says must have been told, acknowledged or not, since before the first subscription was
//! asked for. For each subscriber:
//! - expected and not heard is *lost*;
//! - heard and not expected is a *phantom*;
//! - a subscription that ended while it was wanted is *ended*, and what it then did not hear is not counted again.
//!
//! Repetitions are allowed and counted. O(n log n) for each subscriber.

use std::collections::BTreeSet;

use super::keyed::anomaly;
use super::{Anomaly, Finding};

const INVARIANT: &str = "event-reaches-subscribers";

/// What one subscriber heard, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// What its messages are about, in the words of `expected`.
    pub keys: Vec<String>,
    /// Why its subscription ended before it was given up; `None`: it did not.
    pub ended: Option<String>,
}

/// Compares what must have been heard with what each subscriber heard. No subscriber: unknown.
pub fn check(expected: &[String], subscribers: &[Heard]) -> Finding {
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let mut anomalies: Vec<Anomaly> = Vec::new();
    let (mut messages, mut repeated) = (0, 0);
    for (number, heard) in subscribers.iter().enumerate() {
        let keys: BTreeSet<&str> = heard.keys.iter().map(String::as_str).collect();
        messages += heard.keys.len();
        repeated += heard.keys.len() - keys.len();
        for key in keys.difference(&expected) {
            let text = format!("subscriber {number} heard of `{key}`,\nbut nothing of that key happened");
            anomalies.push(anomaly("phantom", key, Vec::new(), None, text));
        }
        let missing: Vec<&&str> = expected.difference(&keys).collect();
        match &heard.ended {
            Some(reason) => {
                let text =
                    format!("its subscription ended: {reason};\n{} events did not reach it", missing.len());
                let key = format!("subscriber {number}");
                anomalies.push(anomaly("ended", &key, Vec::new(), None, text));
            }
            None => anomalies.extend(missing.into_iter().map(|key| {
                let text = format!(
                    "subscriber {number} had to hear of `{key}`,\nand its subscription never told it"
                );
                anomaly("lost", key, Vec::new(), None, text)
            })),
        }
    }
    let examined = if subscribers.is_empty() || expected.is_empty() { 0 } else { messages + expected.len() };
    let what = format!(
        "{} subscribers, {} events expected by each, {messages} heard, {repeated} repetitions",
        subscribers.len(),
        expected.len()
    );
    Finding::judged(INVARIANT, examined, &what, anomalies)
}

#[cfg(test)]
mod tests {
    use super::super::Validity;
    use super::*;

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    fn heard(told: &[&str]) -> Heard {
        Heard { keys: keys(told), ended: None }
    }

    fn kinds(finding: &Finding) -> Vec<(&str, &str)> {
        finding.anomalies.iter().map(|a| (a.kind.as_str(), a.key.as_str())).collect()
    }

    #[test]
    fn repetitions_are_counted_and_allowed() {
        let finding = check(&keys(&["1", "2"]), &[heard(&["1", "1", "2"]), heard(&["2", "1"])]);
        assert_eq!(finding.validity, Validity::Valid, "{}", finding.summary);
        assert!(finding.summary.contains("5 heard, 1 repetitions"), "{}", finding.summary);
    }

    #[test]
    fn what_one_subscriber_missed_is_lost_though_another_heard_it() {
        let finding = check(&keys(&["1", "2"]), &[heard(&["1", "2"]), heard(&["1"])]);
        assert_eq!((finding.validity, kinds(&finding)), (Validity::Invalid, vec![("lost", "2")]));
    }

    #[test]
    fn what_never_happened_is_a_phantom() {
        let finding = check(&keys(&["1"]), &[heard(&["1", "7"])]);
        assert_eq!(kinds(&finding), [("phantom", "7")]);
    }

    #[test]
    fn an_ended_subscription_is_one_anomaly() {
        let ended = Heard { keys: keys(&["1"]), ended: Some("the connection was reset".into()) };
        let finding = check(&keys(&["1", "2", "3"]), &[ended]);
        assert_eq!(kinds(&finding), [("ended", "subscriber 0")]);
        assert!(finding.anomalies[0].explanation.contains("2 events"), "{:?}", finding.anomalies);
    }

    #[test]
    fn nobody_or_nothing_proves_nothing() {
        assert_eq!(check(&keys(&["1"]), &[]).validity, Validity::Unknown);
        assert_eq!(check(&[], &[heard(&[])]).validity, Validity::Unknown);
    }
}
