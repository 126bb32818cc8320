//! From the history, the final state and the faults' evidence to the lines of the verdict. Pure: every rule is a checker
//! of the `chaos` crate; here they are given what they need and their findings become criteria.

use std::collections::{BTreeMap, BTreeSet};

use chaos::checker::{
    Anomaly, Finding, Validity, acked_writes, delivery, exactly_once, idempotency, reads, subscriptions,
};
use chaos::fault::Evidence;
use chaos::history::{OpId, Operation, Outcome as Came};

use super::evidence::Wanted;
use super::readback::{Event, FinalState};
use super::{Invariants, REPEATS};
use crate::report::AnomalyReport;
use crate::verdict::{Criterion, Kind, Outcome};

/// Most anomalies that one criterion lists; the rest are counted in its last line.
pub const LISTED_MAX: usize = 20;

/// Every invariant that the scenario names, judged. `operations` are all of the history, `classes` its class names.
pub fn invariants(
    wanted: &Invariants,
    operations: &[Operation],
    classes: &[String],
    state: &FinalState,
) -> Vec<Finding> {
    let of = |class: &str| -> Vec<&Operation> {
        operations
            .iter()
            .filter(|o| classes.get(usize::from(o.class.0)).is_some_and(|name| name == class))
            .collect()
    };
    let creates = of("createOrder");
    let rows: Vec<(String, String)> =
        state.orders.iter().filter_map(|o| Some((o.idempotency_key.clone()?, o.id.clone()))).collect();
    let named = |finding: Finding, name: &str| Finding { invariant: name.to_owned(), ..finding };
    let deliveries = of("paymentWebhook");
    let mut findings = Vec::new();
    for name in wanted.keys() {
        let finding = match name.as_str() {
            "no-acked-write-lost" => only(orders(&creates, &rows), |kind| kind != "phantom"),
            "no-write-out-of-nothing" => only(orders(&creates, &rows), |kind| kind == "phantom"),
            "one-order-per-key" => idempotency::check(&creates, &rows),
            "no-acked-status-lost" => status(&of("updateOrderStatus"), &deliveries, state),
            "invoice-exactly-once" => invoices(&of("requestInvoice"), state),
            "webhook-exactly-once" => payments(&deliveries, state),
            "event-at-least-once" => events(&creates, &of("updateOrderStatus"), &deliveries, state),
            "event-reaches-subscribers" => subscribers(&creates, state),
            "api-equals-database" => match &state.api_unread {
                Some(reason) => unread(name, reason),
                None => reads::agreement(name, &state.api, &stored(state)),
            },
            // The lint refuses names that are not in `INVARIANTS`.
            _ => continue,
        };
        findings.push(named(finding, name));
    }
    findings
}

/// The checker of writes, on orders: what an order's key writes is the key itself.
fn orders(creates: &[&Operation], rows: &[(String, String)]) -> Finding {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, _) in rows {
        found.entry(key.clone()).or_default().push(key.clone());
    }
    acked_writes::check("no-acked-write-lost", creates, &found)
}

/// The same finding with the anomalies of one sort: two invariants read one checker.
fn only(finding: Finding, keep: fn(&str) -> bool) -> Finding {
    let all = finding.anomalies.len();
    let anomalies: Vec<Anomaly> = finding.anomalies.into_iter().filter(|a| keep(&a.kind)).collect();
    let validity = match finding.validity {
        Validity::Invalid if anomalies.is_empty() => Validity::Valid,
        other => other,
    };
    let figures = finding.summary.split(": ").next().unwrap_or_default();
    let summary = if anomalies.len() == all {
        finding.summary
    } else if anomalies.is_empty() {
        format!("{figures}: no contradiction of this kind")
    } else {
        format!("{figures}: {} contradictions", anomalies.len())
    };
    Finding { anomalies, validity, summary, ..finding }
}

/// A change of status writes `order id|status` under its own key.
fn status(updates: &[&Operation], payments: &[&Operation], state: &FinalState) -> Finding {
    let paid = keys(payments);
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // What a payment did has a key of the server's own.
    let changes = state.status_changes.iter().filter(|change| !paid.contains(change.order_id.as_str()));
    for change in changes {
        if let Some(key) = &change.idempotency_key {
            let value = format!("{}|{}", change.order_id, change.status);
            found.entry(key.clone()).or_default().push(value);
        }
    }
    // A createOrder may log the first status under its own key; that is no update.
    let keys = keys(updates);
    let created: BTreeSet<&str> = state.orders.iter().filter_map(|o| o.idempotency_key.as_deref()).collect();
    found.retain(|key, _| keys.contains(key.as_str()) || !created.contains(key.as_str()));
    acked_writes::check("no-acked-status-lost", updates, &found)
}

