//! Gates: a profile's objectives, judged on the seconds outside fault windows and their recovery budgets. Pure.
//!
//! Percentiles count from the intended start; every dropped arrival is an error. Stages marked `overload` have rules of
//! their own, in [`overload`]. Nothing to judge is inconclusive, never a pass.

use hdrhistogram::Histogram;

use super::drive::{LoadOutcome, StageSpan};
use super::profile::{Kind as ProfileKind, Profile};
use super::{capacity, validity};
use crate::observe::latency::{Latencies, quantile_ms};
use crate::observe::recorder::Second;
use crate::verdict::{Criterion, Kind, Outcome};

#[path = "gates_overload.rs"]
mod overload;

/// Judges a load run: objectives, hard bounds, the achieved rate, the rules of overload, the generator's own health.
/// `excluded` are stretches of the run's clock in nanoseconds that objectives do not look at.
pub fn judge(
    profile: &Profile,
    windows: &[Second],
    outcome: &LoadOutcome,
    excluded: &[(u64, u64)],
) -> Vec<Criterion> {
    let judged = Judged::select(profile, windows, outcome, excluded);
    let mut criteria = match profile.kind {
        ProfileKind::Capacity => {
            capacity::judge(&judged.windows, judged.scheduled(profile, outcome), outcome)
        }
        ProfileKind::Sustained | ProfileKind::Stress | ProfileKind::Spike => {
            let mut criteria = objectives(profile, &judged);
            criteria.push(achieved_rate(profile, outcome, &judged));
            criteria
        }
    };
    criteria.extend(overload::judge(profile, windows, outcome, excluded));
    let met = criteria.iter().all(|criterion| criterion.outcome != Outcome::Fail);
    criteria.extend(validity::judge(outcome, met));
    criteria
}

/// The seconds that objectives look at.
struct Judged<'a> {
    windows: Vec<&'a Second>,
    /// Whole seconds of stages that objectives hold in, and those of them that faults left.
    seconds_all: u64,
    spans: Vec<(u64, u64)>,
    latency: Histogram<u64>,
}

impl<'a> Judged<'a> {
    fn select(
        profile: &Profile,
        windows: &'a [Second],
        outcome: &LoadOutcome,
        excluded: &[(u64, u64)],
    ) -> Self {
        let recovery = u64::try_from(profile.overload.recovery.as_nanos()).unwrap_or(u64::MAX);
        let mut seconds_all = 0;
        let mut spans = Vec::new();
        let mut after_overload = false;
        for stage in &outcome.stages {
            let grace = if after_overload { recovery } else { 0 };
            after_overload = stage.overload;
            if stage.warm_up || stage.overload {
                continue;
            }
            let whole = whole_seconds(stage.start_ns.saturating_add(grace), stage.end_ns);
            seconds_all += whole.len() as u64;
            spans.extend(whole.into_iter().filter(|span| !overlaps(*span, excluded)));
        }
        let windows: Vec<&Second> =
            windows.iter().filter(|second| spans.contains(&(second.start_ns(), second.end_ns()))).collect();
        let latency = Latencies::merged(windows.iter().flat_map(|second| second.latencies()));
        Judged { windows, seconds_all, spans, latency }
    }

    fn count(&self, of: fn(&Second) -> u64) -> u64 {
        self.windows.iter().map(|second| of(second)).sum()
    }

    /// Arrivals that were due in these seconds.
    fn scheduled(&self, profile: &Profile, outcome: &LoadOutcome) -> u64 {
        let schedule = profile.schedule();
        let since = |ns: u64| std::time::Duration::from_nanos(ns.saturating_sub(outcome.started_ns));
        let due = |&(start, end): &(u64, u64)| schedule.due_by(since(end)) - schedule.due_by(since(start));
        self.spans.iter().map(due).sum()
    }

    fn scope(&self) -> String {
        format!("in {} of {} s outside fault windows", self.spans.len(), self.seconds_all)
    }
}

