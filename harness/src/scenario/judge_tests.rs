//! Each invariant against a planted contradiction.

use chaos::checker::subscriptions::Heard;
use chaos::history::ClassId;

use super::*;
use crate::scenario::readback::{Event, Invoice, Order, StatusChange};
use crate::scenario::{Asked, CLASSES, INVARIANTS};
use crate::verdict::Verdict;

fn classes() -> Vec<String> {
    CLASSES.map(str::to_owned).to_vec()
}

fn operation(n: u64, class: u16, key: &str, value: &str, answer: &str) -> Operation {
    Operation {
        op: OpId(n),
        process: n as u32,
        class: ClassId(class),
        intended_ns: n * 1_000_000_000,
        invoked_ns: n * 1_000_000_000,
        completed_ns: Some(n * 1_000_000_000 + 5_000_000),
        key: key.into(),
        value: value.into(),
        outcome: Came::Ok,
        code: "200".into(),
        answer: answer.into(),
    }
}

/// Two orders, one update, one invoice and one payment, all acknowledged, and the state that follows from them.
fn sound() -> (Vec<Operation>, FinalState) {
    let operations = vec![
        operation(0, 2, "k1", "k1", "o1|pending|10.00"),
        operation(1, 2, "k2", "k2", "o2|pending|20.00"),
        operation(2, 3, "u1", "o1|paid", "o1|paid"),
        operation(3, 4, "i1", "o1", "j1"),
        operation(4, 5, "o7", "evt_1", "done"),
    ];
    let order = |id: &str, key: &str, status: &str, total: &str| Order {
        id: id.into(),
        idempotency_key: Some(key.into()),
        status: status.into(),
        total: total.into(),
    };
    let event = |n: u64, id: &str| Event {
        subject: "orders.created".into(),
        message_id: format!("m{n}"),
        event_id: format!("m{n}"),
        order_id: id.into(),
        sequence: n,
    };
    let change = Event {
        subject: "orders.status_changed".into(),
        message_id: "c1".into(),
        event_id: "c1".into(),
        order_id: "o1".into(),
        sequence: 3,
    };
    let (paid, told) = payment("c7");
    let state = FinalState {
        drained_after_s: 1.0,
        orders: vec![order("o1", "k1", "paid", "10.00"), order("o2", "k2", "pending", "20.00")],
        status_changes: vec![
            StatusChange {
                id: "c1".into(),
                order_id: "o1".into(),
                status: "paid".into(),
                idempotency_key: Some("u1".into()),
            },
            paid,
        ],
        invoices: vec![Invoice {
            job_id: "j1".into(),
            order_id: "o1".into(),
            idempotency_key: Some("i1".into()),
        }],
        events: vec![event(1, "o1"), event(2, "o2"), change, told],
        asked: ["o1", "o2"].map(str::to_owned).into(),
        api: [("o1", "o1|paid|10.00"), ("o2", "o2|pending|20.00")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        heard: vec![heard(&["o1", "o2", "o1"]), heard(&["o1", "o2"])],
        ..FinalState::default()
    };
    (operations, state)
}

/// What a payment of the order `o7` does, and the event of that.
fn payment(id: &str) -> (StatusChange, Event) {
    let change = StatusChange {
        id: id.into(),
        order_id: "o7".into(),
        status: "paid".into(),
        idempotency_key: Some("of the server's own".into()),
    };
    let event = Event {
        subject: "orders.status_changed".into(),
        message_id: id.into(),
        event_id: id.into(),
        order_id: "o7".into(),
        sequence: 9,
    };
    (change, event)
}

fn heard(orders: &[&str]) -> Heard {
    Heard { keys: orders.iter().map(|id| (*id).to_owned()).collect(), ended: None }
}

fn violated(operations: &[Operation], state: &FinalState) -> Vec<String> {
    let wanted = INVARIANTS.map(|(name, _)| (name.to_owned(), Asked::default())).into();
    let findings = invariants(&wanted, operations, &classes(), state);
    assert_eq!(findings.len(), INVARIANTS.len(), "every invariant has a checker");
    let criteria: Vec<_> = findings.iter().map(|f| criterion(f, Kind::Invariant, operations)).collect();
    let failed: Vec<String> =
        criteria.iter().filter(|c| c.outcome == Outcome::Fail).map(|c| c.name.clone()).collect();
    let expected = if failed.is_empty() { Verdict::Valid } else { Verdict::InvariantViolated };
    assert_eq!(Verdict::of(&criteria), expected);
    for failed in criteria.iter().filter(|c| c.outcome == Outcome::Fail) {
        assert!(!failed.proof.is_empty(), "{} fails without a proof", failed.name);
    }
    failed
}

#[test]
fn a_sound_history_violates_nothing() {
    let (operations, state) = sound();
    assert_eq!(violated(&operations, &state), Vec::<String>::new());
}

#[test]
fn an_acknowledged_order_that_is_lost_is_named() {
    let (operations, mut state) = sound();
    state.orders.remove(1);
    state.events.remove(1);
    state.heard = vec![heard(&["o1"])];
    assert_eq!(
        violated(&operations, &state),
        ["api-equals-database", "no-acked-write-lost", "one-order-per-key"]
    );
}

#[test]
fn an_order_that_nobody_asked_for_is_a_phantom() {
    let (operations, mut state) = sound();
    let ghost = Order { id: "o9".into(), idempotency_key: Some("k9".into()), ..state.orders[0].clone() };
    state.orders.push(ghost);
    assert_eq!(violated(&operations, &state), ["no-write-out-of-nothing", "one-order-per-key"]);
}

#[test]
fn two_orders_under_one_key_are_found() {
    let (operations, mut state) = sound();
    state.orders.push(Order { id: "o3".into(), ..state.orders[0].clone() });
    state.events.push(Event { message_id: "m3".into(), order_id: "o3".into(), ..state.events[0].clone() });
    state.heard = vec![heard(&["o1", "o2", "o3"])];
    assert_eq!(violated(&operations, &state), ["no-acked-write-lost", "one-order-per-key"]);
}

#[test]
fn an_event_that_one_subscriber_missed_is_found() {
    let (operations, mut state) = sound();
    state.heard[1] = heard(&["o2"]);
    assert_eq!(violated(&operations, &state), ["event-reaches-subscribers"]);
    state.heard[1] = Heard { ended: Some("the server closed it".into()), ..heard(&["o1", "o2"]) };
    assert_eq!(violated(&operations, &state), ["event-reaches-subscribers"]);
}

#[test]
fn a_job_that_takes_effect_twice_is_found() {
    let (operations, mut state) = sound();
    state.invoices.push(Invoice { job_id: "j1-again".into(), ..state.invoices[0].clone() });
    assert_eq!(violated(&operations, &state), ["invoice-exactly-once"]);
}

#[test]
fn an_order_without_an_event_is_found_and_a_repetition_under_one_id_is_not() {
    let (operations, mut state) = sound();
    state.events.push(Event { sequence: 4, ..state.events[0].clone() });
    assert_eq!(violated(&operations, &state), Vec::<String>::new());
    state.events.retain(|e| e.order_id != "o2");
    assert_eq!(violated(&operations, &state), ["event-at-least-once"]);
}

#[test]
fn too_few_repetitions_prove_nothing_where_the_scenario_asks_for_them() {
    let (_, mut state) = sound();
    let asked = |min_repetitions| [(REPEATS.to_owned(), Asked { min_repetitions })].into();
    assert_eq!(repetitions(&asked(0), &state), None);
    let line = repetitions(&asked(1), &state).expect("asked for");
    assert!(matches!(line.outcome, Outcome::Inconclusive(_)), "{line:?}");
    state.events.push(Event { sequence: 4, ..state.events[0].clone() });
    let line = repetitions(&asked(1), &state).expect("asked for");
    assert_eq!(line.outcome, Outcome::Pass);
    assert_eq!(line.detail, "1 deliveries beyond the first of 4 messages, wanted at least 1");
}

#[test]
fn a_lost_change_of_status_is_found() {
    let (operations, mut state) = sound();
    state.status_changes.remove(0);
    // Its event is still in the stream, and now tells of something that never was.
    assert_eq!(violated(&operations, &state), ["event-at-least-once", "no-acked-status-lost"]);
}

#[test]
fn a_payment_that_was_taken_and_not_acted_upon_is_found_and_one_that_paid_twice() {
    let (operations, mut state) = sound();
    let (again, told) = payment("c8");
    state.status_changes.push(again);
    state.events.push(told);
    assert_eq!(violated(&operations, &state), ["webhook-exactly-once"]);
    let (operations, mut state) = sound();
    state.status_changes.pop();
    state.events.pop();
    assert_eq!(violated(&operations, &state), ["webhook-exactly-once"]);
}

#[test]
fn a_fault_that_did_not_bite_makes_the_run_inconclusive() {
    let wanted = Wanted { refused: 1, reset: 1, ..Wanted::default() };
    let none = evidence("redis-refused", &wanted, &Evidence { refused: 4, ..Evidence::default() }, true);
    assert_eq!(none.detail, "reset 0 of at least 1");
    assert_eq!(Verdict::of(&[none]), Verdict::Inconclusive);
    let enough =
        evidence("redis-refused", &wanted, &Evidence { refused: 4, reset: 2, ..Evidence::default() }, true);
    assert_eq!(enough.outcome, Outcome::Pass);
}

#[test]
fn a_fault_that_nobody_counts_is_judged_by_our_own_exchanges_or_not_at_all() {
    let wanted = Wanted { delayed_bytes: 1, ..Wanted::default() };
    let unseen = evidence("redis-slow", &wanted, &Evidence::default(), false);
    assert_eq!(
        unseen.outcome,
        Outcome::Inconclusive("the proxy does not count what this fault touches".into())
    );
    let met = evidence("redis-slow", &wanted, &Evidence { probes: 3, ..Evidence::default() }, true);
    assert_eq!(met.outcome, Outcome::Pass);
    assert_eq!(met.detail, "the proxy does not count; 3 exchanges of the harness met the fault");
    let missed = evidence("redis-slow", &wanted, &Evidence::default(), true);
    assert_eq!(Verdict::of(&[missed]), Verdict::Inconclusive);
}

#[test]
fn a_lost_event_of_a_status_change_is_found() {
    let (operations, mut state) = sound();
    state.events.retain(|event| event.subject != "orders.status_changed");
    assert_eq!(violated(&operations, &state), ["event-at-least-once"]);
}

#[test]
fn an_api_that_cannot_be_read_leaves_the_other_invariants_judged() {
    let (operations, mut state) = sound();
    state.api.clear();
    state.api_unread = Some("no answer".into());
    state.orders.remove(1);
    state.events.remove(1);
    state.heard = vec![heard(&["o1"])];
    assert_eq!(violated(&operations, &state), ["no-acked-write-lost", "one-order-per-key"]);
}
