//! Whether a run can be judged: was the generator, or a neighbour on the machine, the limit instead of the server?
//!
//! Too few arrivals released always spoil a run. A late or busy generator and busy neighbours spoil only a run that
//! missed an objective: what was met in spite of them was met.

use super::drive::LoadOutcome;
use crate::verdict::{Criterion, Kind, Outcome};

/// Smallest share of the schedule that the driver must release.
pub const RELEASED_MIN: f64 = 0.99;
/// Largest 99th percentile of the driver's wake-up lag, milliseconds.
pub const WAKE_LAG_P99_MS_MAX: f64 = 10.0;
/// Largest share of the machine for the harness process.
pub const GENERATOR_SHARE_MAX: f64 = 0.8;
/// Largest share of the machine for what does not belong to the run: other processes, and the host of a virtual machine.
pub const NEIGHBOURS_SHARE_MAX: f64 = 0.15;

/// Judges the generator; `objectives_met` is whether every objective of the run was.
pub fn judge(outcome: &LoadOutcome, objectives_met: bool) -> Vec<Criterion> {
    let released = outcome.released as f64 / outcome.scheduled.max(1) as f64;
    let mut criteria = vec![released_criterion(outcome, released)];
    let figures = [
        (
            "generator-on-time",
            outcome.wake_lag_p99_ms,
            WAKE_LAG_P99_MS_MAX,
            format!(
                "the generator woke {:.1} ms late at the 99th percentile (median {:.1} ms, at most {:.1} ms), allowed {WAKE_LAG_P99_MS_MAX} ms",
                outcome.wake_lag_p99_ms, outcome.wake_lag_p50_ms, outcome.wake_lag_max_ms
            ),
            "the generator was the limit",
        ),
        (
            "generator-not-saturated",
            outcome.generator_cpu_share,
            GENERATOR_SHARE_MAX,
            format!(
                "the harness used {:.1} s of processor time, {:.0} % of the machine, allowed {:.0} %",
                outcome.generator_cpu_seconds,
                outcome.generator_cpu_share * 100.0,
                GENERATOR_SHARE_MAX * 100.0
            ),
            "the generator was the limit",
        ),
        (
            "neighbours-quiet",
            outcome.other_cpu_share + outcome.stolen_cpu_share,
            NEIGHBOURS_SHARE_MAX,
            format!(
                "processes that do not belong to the run used {:.0} % of the machine and its host took {:.0} %, allowed {:.0} % together",
                outcome.other_cpu_share * 100.0,
                outcome.stolen_cpu_share * 100.0,
                NEIGHBOURS_SHARE_MAX * 100.0
            ),
            "neighbours on the machine may have been the limit",
        ),
    ];
    criteria.extend(figures.map(|(name, found, allowed, detail, limit)| {
        if found <= allowed {
            validity(name, Outcome::Pass, detail)
        } else if objectives_met {
            validity(name, Outcome::Pass, format!("{detail}; every objective was met in spite of it"))
        } else {
            let reason = format!("an objective was missed, and {limit}");
            validity(name, Outcome::Inconclusive(reason), detail)
        }
    }));
    criteria
}

fn released_criterion(outcome: &LoadOutcome, share: f64) -> Criterion {
    let detail = format!(
        "{} of {} arrivals were released ({:.1} %, wanted {:.0} %), {} of them found no free user",
        outcome.released,
        outcome.scheduled,
        share * 100.0,
        RELEASED_MIN * 100.0,
        outcome.backlogged
    );
    let result = if outcome.cancelled {
        Outcome::Inconclusive("the run was cancelled before the schedule was over".into())
    } else if outcome.scheduled == 0 {
        Outcome::Inconclusive("the schedule has no arrivals".into())
    } else if share < RELEASED_MIN {
        Outcome::Fail
    } else {
        Outcome::Pass
    };
    validity("schedule-released", result, detail)
}

fn validity(name: &str, outcome: Outcome, detail: String) -> Criterion {
    Criterion { name: name.into(), kind: Kind::Validity, outcome, detail, proof: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    fn sound() -> LoadOutcome {
        LoadOutcome { scheduled: 1_000, released: 1_000, wake_lag_p99_ms: 2.0, ..LoadOutcome::default() }
    }

    fn named<'a>(criteria: &'a [Criterion], name: &str) -> &'a Outcome {
        &criteria.iter().find(|c| c.name == name).expect("criterion").outcome
    }

    #[test]
    fn a_sound_generator_passes() {
        assert_eq!(Verdict::of(&judge(&sound(), false)), Verdict::Valid);
    }

    #[test]
    fn too_few_releases_spoil_a_run_even_when_objectives_were_met() {
        let outcome = LoadOutcome { released: 980, ..sound() };
        assert_eq!(named(&judge(&outcome, true), "schedule-released"), &Outcome::Fail);
        let cancelled = LoadOutcome { cancelled: true, ..sound() };
        assert_eq!(Verdict::of(&judge(&cancelled, true)), Verdict::Inconclusive);
    }

    #[test]
    fn busy_neighbours_excuse_only_a_missed_objective_and_are_named() {
        let outcome = LoadOutcome { other_cpu_share: 0.4, ..sound() };
        assert_eq!(named(&judge(&outcome, true), "neighbours-quiet"), &Outcome::Pass);
        let stolen = judge(&LoadOutcome { stolen_cpu_share: 0.2, ..sound() }, false);
        assert!(matches!(named(&stolen, "neighbours-quiet"), Outcome::Inconclusive(_)));
        let criteria = judge(&outcome, false);
        assert!(
            matches!(named(&criteria, "neighbours-quiet"), Outcome::Inconclusive(why) if why.contains("neighbours"))
        );
        let late = judge(&LoadOutcome { wake_lag_p99_ms: 40.0, ..sound() }, false);
        assert!(
            matches!(named(&late, "generator-on-time"), Outcome::Inconclusive(why) if why.contains("generator"))
        );
    }
}
