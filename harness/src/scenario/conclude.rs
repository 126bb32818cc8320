//! From everything that was seen to the lines of the verdict, in the order a reader asks: could it be judged, was anything
//! lost, was it good enough. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chaos::history::{ClassId, History};

use super::injector::Done;
use super::probe::Probe;
use super::readback::FinalState;
use super::recovery::{self, Healing, Queue};
use super::runner::{Evidence, Job};
use super::steady_state::{self, Facts};
use super::window::{Phases, Span};
use super::{Scenario, Window, judge};
use crate::load::{gates, leaks};
use crate::observe::recorder::Second;
use crate::verdict::{Criterion, Kind, Outcome};

const SECOND_NS: u64 = 1_000_000_000;

/// What was seen while the run lasted, beside what the evidence has already.
pub(super) struct Seen<'a> {
    pub history: &'a History,
    pub probes: &'a [Probe],
    /// `None` when the final state could not be read.
    pub state: Option<&'a FinalState>,
    /// Without the faults: their times are in the evidence.
    pub phases: Phases,
}

/// Adds every criterion that facts decide to the evidence.
pub(super) fn conclude(job: &Job, evidence: &mut Evidence, seen: Seen<'_>) {
    let Seen { history, probes, state, mut phases } = seen;
    phases.faults = evidence
        .done
        .iter()
        .filter_map(|done| {
            let span =
                Span { from_ns: done.injected_ns?, to_ns: done.healed_ns.unwrap_or(phases.load.to_ns) };
            Some((job.timeline.acts[done.act].id.clone(), span))
        })
        .collect();
    let samples = named_plainly(&evidence.samples);
    let facts = Facts {
        operations: &history.operations,
        classes: &history.header.classes,
        dropped: dropped(&evidence.windows),
        probes,
        samples: &samples,
    };
    let mut criteria = Vec::new();
    for done in &evidence.done {
        criteria.extend(fault_lines(job, done));
    }
    if let Some(scenario) = job.scenarios.first() {
        criteria.extend(steady_state::judge_steady(scenario, &phases, &facts));
    }
    if let Some(state) = state {
        criteria.push(judge::drained(state));
        criteria.extend(judge::repetitions(&job.invariants, state));
        let findings =
            judge::invariants(&job.invariants, &history.operations, &history.header.classes, state);
        criteria.extend(findings.iter().map(|f| judge::criterion(f, Kind::Invariant, &history.operations)));
        evidence.findings.extend(findings);
    }
    criteria.extend(expectations(job, &phases, &facts));
    let settled = state.is_some_and(|state| state.undrained.is_empty());
    recoveries(job, &phases, &facts, settled, evidence, &mut criteria);
    if let Some(outcome) = &evidence.load {
        let excluded = job.timeline.excluded(outcome.started_ns);
        let profile = &job.plan.profile;
        criteria.extend(gates::judge(profile, &evidence.windows, outcome, &excluded));
        let lasts = job.plan.schedule.duration();
        criteria.extend(leaks::judge(profile, lasts, &evidence.samples, &evidence.windows, &excluded));
    }
    evidence.criteria.extend(criteria);
}

fn fault_lines(job: &Job, done: &Done) -> Vec<Criterion> {
    let act = &job.timeline.acts[done.act];
    let mut lines = Vec::new();
    if let Some(trouble) = &done.trouble {
        lines.push(Criterion {
            name: format!("fault {}", act.id),
            kind: Kind::Validity,
            outcome: Outcome::Inconclusive("the fault did not act out as planned".into()),
            detail: trouble.clone(),
            proof: vec![],
        });
    }
    if done.injected_ns.is_some() {
        lines.push(judge::evidence(&act.id, &act.fault.evidence, &done.evidence, done.counted));
    }
    lines
}

/// Each placed scenario's expectations, once for each of its rounds: `during:ID` means that round's fault.
fn expectations(job: &Job, phases: &Phases, facts: &Facts<'_>) -> Vec<Criterion> {
    let mut criteria = Vec::new();
    for scenario in &job.scenarios {
        let own = |id: &str| job.timeline.acts.iter().any(|a| a.id == id && a.scenario == scenario.id);
        let rounds: BTreeSet<&str> =
            phases.faults.iter().filter(|(id, _)| own(id)).map(|(id, _)| round(id)).collect();
        for number in rounds {
            let mut faults = phases.faults.clone();
            // The first match wins: this round's faults stand before all others.
            faults.sort_by_key(|(id, _)| !(own(id) && round(id) == number));
            let phases = Phases { faults, ..phases.clone() };
            let several = job.scenarios.len() > 1 || number != "1";
            for mut criterion in steady_state::judge(&scenario.expectations, &phases, facts) {
                if several {
                    criterion.name = format!("{}#{number} {}", scenario.id, criterion.name);
                }
                criteria.push(criterion);
            }
        }
    }
    criteria
}

