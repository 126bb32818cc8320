//! The checkers of keyed writes and effects: correct histories are never flagged, each planted fault always is.

use std::collections::BTreeMap;

use chaos::checker::{Anomaly, Finding, Validity, acked_writes, delivery, exactly_once, idempotency};
use chaos::history::{ClassId, OpId, Operation, Outcome};
use proptest::prelude::*;
use proptest::sample::Index;

fn operation(op: u64, key: &str, outcome: Outcome, answer: &str) -> Operation {
    Operation {
        op: OpId(op),
        process: 0,
        class: ClassId(0),
        intended_ns: op * 10,
        invoked_ns: op * 10,
        completed_ns: (outcome != Outcome::Unknown).then_some(op * 10 + 5),
        key: key.into(),
        value: format!("value of {key}"),
        outcome,
        code: String::new(),
        answer: answer.into(),
    }
}

/// A correct run: what each key's attempts were told, and whether it happened.
#[derive(Debug, Clone)]
struct Model {
    operations: Vec<Operation>,
    happened: Vec<String>,
}

impl Model {
    fn found(&self) -> BTreeMap<String, Vec<String>> {
        self.happened.iter().map(|key| (key.clone(), vec![format!("value of {key}")])).collect()
    }

    fn effects(&self) -> Vec<(String, String)> {
        self.happened.iter().map(|key| (key.clone(), format!("effect of {key}"))).collect()
    }

    fn messages(&self, repeat: bool) -> Vec<delivery::Message> {
        let times = if repeat { 2 } else { 1 };
        let keys = self.happened.iter().flat_map(|key| std::iter::repeat_n(key, times));
        let message = |(sequence, key): (usize, &String)| delivery::Message {
            key: key.clone(),
            message_id: format!("id of {key}"),
            sequence: sequence as u64,
        };
        keys.enumerate().map(message).collect()
    }

    fn acked(&self) -> Vec<String> {
        let ok = self.operations.iter().filter(|op| op.outcome == Outcome::Ok);
        let mut keys: Vec<String> = ok.map(|op| op.key.clone()).collect();
        keys.dedup();
        keys
    }
}

/// Each key: one to three attempts, and whether an unknown one happened. An acknowledged key always happened, a key of which
/// every attempt was refused never did.
fn model() -> impl Strategy<Value = Model> {
    let outcome = prop_oneof![4 => Just(Outcome::Ok), 1 => Just(Outcome::Fail), 1 => Just(Outcome::Unknown)];
    let key = (prop::collection::vec(outcome, 1..4), any::<bool>());
    prop::collection::vec(key, 1..40).prop_map(|keys| {
        let mut model = Model { operations: Vec::new(), happened: Vec::new() };
        for (number, (attempts, unknown_happened)) in keys.into_iter().enumerate() {
            let key = format!("key-{number}");
            let ok = attempts.contains(&Outcome::Ok);
            if ok || (attempts.contains(&Outcome::Unknown) && unknown_happened) {
                model.happened.push(key.clone());
            }
            for outcome in attempts {
                let op = model.operations.len() as u64;
                let answer = if outcome == Outcome::Ok { format!("{key}|12.50") } else { String::new() };
                model.operations.push(operation(op, &key, outcome, &answer));
            }
        }
        model
    })
}

#[track_caller]
fn assert_flags(finding: &Finding, kind: &str, key: &str) {
    assert_eq!(finding.validity, Validity::Invalid, "{finding:?}");
    let named = |anomaly: &&Anomaly| anomaly.kind == kind && anomaly.key == key;
    let anomaly =
        finding.anomalies.iter().find(named).unwrap_or_else(|| panic!("no {kind} of {key}: {finding:?}"));
    assert!(anomaly.explanation.lines().count() <= 2, "{anomaly:?}");
    assert_eq!(finding.anomalies.len(), 1, "only what was planted: {finding:?}");
}

fn all(model: &Model) -> Vec<Finding> {
    vec![
        acked_writes::check("no-acked-write-lost", &model.operations, &model.found()),
        exactly_once::check(&model.operations, &model.effects()),
        idempotency::check(&model.operations, &model.effects()),
    ]
}

