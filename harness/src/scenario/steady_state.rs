//! Whether what was seen fits what a scenario expects: in each of its windows, and second by second for the recovery.
//!
//! Pure functions of recorded facts. A check that found nothing to look at is undecided, never passed.

use std::collections::BTreeMap;

use chaos::history::Operation;

use super::check::{Check, Op, Subject};
use super::probe::Probe;
use super::tally::{Tally, short};
use super::window::{Phases, Span};
use super::{Expectation, Scenario, Window};
use crate::verdict::{Criterion, Kind, Outcome};

const SECOND_NS: u64 = 1_000_000_000;
/// Most proof lines of one check.
pub(super) const PROOF_MAX: usize = 20;

/// Everything that was seen, on the run's clock (nanoseconds).
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub operations: &'a [Operation],
    /// Class names; a class id is an index into it.
    pub classes: &'a [String],
    /// Arrivals that were never sent: (second's start, class, how many).
    pub dropped: Vec<(u64, u16, u64)>,
    pub probes: &'a [Probe],
    pub samples: &'a BTreeMap<String, Vec<(u64, f64)>>,
}

/// One criterion for each check of each expectation.
pub fn judge(expectations: &[Expectation], phases: &Phases, facts: &Facts<'_>) -> Vec<Criterion> {
    let mut criteria = Vec::new();
    for expectation in expectations {
        for check in &expectation.checks {
            let name = format!("{}: {}", expectation.window, check.name);
            let found = match phases.span(&expectation.window) {
                None => Found::nothing("the fault of this window never acted"),
                Some(span) => evaluate(check, span, facts),
            };
            criteria.push(found.criterion(name, Kind::Slo));
        }
    }
    criteria
}

/// The steady state before the first fault: without it nothing that follows can be judged.
pub fn judge_steady(scenario: &Scenario, phases: &Phases, facts: &Facts<'_>) -> Vec<Criterion> {
    let before = phases.span(&Window::Before).expect("the time before the first fault is always known");
    let window = u64::try_from(scenario.steady_state.window.as_nanos()).unwrap_or(u64::MAX);
    let span = Span { from_ns: before.from_ns.max(before.to_ns.saturating_sub(window)), to_ns: before.to_ns };
    let checks = scenario.steady_state.checks.iter();
    checks
        .map(|check| {
            evaluate(check, span, facts).criterion(format!("steady: {}", check.name), Kind::Validity)
        })
        .collect()
}

/// Seconds of the load, each good when every steady-state check that metrics can answer holds in it. A second in which
/// nothing was due is good; a second in which something was due and nothing was answered is not.
pub fn seconds(checks: &[Check], load: Span, facts: &Facts<'_>) -> Vec<(u64, bool)> {
    let width = usize::try_from(load.to_ns.saturating_sub(load.from_ns) / SECOND_NS).unwrap_or(0);
    let mut buckets: Vec<Vec<&Operation>> = vec![Vec::new(); width];
    for operation in facts.operations.iter().filter(|o| o.intended_ns >= load.from_ns) {
        let index = usize::try_from((operation.intended_ns - load.from_ns) / SECOND_NS).unwrap_or(usize::MAX);
        if let Some(bucket) = buckets.get_mut(index) {
            bucket.push(operation);
        }
    }
    let good = |(i, bucket): (usize, &Vec<&Operation>)| {
        let from_ns = load.from_ns + i as u64 * SECOND_NS;
        let span = Span { from_ns, to_ns: from_ns + SECOND_NS };
        let holds = checks.iter().all(|check| match &check.subject {
            Subject::Metric { metric, classes, op, value } => {
                let tally = Tally::of(bucket.iter().copied(), classes, span, facts);
                tally.due == 0 || tally.value(*metric, span).is_some_and(|found| op.holds(found, *value))
            }
            Subject::Series { .. } | Subject::Http { .. } => true,
        });
        (from_ns, holds)
    };
    buckets.iter().enumerate().map(good).collect()
}

/// What a check found.
struct Found {
    outcome: Outcome,
    detail: String,
    proof: Vec<String>,
}

impl Found {
    fn nothing(reason: &str) -> Self {
        Found { outcome: Outcome::Inconclusive(reason.to_owned()), detail: String::new(), proof: vec![] }
    }

    fn decided(holds: bool, detail: String, proof: Vec<String>) -> Self {
        Found { outcome: if holds { Outcome::Pass } else { Outcome::Fail }, detail, proof }
    }

