//! Gates: objectives, exclusions and the rules of overload, on made-up seconds.

use super::*;
use crate::load::drive::stage_spans;
use crate::load::profile::{Overrides, Plan};
use crate::observe::recorder::ClassSecond;

const SECOND: u64 = 1_000_000_000;

fn second(second: u64, ok: u64, latency_ms: u64) -> Second {
    let mut class = ClassSecond { ok, ..ClassSecond::default() };
    (0..ok).for_each(|_| class.latency.record_us(latency_ms * 1_000));
    Second { second, started: ok, dropped: 0, classes: vec![class] }
}

fn with_code(mut window: Second, code: &str, count: u64) -> Second {
    let class = &mut window.classes[0];
    if code == "RATE_LIMITED" {
        class.fail += count;
        (0..count).for_each(|_| class.refused.record_us(1_000));
    } else {
        class.unknown += count;
    }
    class.codes.insert(code.into(), count);
    window.started += count;
    window
}

fn profile(name: &str) -> Profile {
    Profile::built_in(name).expect("shipped").expect("valid")
}

/// An outcome whose generator was sound and whose schedule began at second 5.
fn outcome(profile: &Profile) -> LoadOutcome {
    let plan = Plan::new(profile.clone(), Overrides::default());
    let stages = stage_spans(&plan, 5 * SECOND);
    let total = plan.schedule.total();
    LoadOutcome {
        scheduled: total,
        released: total,
        started_ns: 5 * SECOND,
        stages,
        ..LoadOutcome::default()
    }
}

fn found(criteria: &[Criterion], name: &str) -> Outcome {
    criteria
        .iter()
        .find(|c| c.name == name)
        .unwrap_or_else(|| panic!("{name} in {criteria:?}"))
        .outcome
        .clone()
}

/// 70 s of baseline from second 5 on, the first ten of them warm-up.
fn baseline(of: impl Fn(u64) -> Second) -> Vec<Second> {
    (5..75).map(of).collect()
}

#[test]
fn a_good_baseline_passes_every_gate() {
    let profile = profile("baseline");
    let criteria = judge(&profile, &baseline(|s| second(s, 1_000, 20)), &outcome(&profile), &[]);
    assert!(criteria.iter().all(|c| c.outcome == Outcome::Pass), "{criteria:#?}");
}

#[test]
fn warm_up_is_not_judged_but_any_other_second_is() {
    let profile = profile("baseline");
    let slow_start = baseline(|s| second(s, 1_000, if s < 15 { 900 } else { 20 }));
    let criteria = judge(&profile, &slow_start, &outcome(&profile), &[]);
    assert_eq!(found(&criteria, "p99"), Outcome::Pass);
    let slow_later = baseline(|s| second(s, 1_000, if s == 40 { 900 } else { 20 }));
    let criteria = judge(&profile, &slow_later, &outcome(&profile), &[]);
    assert_eq!(found(&criteria, "p99"), Outcome::Fail);
    assert_eq!((found(&criteria, "p95"), found(&criteria, "hard-p99")), (Outcome::Pass, Outcome::Pass));
}

#[test]
fn excluded_stretches_are_left_out_and_all_excluded_is_inconclusive() {
    let profile = profile("baseline");
    let fault = baseline(|s| {
        if (30..45).contains(&s) {
            with_code(second(s, 10, 2_000), "timeout", 900)
        } else {
            second(s, 1_000, 20)
        }
    });
    let criteria = judge(&profile, &fault, &outcome(&profile), &[]);
    assert_eq!((found(&criteria, "error-rate"), found(&criteria, "p95")), (Outcome::Fail, Outcome::Pass));
    let criteria = judge(&profile, &fault, &outcome(&profile), &[(30 * SECOND, 45 * SECOND)]);
    assert!(criteria.iter().all(|c| c.outcome == Outcome::Pass), "{criteria:#?}");
    let criteria = judge(&profile, &fault, &outcome(&profile), &[(0, 100 * SECOND)]);
    for name in ["p95", "p99", "error-rate", "achieved-rate"] {
        assert!(matches!(found(&criteria, name), Outcome::Inconclusive(_)), "{name}");
    }
}

#[test]
fn an_achieved_rate_under_its_target_fails() {
    let profile = profile("baseline");
    let criteria = judge(&profile, &baseline(|s| second(s, 980, 20)), &outcome(&profile), &[]);
    assert_eq!(found(&criteria, "achieved-rate"), Outcome::Fail);
    let criteria = judge(&profile, &baseline(|s| second(s, 991, 20)), &outcome(&profile), &[]);
    assert_eq!(found(&criteria, "achieved-rate"), Outcome::Pass);
}

#[test]
fn a_missed_objective_with_busy_neighbours_is_inconclusive() {
    let profile = profile("baseline");
    let outcome = LoadOutcome { other_cpu_share: 0.5, ..outcome(&profile) };
    let criteria = judge(&profile, &baseline(|s| second(s, 1_000, 900)), &outcome, &[]);
    assert_eq!(crate::verdict::Verdict::of(&criteria), crate::verdict::Verdict::Inconclusive);
}