proptest! {
    #[test]
    fn correct_histories_are_never_flagged(model in model(), repeat in any::<bool>()) {
        for finding in all(&model) {
            prop_assert_eq!(finding.validity, Validity::Valid, "{:?}", finding);
        }
        let delivered = delivery::check(&model.happened, &model.messages(repeat));
        prop_assert_ne!(delivered.validity, Validity::Invalid, "{:?}", delivered);
        prop_assert_eq!(delivered.validity == Validity::Unknown, model.happened.is_empty());
    }

    #[test]
    fn a_planted_loss_is_always_flagged(model in model(), index in any::<Index>()) {
        prop_assume!(!model.acked().is_empty());
        let mut lossy = model.clone();
        let key = index.get(&model.acked()).clone();
        lossy.happened.retain(|happened| *happened != key);
        for finding in all(&lossy) {
            assert_flags(&finding, "lost", &key);
        }
        assert_flags(&delivery::check(&model.happened, &lossy.messages(true)), "lost", &key);
    }

    #[test]
    fn a_planted_duplicate_is_always_flagged(model in model(), index in any::<Index>()) {
        prop_assume!(!model.happened.is_empty());
        let key = index.get(&model.happened).clone();
        let mut found = model.found();
        found.get_mut(&key).expect("it happened").push(format!("value of {key}"));
        let mut effects = model.effects();
        effects.push((key.clone(), "a second effect".into()));
        let mut messages = model.messages(false);
        messages.push(delivery::Message { key: key.clone(), message_id: "another".into(), sequence: 9999 });
        assert_flags(&acked_writes::check("writes", &model.operations, &found), "duplicate", &key);
        assert_flags(&exactly_once::check(&model.operations, &effects), "duplicate", &key);
        assert_flags(&idempotency::check(&model.operations, &effects), "duplicate", &key);
        assert_flags(&delivery::check(&model.happened, &messages), "duplicate", &key);
    }

    #[test]
    fn a_planted_phantom_is_always_flagged(model in model()) {
        let mut haunted = model.clone();
        haunted.happened.push("nobody's".into());
        for finding in all(&haunted) {
            assert_flags(&finding, "phantom", "nobody's");
        }
        assert_flags(&delivery::check(&model.happened, &haunted.messages(false)), "phantom", "nobody's");
        let mut refused = model.clone();
        refused.operations.push(operation(999, "refused", Outcome::Fail, ""));
        refused.happened.push("refused".into());
        for finding in all(&refused) {
            assert_flags(&finding, "phantom", "refused");
            assert_eq!(finding.anomalies[0].ops, vec![OpId(999)]);
        }
    }

    #[test]
    fn a_planted_different_answer_is_always_flagged(model in model(), index in any::<Index>()) {
        prop_assume!(!model.acked().is_empty());
        let key = index.get(&model.acked()).clone();
        let mut operations = model.operations.clone();
        operations.push(operation(999, &key, Outcome::Ok, "another answer"));
        assert_flags(&idempotency::check(&operations, &model.effects()), "different-answer", &key);
    }
}

#[test]
fn a_check_of_nothing_proves_nothing() {
    let none: [Operation; 0] = [];
    assert_eq!(acked_writes::check("w", &none, &BTreeMap::new()).validity, Validity::Unknown);
    assert_eq!(exactly_once::check(&none, &[]).validity, Validity::Unknown);
    assert_eq!(idempotency::check(&none, &[]).validity, Validity::Unknown);
    assert_eq!(delivery::check(&[], &[]).validity, Validity::Unknown);
}

#[test]
fn a_changed_value_is_a_loss_and_a_phantom() {
    let operations = [operation(0, "k", Outcome::Ok, "a")];
    let found = BTreeMap::from([("k".into(), vec!["something else".into()])]);
    let finding = acked_writes::check("w", &operations, &found);
    let kinds: Vec<&str> = finding.anomalies.iter().map(|anomaly| anomaly.kind.as_str()).collect();
    assert_eq!(kinds, vec!["phantom", "lost"]);
    assert_eq!(finding.anomalies[1].ops, vec![OpId(0)]);
    assert_eq!(finding.anomalies[1].at_ns, Some(5));
}

#[test]
fn one_message_id_on_two_keys_is_a_collision() {
    let message =
        |key: &str, sequence| delivery::Message { key: key.into(), message_id: "m".into(), sequence };
    let finding = delivery::check(&["a".into(), "b".into()], &[message("a", 1), message("b", 2)]);
    assert_flags(&finding, "collision", "a");
}

#[test]
fn a_million_writes_to_few_and_to_many_keys_are_checked() {
    let operations: Vec<Operation> =
        (0..1_000_000).map(|op| operation(op, &format!("key-{op}"), Outcome::Ok, "")).collect();
    let mut found: BTreeMap<String, Vec<String>> =
        operations.iter().map(|op| (op.key.clone(), vec![op.value.clone()])).collect();
    assert_eq!(acked_writes::check("w", &operations, &found).validity, Validity::Valid);
    found.remove("key-500000");
    assert_flags(&acked_writes::check("w", &operations, &found), "lost", "key-500000");
    let one_key: Vec<Operation> = operations
        .into_iter()
        .map(|op| Operation { value: format!("value {}", op.op.0), key: "one".into(), ..op })
        .collect();
    let values = one_key.iter().map(|op| op.value.clone()).collect();
    let found = BTreeMap::from([("one".to_owned(), values)]);
    assert_eq!(acked_writes::check("w", &one_key, &found).validity, Validity::Valid);
}
