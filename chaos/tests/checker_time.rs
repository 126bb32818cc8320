//! The checkers of reads and of recovery: what a client saw and when.

use std::collections::BTreeMap;

use chaos::checker::reads::{self, Shape};
use chaos::checker::recovery::{self, Window};
use chaos::checker::{Finding, Validity};
use chaos::history::{ClassId, OpId, Operation, Outcome};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn operation(op: u64, at: (u64, u64), key: &str, outcome: Outcome, answer: &str) -> Operation {
    Operation {
        op: OpId(op),
        process: 0,
        class: ClassId(0),
        intended_ns: at.0,
        invoked_ns: at.0,
        completed_ns: (outcome != Outcome::Unknown).then_some(at.1),
        key: key.into(),
        value: String::new(),
        outcome,
        code: String::new(),
        answer: answer.into(),
    }
}

fn create(at: (u64, u64)) -> Operation {
    operation(0, at, "idempotency-key", Outcome::Ok, "id|pending|12.50")
}

fn read(at: (u64, u64), answer: &str) -> Operation {
    operation(1, at, "id", Outcome::Ok, answer)
}

fn judge(reads: &[Operation]) -> Finding {
    reads::check("read-your-writes", &Shape::default(), &[create((10, 20))], reads)
}

fn kinds(finding: &Finding) -> Vec<(&str, usize)> {
    finding.anomalies.iter().map(|anomaly| (anomaly.kind.as_str(), anomaly.ops.len())).collect()
}

#[test]
fn a_read_invoked_after_the_acknowledgement_must_find_the_object() {
    assert_eq!(kinds(&judge(&[read((21, 30), "null")])), vec![("missing", 2)]);
    assert_eq!(judge(&[read((20, 30), "null")]).validity, Validity::Valid);
    assert_eq!(judge(&[read((15, 30), "null")]).validity, Validity::Valid);
    let refused = Operation { code: "NOT_FOUND".into(), ..operation(1, (21, 30), "id", Outcome::Fail, "") };
    assert_eq!(kinds(&judge(&[refused])), vec![("missing", 2)]);
}

#[test]
fn what_cannot_change_must_not_differ_and_what_can_may() {
    assert_eq!(judge(&[read((21, 30), "id|shipped|12.50")]).validity, Validity::Valid);
    assert_eq!(kinds(&judge(&[read((21, 30), "id|pending|99.00")])), vec![("different", 2)]);
    assert_eq!(kinds(&judge(&[read((21, 30), "other|pending|12.50")])), vec![("different", 1)]);
    assert_eq!(kinds(&judge(&[read((21, 30), "rubbish")])), vec![("different", 1)]);
}

#[test]
fn two_reads_of_one_object_contradict_each_other_without_any_create() {
    let none: [Operation; 0] = [];
    let reads = [read((1, 2), "id|pending|1.00"), read((3, 4), "id|pending|2.00")];
    assert_eq!(kinds(&reads::check("r", &Shape::default(), &none, &reads)), vec![("different", 2)]);
}

#[test]
fn unknown_reads_and_other_refusals_say_nothing() {
    let refused =
        Operation { code: "RATE_LIMITED".into(), ..operation(1, (21, 30), "id", Outcome::Fail, "") };
    let unknown = operation(2, (21, 30), "id", Outcome::Unknown, "");
    assert_eq!(judge(&[refused, unknown]).validity, Validity::Unknown);
}

#[test]
fn the_api_and_the_store_must_agree_in_the_end() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let stored = map(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(reads::agreement("agree", &stored, &stored).validity, Validity::Valid);
    let finding = reads::agreement("agree", &map(&[("a", "1"), ("b", "9"), ("d", "4")]), &stored);
    let told: Vec<_> = finding.anomalies.iter().map(|a| (a.key.as_str(), a.kind.as_str())).collect();
    assert_eq!(told, vec![("b", "different"), ("c", "missing"), ("d", "different")]);
    assert_eq!(reads::agreement("agree", &map(&[]), &map(&[])).validity, Validity::Unknown);
}

fn windows(pattern: &str) -> Vec<Window> {
    let window =
        |(second, mark): (usize, char)| Window { start_ns: second as u64 * SECOND, good: mark == '+' };
    pattern.chars().enumerate().filter(|(_, mark)| *mark != ' ').map(window).collect()
}

/// Healed at 3 s, a budget of 4 s, to be held for 2 s.
fn recover(pattern: &str) -> Validity {
    let finding = recovery::check("redis-refused#1", 3 * SECOND, 4 * SECOND, 2 * SECOND, &windows(pattern));
    assert_eq!(finding.validity == Validity::Invalid, finding.anomalies.len() == 1, "{finding:?}");
    finding.validity
}

#[test]
fn recovery_is_the_first_good_row_that_lasts() {
    assert_eq!(recover("+--++++++"), Validity::Valid);
    assert_eq!(recover("+-----+-++++"), Validity::Invalid);
    assert_eq!(recover("+------++"), Validity::Valid);
    assert_eq!(recover("+-------++"), Validity::Invalid);
    assert_eq!(recover("+-----------"), Validity::Invalid);
    assert_eq!(recover("+--+-+-+-+-+-+-"), Validity::Invalid);
}

#[test]
fn windows_that_end_too_early_prove_nothing() {
    assert_eq!(recover("+-----"), Validity::Unknown);
    assert_eq!(recover("+-----+"), Validity::Unknown);
    assert_eq!(recover("++"), Validity::Unknown);
    assert_eq!(recover(""), Validity::Unknown);
}

#[test]
fn a_gap_in_the_windows_breaks_a_row() {
    assert_eq!(recover("+-----+ + +++"), Validity::Invalid);
}

proptest! {
    #[test]
    fn reads_of_a_correct_store_are_never_flagged(
        reads in prop::collection::vec((0..40_u64, 1..20_u64), 1..50)
    ) {
        // The object appears at 15, inside its create (10 to 20); a read looks at its own middle.
        let answer = |at: u64| if at < 15 { "null" } else { "id|shipped|12.50" };
        let operations: Vec<Operation> = reads
            .iter()
            .enumerate()
            .map(|(op, (start, length))| {
                let at = (*start, start + length);
                operation(op as u64 + 1, at, "id", Outcome::Ok, answer(start + length / 2))
            })
            .collect();
        let finding = judge(&operations);
        prop_assert_eq!(finding.validity, Validity::Valid, "{:?}", finding);
    }

    #[test]
    fn a_planted_stale_read_is_always_flagged(start in 21..1000_u64, before in 0..20_usize) {
        let mut operations: Vec<Operation> =
            (0..before as u64).map(|op| operation(op + 2, (30 + op, 40 + op), "id", Outcome::Ok, "id|paid|12.50")).collect();
        operations.push(read((start, start + 5), "null"));
        let finding = judge(&operations);
        prop_assert_eq!(kinds(&finding), vec![("missing", 2)]);
    }

    #[test]
    fn recovery_is_valid_exactly_when_it_begins_within_the_budget(bad in 0..12_usize) {
        let pattern = format!("+--{}{}", "-".repeat(bad), "+".repeat(10));
        let expected = if bad <= 4 { Validity::Valid } else { Validity::Invalid };
        prop_assert_eq!(recover(&pattern), expected);
    }
}