fn invoices(requests: &[&Operation], state: &FinalState) -> Finding {
    let effects: Vec<(String, String)> = state
        .invoices
        .iter()
        .map(|i| (i.idempotency_key.clone().unwrap_or_else(|| i.job_id.clone()), i.job_id.clone()))
        .collect();
    exactly_once::check(requests, &effects)
}

/// A payment's key is its order, and its effect the step of that order to paid.
fn payments(deliveries: &[&Operation], state: &FinalState) -> Finding {
    let paid = keys(deliveries);
    let effects: Vec<(String, String)> = state
        .status_changes
        .iter()
        .filter(|change| change.status == "paid" && paid.contains(change.order_id.as_str()))
        .map(|change| (change.order_id.clone(), change.id.clone()))
        .collect();
    exactly_once::check(deliveries, &effects)
}

fn keys<'a>(operations: &[&'a Operation]) -> BTreeSet<&'a str> {
    operations.iter().map(|operation| operation.key.as_str()).collect()
}

/// Each subscriber has to hear of each order of this run that the database holds, acknowledged or not.
fn subscribers(creates: &[&Operation], state: &FinalState) -> Finding {
    let keys: BTreeSet<&str> = creates.iter().map(|o| o.key.as_str()).collect();
    let ours = |key: &Option<String>| key.as_deref().is_some_and(|key| keys.contains(key));
    let expected: Vec<String> =
        state.orders.iter().filter(|o| ours(&o.idempotency_key)).map(|o| o.id.clone()).collect();
    subscriptions::check(&expected, &state.heard)
}

/// One event has to be there for each order and each change of status of this run that the database holds,
/// acknowledged or not.
fn events(
    creates: &[&Operation],
    updates: &[&Operation],
    payments: &[&Operation],
    state: &FinalState,
) -> Finding {
    let paid = keys(payments);
    let keys: BTreeSet<&str> = creates.iter().chain(updates).map(|o| o.key.as_str()).collect();
    let ours = |key: &Option<String>| key.as_deref().is_some_and(|key| keys.contains(key));
    let created = |id: &str| format!("created {id}");
    let changed = |id: &str| format!("changed {id}");
    let orders = state.orders.iter().filter(|o| ours(&o.idempotency_key)).map(|o| created(&o.id));
    let changes = state
        .status_changes
        .iter()
        .filter(|c| ours(&c.idempotency_key) || paid.contains(c.order_id.as_str()))
        .map(|c| changed(&c.id));
    let expected: Vec<String> = orders.chain(changes).collect();
    let message = |event: &Event| {
        let key = match event.subject.rsplit('.').next() {
            Some("created") => created(&event.order_id),
            Some("status_changed") => changed(&event.event_id),
            _ => return None,
        };
        Some(delivery::Message { key, message_id: event.message_id.clone(), sequence: event.sequence })
    };
    let delivered: Vec<delivery::Message> = state.events.iter().filter_map(message).collect();
    delivery::check(&expected, &delivered)
}

/// Whether enough messages were delivered more than once to have shown that a repetition is recognisable; `None` when
/// the scenario does not ask.
pub fn repetitions(wanted: &Invariants, state: &FinalState) -> Option<Criterion> {
    let least = wanted.get(REPEATS).map_or(0, |asked| asked.min_repetitions);
    if least == 0 {
        return None;
    }
    let messages: BTreeSet<&str> = state.events.iter().map(|event| event.message_id.as_str()).collect();
    let repeated = (state.events.len() - messages.len()) as u64;
    let outcome = if repeated >= least {
        Outcome::Pass
    } else {
        Outcome::Inconclusive("too few repetitions to show that they are recognisable".into())
    };
    let detail = format!(
        "{repeated} deliveries beyond the first of {} messages, wanted at least {least}",
        messages.len()
    );
    Some(Criterion { name: "repetitions".into(), kind: Kind::Validity, outcome, detail, proof: vec![] })
}

/// An invariant whose facts could not be had.
fn unread(name: &str, reason: &str) -> Finding {
    Finding {
        invariant: name.to_owned(),
        validity: Validity::Unknown,
        examined: 0,
        summary: reason.to_owned(),
        anomalies: vec![],
    }
}

/// The rows of those orders that the API was asked about.
fn stored(state: &FinalState) -> BTreeMap<String, String> {
    state
        .orders
        .iter()
        .filter(|o| state.asked.contains(&o.id))
        .map(|o| (o.id.clone(), format!("{}|{}|{}", o.id, o.status, o.total)))
        .collect()
}

