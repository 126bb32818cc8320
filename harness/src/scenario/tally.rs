//! Operations of some classes in a stretch of time, counted: shares, rates, percentiles. Everything that was due counts,
//! dropped arrivals included.

use std::collections::BTreeMap;

use chaos::history::{Operation, Outcome as Came};

use super::check::Metric;
use super::steady_state::{Facts, PROOF_MAX};
use super::window::Span;
use crate::load::classify;

/// Operations of some classes in a stretch of time.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) due: u64,
    ok: u64,
    unknown: u64,
    latencies_us: Vec<u64>,
    refusals_us: Vec<u64>,
    codes: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn of<'o>(
        operations: impl Iterator<Item = &'o Operation>,
        classes: &[String],
        span: Span,
        facts: &Facts<'_>,
    ) -> Self {
        let wanted = |class: u16| {
            classes.is_empty()
                || facts.classes.get(usize::from(class)).is_some_and(|name| classes.contains(name))
        };
        let mut tally = Tally::default();
        for operation in operations.filter(|o| wanted(o.class.0)) {
            tally.due += 1;
            match operation.outcome {
                Came::Ok => tally.ok += 1,
                Came::Unknown => tally.unknown += 1,
                Came::Fail => {}
            }
            if operation.outcome != Came::Ok {
                *tally.codes.entry(operation.code.clone()).or_default() += 1;
            }
            if classify::is_refusal(&operation.code)
                && let Some(done) = operation.completed_ns
            {
                tally.refusals_us.push(done.saturating_sub(operation.intended_ns) / 1000);
            }
            // A refusal is fast and would flatter the rest.
            if operation.outcome != Came::Fail
                && let Some(done) = operation.completed_ns
            {
                tally.latencies_us.push(done.saturating_sub(operation.intended_ns) / 1000);
            }
        }
        for (_, _, n) in facts.dropped.iter().filter(|(at, class, _)| span.contains(*at) && wanted(*class)) {
            tally.due += n;
            *tally.codes.entry("dropped".to_owned()).or_default() += n;
        }
        tally.latencies_us.sort_unstable();
        tally.refusals_us.sort_unstable();
        tally
    }

    pub(super) fn value(&self, metric: Metric, span: Span) -> Option<f64> {
        let share = |n: u64| (self.due > 0).then(|| n as f64 / self.due as f64);
        match metric {
            Metric::OkRatio => share(self.ok),
            Metric::UnknownRatio => share(self.unknown),
            Metric::RefusedRatio => share(self.refusals_us.len() as u64),
            Metric::RefusedP99Ms => quantile(&self.refusals_us, 0.99),
            Metric::P50Ms => quantile(&self.latencies_us, 0.50),
            Metric::P95Ms => quantile(&self.latencies_us, 0.95),
            Metric::P99Ms => quantile(&self.latencies_us, 0.99),
            Metric::OkRate => Some(self.ok as f64 / ((span.to_ns - span.from_ns) as f64 / 1e9)),
        }
    }

    pub(super) fn codes(&self) -> Vec<String> {
        self.codes.iter().take(PROOF_MAX).map(|(code, n)| format!("{n} x {code}")).collect()
    }
}

/// Of times in order, in milliseconds.
fn quantile(sorted_us: &[u64], q: f64) -> Option<f64> {
    let last = sorted_us.len().checked_sub(1)?;
    let rank = ((q * sorted_us.len() as f64).ceil() as usize).saturating_sub(1).min(last);
    Some(sorted_us[rank] as f64 / 1000.0)
}

/// Four digits after the point at most, and none that say nothing.
pub(super) fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