#[test]
fn stress_is_graceful_with_refusals_alone_and_not_with_server_errors() {
    let profile = profile("stress");
    // Warm-up 5..15, rise 15..75, peak 75..135, fall 135..145, after 145..175.
    let seconds = |code: &'static str| -> Vec<Second> {
        (5..175)
            .map(|s| {
                if (75..145).contains(&s) {
                    with_code(second(s, 3_000, 80), code, 500)
                } else {
                    second(s, 1_000, 20)
                }
            })
            .collect()
    };
    let good = judge(&profile, &seconds("RATE_LIMITED"), &outcome(&profile), &[]);
    assert!(good.iter().all(|c| c.outcome == Outcome::Pass), "{good:#?}");
    let bad = judge(&profile, &seconds("500"), &outcome(&profile), &[]);
    assert_eq!(found(&bad, "only-refusals"), Outcome::Fail);
    assert!(matches!(found(&bad, "refusals-fast"), Outcome::NotJudged(_)));
}

#[test]
fn a_server_that_stays_slow_after_the_overload_does_not_recover() {
    let profile = profile("stress");
    let windows: Vec<Second> =
        (5..175).map(|s| second(s, 1_000, if (75..160).contains(&s) { 900 } else { 20 })).collect();
    let criteria = judge(&profile, &windows, &outcome(&profile), &[]);
    assert_eq!(found(&criteria, "recovers"), Outcome::Fail);
}

#[test]
fn refusals_that_were_not_looked_at_are_not_said_to_be_none() {
    let profile = profile("stress");
    let windows: Vec<Second> = (5..175).map(|s| second(s, 1_000, 20)).collect();
    let outcome = outcome(&profile);
    for (excluded, why) in [
        (vec![], "nothing was refused under overload"),
        (
            vec![(10_000_000_000, 160_000_000_000)],
            "all of the overload lies in fault windows, which the scenario judges",
        ),
    ] {
        let criteria = judge(&profile, &windows, &outcome, &excluded);
        assert_eq!(found(&criteria, "refusals-fast"), Outcome::NotJudged(why.into()));
    }
}

#[test]
fn without_a_limiter_the_spike_says_that_it_did_not_judge_one() {
    let mut profile = profile("spike");
    (profile.overload.limit, profile.overload.burst) = (0.0, 0.0);
    // Calm 5..15, rise 15..45, peak 45..55, fall 55..60, after 60..120.
    let windows = |accepted: u64| -> Vec<Second> {
        (5..120)
            .map(|s| {
                if (22..59).contains(&s) {
                    with_code(second(s, accepted, 20), "RATE_LIMITED", 500)
                } else {
                    second(s, 100, 20)
                }
            })
            .collect()
    };
    let criteria = judge(&profile, &windows(2_000), &outcome(&profile), &[]);
    assert!(matches!(found(&criteria, "rate-limiter"), Outcome::NotJudged(_)));
    profile.overload.limit = 2_000.0;
    assert_eq!(
        found(&judge(&profile, &windows(2_000), &outcome(&profile), &[]), "rate-limiter"),
        Outcome::Pass
    );
    assert_eq!(
        found(&judge(&profile, &windows(4_000), &outcome(&profile), &[]), "rate-limiter"),
        Outcome::Fail
    );
    // Two thousand that were saved up: once, not in every second.
    profile.overload.burst = 2_000.0;
    let saved_up: Vec<Second> =
        windows(2_000)
            .into_iter()
            .map(|window| {
                if window.second == 22 { with_code(second(22, 4_000, 20), "RATE_LIMITED", 1) } else { window }
            })
            .collect();
    let judged =
        |windows: &[Second]| found(&judge(&profile, windows, &outcome(&profile), &[]), "rate-limiter");
    assert_eq!(judged(&saved_up), Outcome::Pass);
    assert_eq!(judged(&windows(4_000)), Outcome::Fail);
}

/// 75 s of the capacity profile from second 5 on, the first fifteen of them warm-up.
fn capacity(served: u64, busy: f64, refused: u64) -> (Outcome, Outcome) {
    let profile = profile("capacity");
    let windows: Vec<Second> = (5..80)
        .map(|at| {
            let window = second(at, served, 20);
            if refused > 0 { with_code(window, "RATE_LIMITED", refused) } else { window }
        })
        .collect();
    let outcome = LoadOutcome { own_cpu_share: busy, ..outcome(&profile) };
    let criteria = judge(&profile, &windows, &outcome, &[]);
    (found(&criteria, "capacity"), found(&criteria, "no-refusals"))
}

#[test]
fn a_machine_that_is_busy_has_told_its_capacity_and_one_that_idles_has_failed() {
    assert_eq!(capacity(10_000, 0.5, 0), (Outcome::Pass, Outcome::Pass));
    assert!(matches!(capacity(6_000, 0.97, 0).0, Outcome::NotJudged(_)));
    assert_eq!(capacity(6_000, 0.5, 0).0, Outcome::Fail);
    assert_eq!(capacity(10_000, 0.5, 3).1, Outcome::Fail);
    assert!(matches!(capacity(0, 0.97, 0).0, Outcome::Inconclusive(_)));
}