/// A finding as a line of the verdict, with the operations that prove it.
pub fn criterion(finding: &Finding, kind: Kind, operations: &[Operation]) -> Criterion {
    let outcome = match finding.validity {
        Validity::Valid => Outcome::Pass,
        Validity::Invalid => Outcome::Fail,
        Validity::Unknown => Outcome::Inconclusive("nothing was there to examine".into()),
    };
    let mut proof = Vec::new();
    for anomaly in finding.anomalies.iter().take(LISTED_MAX) {
        proof.push(format!("{} {}: {}", anomaly.kind, anomaly.key, anomaly.explanation.replace('\n', " ")));
        proof.extend(lines(&anomaly.ops, operations).into_iter().map(|line| format!("  {line}")));
    }
    if let Some(rest) = finding.anomalies.len().checked_sub(LISTED_MAX).filter(|rest| *rest > 0) {
        proof.push(format!("and {rest} more"));
    }
    Criterion { name: finding.invariant.clone(), kind, outcome, detail: finding.summary.clone(), proof }
}

/// The same for the report's table of witnesses; `epoch_ns` is the start of the load.
pub fn witnesses(finding: &Finding, operations: &[Operation], epoch_ns: u64) -> Vec<AnomalyReport> {
    let seconds = |ns: u64| ns.saturating_sub(epoch_ns) as f64 / 1e9;
    let report = |a: &Anomaly| {
        let first = a.ops.first().and_then(|op| find(*op, operations)).map(|o| o.invoked_ns);
        AnomalyReport {
            invariant: finding.invariant.clone(),
            kind: a.kind.clone(),
            key: a.key.clone(),
            at_s: a.at_ns.or(first).map(seconds),
            explanation: a.explanation.clone(),
            operations: lines(&a.ops, operations),
        }
    };
    finding.anomalies.iter().take(LISTED_MAX).map(report).collect()
}

fn lines(ops: &[OpId], operations: &[Operation]) -> Vec<String> {
    ops.iter().filter_map(|op| find(*op, operations)).map(line).collect()
}

fn find(op: OpId, operations: &[Operation]) -> Option<&Operation> {
    operations.binary_search_by_key(&op, |o| o.op).ok().map(|at| &operations[at])
}

fn line(o: &Operation) -> String {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let came = match o.outcome {
        Came::Ok => "ok",
        Came::Fail => "fail",
        Came::Unknown => "unknown",
    };
    let done = o.completed_ns.map_or("never".to_owned(), |ns| format!("{:.3} s", seconds(ns)));
    format!(
        "op {} by {}: {:.3} s to {done}, key {}, {came} {} {}",
        o.op.0,
        o.process,
        seconds(o.invoked_ns),
        o.key,
        o.code,
        o.answer
    )
    .trim_end()
    .to_owned()
}

/// Whether a fault touched enough to have been a test. `counted`: somebody counted what it touched.
pub fn evidence(fault: &str, wanted: &Wanted, found: &Evidence, counted: bool) -> Criterion {
    let missing = wanted.missing(found);
    let outcome = if missing.is_empty() {
        Outcome::Pass
    } else if !counted {
        Outcome::Inconclusive("the proxy does not count what this fault touches".into())
    } else {
        Outcome::Inconclusive("the fault did not bite, so nothing was tested".into())
    };
    let detail = if !missing.is_empty() {
        missing.join(", ")
    } else if found.probes > 0 {
        format!("the proxy does not count; {} exchanges of the harness met the fault", found.probes)
    } else {
        wanted.sentences().join(", ")
    };
    Criterion { name: format!("evidence {fault}"), kind: Kind::Validity, outcome, detail, proof: vec![] }
}

/// Whether the queues ran empty, so that the final state can be judged at all.
pub fn drained(state: &FinalState) -> Criterion {
    let outcome = if state.undrained.is_empty() { Outcome::Pass } else { Outcome::Fail };
    let detail = if state.undrained.is_empty() {
        format!("queue, spool and outbox were empty after {:.1} s", state.drained_after_s)
    } else {
        format!("after {:.1} s: {}", state.drained_after_s, state.undrained.join(", "))
    };
    Criterion { name: "drained".into(), kind: Kind::Slo, outcome, detail, proof: vec![] }
}

/// Nothing of the run may be left; `left` names each thing.
pub fn residue(left: &[String]) -> Criterion {
    let outcome = if left.is_empty() { Outcome::Pass } else { Outcome::Fail };
    let detail = match left.len() {
        0 => "no process, container, folder or fault of this run is left".to_owned(),
        n => format!("{n} left behind"),
    };
    Criterion {
        name: "nothing-left-behind".into(),
        kind: Kind::Residue,
        outcome,
        detail,
        proof: left.to_vec(),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