    fn criterion(self, name: String, kind: Kind) -> Criterion {
        Criterion { name, kind, outcome: self.outcome, detail: self.detail, proof: self.proof }
    }
}

fn evaluate(check: &Check, window: Span, facts: &Facts<'_>) -> Found {
    let within = u64::try_from(check.within.as_nanos()).unwrap_or(u64::MAX);
    let span = Span { from_ns: window.from_ns.saturating_add(within), to_ns: window.to_ns };
    if span.from_ns >= span.to_ns {
        return Found::nothing("the window was shorter than `within`");
    }
    match &check.subject {
        Subject::Metric { metric, classes, op, value } => {
            let due = facts.operations.iter().filter(|o| span.contains(o.intended_ns));
            let tally = Tally::of(due, classes, span, facts);
            let Some(found) = tally.value(*metric, span) else {
                return Found::nothing("no operation was due in the window");
            };
            let detail = format!(
                "{} {} of {} operations, wanted {} {value}",
                metric.name(),
                short(found),
                tally.due,
                op.sign()
            );
            Found::decided(op.holds(found, *value), detail, tally.codes())
        }
        Subject::Series { series, op, value } => sampled(series, *op, *value, span, facts),
        Subject::Http { path, status, json } => answered(path, *status, json.as_ref(), span, facts),
    }
}

fn sampled(series: &str, op: Op, value: f64, span: Span, facts: &Facts<'_>) -> Found {
    let points: Vec<(u64, f64)> = facts
        .samples
        .get(series)
        .map(|points| points.iter().copied().filter(|(at, _)| span.contains(*at)).collect())
        .unwrap_or_default();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Found::nothing(&format!("series `{series}` has no value in the window"));
    };
    let highest = points.iter().map(|(_, v)| *v).fold(f64::MIN, f64::max);
    if op == Op::Increases {
        let grown = highest - first.1;
        let detail =
            format!("{series} rose by {} from {}, wanted at least {value}", short(grown), short(first.1));
        return Found::decided(grown >= value, detail, vec![]);
    }
    let wrong: Vec<String> = points
        .iter()
        .filter(|(_, v)| !op.holds(*v, value))
        .take(PROOF_MAX)
        .map(|(at, v)| format!("{} s: {series} {}", short(*at as f64 / 1e9), short(*v)))
        .collect();
    let detail = format!(
        "{series} up to {}, {} at the end of {} samples, wanted {} {value}",
        short(highest),
        short(last.1),
        points.len(),
        op.sign()
    );
    Found::decided(wrong.is_empty(), detail, wrong)
}

fn answered(
    path: &str,
    status: Option<u16>,
    json: Option<&(String, Op, serde_json::Value)>,
    span: Span,
    facts: &Facts<'_>,
) -> Found {
    let probes: Vec<&Probe> =
        facts.probes.iter().filter(|p| p.path == path && span.contains(p.at_ns)).collect();
    if probes.is_empty() {
        return Found::nothing(&format!("{path} was not asked in the window"));
    }
    let holds = |probe: &Probe| {
        status.is_none_or(|wanted| probe.status == wanted)
            && json.is_none_or(|(pointer, op, wanted)| compare(probe.body.pointer(pointer), *op, wanted))
    };
    let wrong: Vec<&&Probe> = probes.iter().filter(|p| !holds(p)).collect();
    let mut wanted = Vec::new();
    wanted.extend(status.map(|status| format!("status {status}")));
    wanted.extend(json.map(|(pointer, op, value)| format!("{pointer} {} {value}", op.sign())));
    let detail = format!(
        "{path}: {} of {} answers with {}",
        probes.len() - wrong.len(),
        probes.len(),
        wanted.join(" and ")
    );
    let proof = wrong.iter().take(PROOF_MAX).map(|p| {
        let value =
            json.and_then(|(pointer, ..)| p.body.pointer(pointer)).map_or(String::new(), |v| format!(" {v}"));
        format!("{} s: status {}{value}", short(p.at_ns as f64 / 1e9), p.status)
    });
    Found::decided(wrong.is_empty(), detail, proof.collect())
}