/// Of each fault that was healed: requests are served as before, and what queued up is gone.
fn recoveries(
    job: &Job,
    phases: &Phases,
    facts: &Facts<'_>,
    settled: bool,
    evidence: &mut Evidence,
    criteria: &mut Vec<Criterion>,
) {
    for done in &evidence.done {
        let act = &job.timeline.acts[done.act];
        let Some(healed_ns) = done.healed_ns else { continue };
        let Some(scenario) = job.scenarios.iter().find(|s| s.id == act.scenario) else { continue };
        let seconds = steady_state::seconds(&scenario.steady_state.checks, phases.load, facts);
        let (budget, stable) = (nanos(act.budget), nanos(act.stable));
        let finding = recovery::recovered(&act.id, healed_ns, budget, stable, &seconds);
        criteria.push(judge::criterion(&finding, Kind::Slo, facts.operations));
        evidence.recovered.insert(act.id.clone(), recovery::recovered_at(healed_ns, stable, &seconds));
        evidence.findings.push(finding);

        let others = phases.faults.iter().filter(|(id, span)| *id != act.id && span.to_ns > healed_ns);
        let healing = Healing {
            fault: &act.id,
            healed_ns,
            budget: scenario.recover.drain.within,
            stable: act.stable,
            next_fault_ns: others.map(|(_, span)| span.from_ns.max(healed_ns)).min(),
            settled,
        };
        if let Some((line, at_ns)) = drained(job, scenario, phases, facts, &healing) {
            criteria.push(line);
            evidence.drained.insert(act.id.clone(), at_ns);
        }
    }
}

/// `None` when there is nothing that could have filled up.
fn drained(
    job: &Job,
    scenario: &Scenario,
    phases: &Phases,
    facts: &Facts<'_>,
    healing: &Healing<'_>,
) -> Option<(Criterion, Option<u64>)> {
    let drain = &scenario.recover.drain;
    let before = phases.span(&Window::Before)?;
    let (mut queues, mut unseen) = (Vec::new(), Vec::new());
    for name in &drain.series {
        let points = facts.samples.get(name).map_or(&[][..], Vec::as_slice);
        let steady: Vec<(u64, f64)> = points.iter().copied().filter(|(at, _)| before.contains(*at)).collect();
        match recovery::steady_bound(&steady, job.plan.profile.peak_rate()) {
            Some(bound) => queues.push(Queue { name, bound, points }),
            None => unseen.push(name.as_str()),
        }
    }
    if drain.named && !unseen.is_empty() {
        let line = Criterion {
            name: format!("drained {}", healing.fault),
            kind: Kind::Slo,
            outcome: Outcome::Inconclusive("a series has no value before the first fault".into()),
            detail: unseen.join(", "),
            proof: vec![],
        };
        return Some((line, None));
    }
    (!queues.is_empty()).then(|| recovery::drained(healing, &queues))
}

/// `2` of `redis-refused#2`; `1` where the id has no round.
fn round(id: &str) -> &str {
    id.rsplit_once('#').map_or("1", |(_, number)| number)
}

fn dropped(windows: &[Second]) -> Vec<(u64, u16, u64)> {
    let mut all = Vec::new();
    for second in windows {
        for (index, class) in second.classes.iter().enumerate().filter(|(_, class)| class.dropped > 0) {
            let class_id = ClassId(u16::try_from(index).unwrap_or(u16::MAX));
            all.push((second.second * SECOND_NS, class_id.0, class.dropped));
        }
    }
    all
}

/// Series of the server are known to scenarios by their metric's name: `runtime.outbox_pending` is also
/// `outbox_pending`.
fn named_plainly(samples: &BTreeMap<String, Vec<(u64, f64)>>) -> BTreeMap<String, Vec<(u64, f64)>> {
    let plain = |name: &String| name.strip_prefix("runtime.").unwrap_or(name).to_owned();
    samples
        .iter()
        .flat_map(|(name, points)| [(name.clone(), points.clone()), (plain(name), points.clone())])
        .collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