fn objectives(profile: &Profile, judged: &Judged<'_>) -> Vec<Criterion> {
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1_000.0;
    let mut criteria: Vec<Criterion> = [
        ("p95", 0.95, ms(profile.slo.p95)),
        ("p99", 0.99, ms(profile.slo.p99)),
        ("hard-p50", 0.5, ms(profile.hard.p50)),
        ("hard-p95", 0.95, ms(profile.hard.p95)),
        ("hard-p99", 0.99, ms(profile.hard.p99)),
    ]
    .into_iter()
    .map(|(name, quantile, limit)| match quantile_ms(&judged.latency, quantile) {
        None => slo(name, nothing(), format!("no answer {}", judged.scope())),
        Some(found) => {
            let percent = quantile * 100.0;
            let detail = format!(
                "{percent:.0} % of answers within {found:.1} ms of their intended start, wanted under {limit:.0} ms, {}",
                judged.scope()
            );
            slo(name, pass_if(found < limit), detail)
        }
    })
    .collect();
    criteria.push(error_rate(profile, judged));
    criteria
}

fn error_rate(profile: &Profile, judged: &Judged<'_>) -> Criterion {
    let (ok, all) = (judged.count(Second::ok), judged.count(Second::errors));
    let refused = if profile.slo.may_be_refused { judged.count(Second::refused) } else { 0 };
    let (total, errors) = (ok + all, all - refused);
    if total == 0 {
        return slo("error-rate", nothing(), format!("no operation {}", judged.scope()));
    }
    let rate = errors as f64 / total as f64;
    let detail = format!(
        "{errors} of {total} operations failed, were dropped or stayed unknown ({:.3} %, wanted under {:.3} %), {}",
        rate * 100.0,
        profile.slo.error_rate * 100.0,
        judged.scope()
    );
    // A limit of zero can be met, by no error at all.
    let met = rate < profile.slo.error_rate || errors == 0;
    Criterion { proof: code_lines(&judged.windows), ..slo("error-rate", pass_if(met), detail) }
}

/// Which codes the errors had, most frequent first.
fn code_lines(windows: &[&Second]) -> Vec<String> {
    let mut codes = std::collections::BTreeMap::<&str, u64>::new();
    for class in windows.iter().flat_map(|second| &second.classes) {
        class.codes.iter().for_each(|(code, count)| *codes.entry(code.as_str()).or_default() += count);
        if class.dropped > 0 {
            *codes.entry("not started in time").or_default() += class.dropped;
        }
    }
    let mut lines: Vec<(&str, u64)> = codes.into_iter().collect();
    lines.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    lines.into_iter().take(20).map(|(code, count)| format!("{code}: {count}")).collect()
}

/// Arrivals really sent, of those the schedule had in the judged seconds.
fn achieved_rate(profile: &Profile, outcome: &LoadOutcome, judged: &Judged<'_>) -> Criterion {
    let scheduled = judged.scheduled(profile, outcome);
    if scheduled == 0 {
        return slo("achieved-rate", nothing(), format!("no arrival was due {}", judged.scope()));
    }
    let started = judged.count(|second| second.started);
    let share = started as f64 / scheduled as f64;
    let seconds = judged.spans.len() as f64;
    let detail = format!(
        "{:.1} requests a second sent of {:.1} wanted ({:.2} %, at least {:.0} %), {}",
        started as f64 / seconds,
        scheduled as f64 / seconds,
        share * 100.0,
        profile.slo.achieved_rate * 100.0,
        judged.scope()
    );
    slo("achieved-rate", pass_if(share >= profile.slo.achieved_rate), detail)
}

/// Full seconds of the clock that lie within `start..end`.
fn whole_seconds(start: u64, end: u64) -> Vec<(u64, u64)> {
    const SECOND: u64 = 1_000_000_000;
    (start.div_ceil(SECOND)..end / SECOND).map(|second| (second * SECOND, (second + 1) * SECOND)).collect()
}

fn overlaps((start, end): (u64, u64), excluded: &[(u64, u64)]) -> bool {
    excluded.iter().any(|&(from, to)| from < end && start < to)
}

fn pass_if(met: bool) -> Outcome {
    if met { Outcome::Pass } else { Outcome::Fail }
}

fn nothing() -> Outcome {
    Outcome::Inconclusive("there was nothing to judge".into())
}

fn slo(name: &str, outcome: Outcome, detail: String) -> Criterion {
    Criterion { name: name.into(), kind: Kind::Slo, outcome, detail, proof: vec![] }
}

#[cfg(test)]
#[path = "gates_tests.rs"]
mod tests;