fn compare(found: Option<&serde_json::Value>, op: Op, wanted: &serde_json::Value) -> bool {
    match (found, op) {
        (Some(found), Op::Eq) => found == wanted,
        (Some(found), Op::Ne) => found != wanted,
        (Some(found), op) => match (found.as_f64(), wanted.as_f64()) {
            (Some(found), Some(wanted)) => op.holds(found, wanted),
            _ => false,
        },
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chaos::history::{ClassId, OpId, Outcome as Came};

    use super::*;
    use crate::scenario::check::Metric;

    fn operation(n: u64, at_ms: u64, took_ms: u64, outcome: Came) -> Operation {
        let intended_ns = at_ms * 1_000_000;
        Operation {
            op: OpId(n),
            process: 0,
            class: ClassId(0),
            intended_ns,
            invoked_ns: intended_ns,
            completed_ns: Some(intended_ns + took_ms * 1_000_000),
            key: n.to_string(),
            value: String::new(),
            outcome,
            code: "200".into(),
            answer: String::new(),
        }
    }

    fn metric(metric: Metric, op: Op, value: f64) -> Check {
        let subject = Subject::Metric { metric, classes: vec!["createOrder".into()], op, value };
        Check { name: "c".into(), subject, within: Duration::ZERO }
    }

    const FIVE: Span = Span { from_ns: 0, to_ns: 5 * SECOND_NS };

    #[test]
    fn a_dropped_arrival_counts_against_the_share() {
        let operations: Vec<_> = (0..99).map(|n| operation(n, n * 10, 5, Came::Ok)).collect();
        let classes = ["createOrder".to_owned()];
        let samples = BTreeMap::new();
        let mut facts = Facts {
            operations: &operations,
            classes: &classes,
            dropped: vec![],
            probes: &[],
            samples: &samples,
        };
        let check = metric(Metric::OkRatio, Op::Ge, 0.995);
        assert_eq!(evaluate(&check, FIVE, &facts).outcome, Outcome::Pass);
        facts.dropped.push((0, 0, 1));
        assert_eq!(evaluate(&check, FIVE, &facts).outcome, Outcome::Fail);
    }

    #[test]
    fn a_window_without_operations_decides_nothing() {
        let (classes, samples) = (["createOrder".to_owned()], BTreeMap::new());
        let facts =
            Facts { operations: &[], classes: &classes, dropped: vec![], probes: &[], samples: &samples };
        let found = evaluate(&metric(Metric::P95Ms, Op::Le, 100.0), FIVE, &facts);
        assert!(matches!(found.outcome, Outcome::Inconclusive(_)), "{:?}", found.outcome);
    }

    #[test]
    fn within_gives_time_and_then_has_to_hold() {
        let probe = |second: u64, status: &str| Probe {
            at_ns: second * SECOND_NS,
            path: "/health".into(),
            status: 200,
            body: serde_json::json!({ "status": status }),
        };
        let probes = [probe(0, "healthy"), probe(1, "healthy"), probe(2, "degraded"), probe(4, "degraded")];
        let (classes, samples) = (["createOrder".to_owned()], BTreeMap::new());
        let facts =
            Facts { operations: &[], classes: &classes, dropped: vec![], probes: &probes, samples: &samples };
        let json = Some(("/status".to_owned(), Op::Eq, serde_json::json!("degraded")));
        let subject = Subject::Http { path: "/health".into(), status: None, json };
        let check = |within| Check {
            name: "c".into(),
            subject: subject.clone(),
            within: Duration::from_secs(within),
        };
        assert_eq!(evaluate(&check(2), FIVE, &facts).outcome, Outcome::Pass);
        assert_eq!(evaluate(&check(1), FIVE, &facts).outcome, Outcome::Fail);
    }

    #[test]
    fn a_second_with_unanswered_operations_is_not_good() {
        let mut operations: Vec<_> = (0..20).map(|n| operation(n, n * 100, 5, Came::Ok)).collect();
        for late in &mut operations[10..] {
            late.outcome = Came::Unknown;
            late.completed_ns = None;
        }
        let (classes, samples) = (["createOrder".to_owned()], BTreeMap::new());
        let facts = Facts {
            operations: &operations,
            classes: &classes,
            dropped: vec![],
            probes: &[],
            samples: &samples,
        };
        let span = Span { from_ns: 0, to_ns: 3 * SECOND_NS };
        let good = seconds(&[metric(Metric::P95Ms, Op::Le, 100.0)], span, &facts);
        assert_eq!(good, [(0, true), (SECOND_NS, false), (2 * SECOND_NS, true)]);
    }
}
