//! `--target URL`: load against any server that somebody else started, without an environment. Plain requests alone,
//! latency from the intended start, thresholds, and the result as lines on stdout.

use super::drive::{LoadOutcome, drive};
use super::profile::Plan;
use super::{CLASSES, gates};
use crate::observe::{Recorder, live};
use crate::run::Run;
use crate::verdict::{Criterion, Outcome, Verdict};

/// What a target run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Result {
    pub outcome: LoadOutcome,
    pub criteria: Vec<Criterion>,
    pub verdict: Verdict,
}

/// Drives the plain requests of the plan (`GET /` when it lists none) against `url` and judges them.
pub async fn run(run: &Run, plan: &Plan, url: &str) -> anyhow::Result<Result> {
    let plan = Plan { plain_only: true, ..plan.clone() };
    let recorder = Recorder::create(run, &CLASSES)?;
    let view = live::spawn(recorder.clone(), run.cancel().child_token());
    let outcome = drive(run, &plan, url, &recorder).await;
    if let Some(view) = view {
        view.abort();
    }
    recorder.finish()?;
    let outcome = outcome?;
    let criteria = gates::judge(&plan.profile, &recorder.windows(), &outcome, &[]);
    let verdict = Verdict::of(&criteria);
    Ok(Result { outcome, criteria, verdict })
}

/// The result as a person reads it: figures, then one line for each criterion, then the verdict.
pub fn lines(result: &Result) -> Vec<String> {
    let outcome = &result.outcome;
    let per_thousand = outcome.generator_cpu_seconds * 1e6 / outcome.answered.max(1) as f64;
    let mut lines = vec![
        format!(
            "arrivals  {} asked, {} released, {} sent, {} dropped, {} backlogged",
            outcome.scheduled, outcome.released, outcome.started, outcome.dropped, outcome.backlogged
        ),
        format!(
            "answers   {} ok, {} refused, {} unknown or wrong",
            outcome.ok, outcome.fail, outcome.unknown
        ),
        format!(
            "generator wake lag {:.1} / {:.1} ms (p50 / p99), {per_thousand:.0} ms of processor time per 1,000 requests",
            outcome.wake_lag_p50_ms, outcome.wake_lag_p99_ms
        ),
    ];
    for criterion in &result.criteria {
        let word = match &criterion.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "FAIL",
            Outcome::Inconclusive(_) => "inconclusive",
            Outcome::NotJudged(_) => "not judged",
            Outcome::NotRun(_) => "not run",
        };
        lines.push(format!("{word:<12} {}: {}", criterion.name, criterion.detail));
        lines.extend(criterion.proof.iter().map(|proof| format!("{:<12}   {proof}", "")));
    }
    lines.push(result.verdict.sentence().to_string());
    lines
}
