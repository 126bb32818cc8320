//! The machine: the whole way, every way to fail, and what holds whatever happens.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::machine::{Change, FlagChange, Rollout, Seen, Status, percentage};
use super::plan::{OnFailure, Plan};
use crate::migration::strategy::{Health, MigrationPhase};

const HEALTHY: Seen = Seen { health: Health::Healthy, missing: None };
const UNKNOWN: Seen = Seen { health: Health::Unknown, missing: None };
const SICK: Seen =
    Seen { health: Health::Unhealthy { metric: "error_rate", value: 0.05, threshold: 0.01 }, missing: None };

fn plan() -> Plan {
    Plan { flag: "feature".into(), canary_users: vec!["ada".into()], ..Plan::default() }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

/// Looks once a second and keeps what changed, with the time.
fn drive(
    rollout: &mut Rollout,
    seen: &Seen,
    seconds: std::ops::Range<i64>,
) -> Vec<(i64, &'static str, FlagChange)> {
    let mut changes = Vec::new();
    for second in seconds {
        while let Some(Change { next, flag, event }) = rollout.look(seen, at(second)) {
            *rollout = next;
            changes.push((second, event, flag));
        }
    }
    changes
}

#[test]
fn the_whole_way_takes_as_long_as_the_schedule_says_and_waits_for_the_cleanup() {
    let mut rollout = Rollout::start(plan()).next;
    let changes = drive(&mut rollout, &HEALTHY, 0..5_000);
    let turned: Vec<_> = changes.iter().filter(|(.., flag)| *flag != FlagChange::Keep).cloned().collect();
    let expected = [
        (0, "canary_began", FlagChange::Users(vec!["ada".into()])),
        (60, "step_began", FlagChange::Percentage(10)),
        (360, "step_began", FlagChange::Percentage(25)),
        (960, "step_began", FlagChange::Percentage(50)),
        (2_760, "step_began", FlagChange::Percentage(100)),
    ];
    assert_eq!(turned, expected);
    assert_eq!((rollout.phase, rollout.status), (MigrationPhase::Cleanup, Status::Waiting));
    rollout.rollback("too late", false).expect_err("the old code may be gone");
    assert_eq!(rollout.rollback("all the same", true).expect("forced").flag, FlagChange::Off);
    let complete = rollout.advance().expect("cleaned up").next;
    assert_eq!((complete.phase, complete.status), (MigrationPhase::Complete, Status::Complete));
    complete.advance().expect_err("it is over");
}

#[test]
fn each_step_of_a_manual_rollout_waits_for_a_word() {
    let mut rollout = Rollout::start(Plan { manual: true, ..plan() }).next;
    let mut reached = vec![(rollout.phase, rollout.status)];
    while rollout.status != Status::Complete {
        assert_eq!(rollout.look(&HEALTHY, at(0)), None);
        rollout = rollout.advance().expect("it waits").next;
        drive(&mut rollout, &HEALTHY, 0..4_000);
        reached.push((rollout.phase, rollout.status));
    }
    let percentages: Vec<u8> = reached.iter().map(|(phase, _)| percentage(*phase)).collect();
    assert_eq!(percentages, [0, 0, 0, 0, 10, 25, 50, 100, 100]);
    assert!(reached[..8].iter().all(|(_, status)| *status == Status::Waiting), "{reached:?}");
}

#[test]
fn what_is_not_healthy_is_off_for_everybody_at_the_next_look() {
    for seconds in [0, 30, 100, 700] {
        let mut rollout = Rollout::start(plan()).next;
        drive(&mut rollout, &HEALTHY, 0..seconds);
        let changes = drive(&mut rollout, &SICK, seconds..seconds + 100);
        assert_eq!(
            changes.last(),
            Some(&(seconds, "rolled_back", FlagChange::Off)),
            "{seconds}: {changes:?}"
        );
        assert_eq!((rollout.phase, rollout.status), (MigrationPhase::Deploy, Status::RolledBack));
        assert!(rollout.reason.contains("error_rate is 0.0500, allowed is 0.0100"), "{}", rollout.reason);
    }
}

#[test]
fn where_it_shall_only_pause_the_step_alone_is_taken_back() {
    let mut rollout = Rollout::start(Plan { on_failure: OnFailure::Pause, ..plan() }).next;
    drive(&mut rollout, &HEALTHY, 0..400);
    let changes = drive(&mut rollout, &SICK, 400..500);
    assert_eq!(changes, [(400, "paused", FlagChange::Percentage(10))]);
    assert_eq!(rollout.phase, MigrationPhase::Rollout { percentage: 10 });
    assert!(rollout.reason.starts_with("Health check failed in phase: rollout_25%"), "{}", rollout.reason);
    rollout = rollout.advance().expect("paused").next;
    let again = drive(&mut rollout, &HEALTHY, 600..601);
    assert_eq!(again, [(600, "step_began", FlagChange::Percentage(25))]);

    let mut canary = Rollout::start(Plan { on_failure: OnFailure::Pause, ..plan() }).next;
    drive(&mut canary, &HEALTHY, 0..1);
    let changes = drive(&mut canary, &SICK, 1..2);
    assert_eq!(changes, [(1, "paused", FlagChange::Users(vec![]))]);
}

#[test]
fn too_few_requests_hold_it_and_in_the_end_have_failed() {
    let mut rollout = Rollout::start(plan()).next;
    let changes = drive(&mut rollout, &UNKNOWN, 0..50);
    let events: Vec<_> = changes.iter().map(|(_, event, _)| *event).collect();
    assert_eq!(events, ["deployed", "waits"], "told once");
    assert_eq!(rollout.phase, MigrationPhase::Migrate);
    drive(&mut rollout, &HEALTHY, 50..51);
    let changes = drive(&mut rollout, &UNKNOWN, 51..3_000);
    let told: Vec<_> = changes.iter().map(|(second, event, _)| (*second, *event)).collect();
    assert_eq!(
        told,
        [(110, "waits"), (1_910, "rolled_back")],
        "the canary's minute, and half an hour of patience"
    );
}

#[test]
fn a_migration_that_is_not_applied_stops_it() {
    let mut rollout = Rollout::start(plan()).next;
    let missing = Seen { missing: Some("3_more.sql".into()), ..HEALTHY };
    drive(&mut rollout, &missing, 0..1);
    assert_eq!(rollout.status, Status::RolledBack);
    assert_eq!(rollout.reason, "Database migration is not applied: 3_more.sql");
}

#[test]
fn without_canary_users_the_first_step_is_the_first_percentage() {
    let mut rollout = Rollout::start(Plan { canary_users: vec![], ..plan() }).next;
    let changes = drive(&mut rollout, &HEALTHY, 0..1);
    assert_eq!(changes.last(), Some(&(0, "step_began", FlagChange::Percentage(10))));
}

#[test]
fn a_plan_is_told_what_is_wrong_with_it() {
    Plan::parse(br#"{"flag": "new_checkout"}"#).expect("the rest is the default");
    for (json, expected) in [
        ("{", "no JSON"),
        (r#"{"flag": "a b"}"#, "flag is \"a b\": it must be 1 to 200"),
        (
            r#"{"flag": "a", "canaries": []}"#,
            "a plan has no key \"canaries\": it has flag, db_migrations, canary_users, ",
        ),
        (r#"{"flag": "a", "schedule": [{"percentage": 10, "watch": "5m"}]}"#, "rollout_schedule is [10]"),
        (r#"{"flag": "a", "samples_min": 0}"#, "samples_min is 0"),
        (r#"{"flag": "a", "window": "2h"}"#, "window is 2h: it must be at most 50m"),
        (r#"{"flag": "a", "window": "1ms"}"#, "window is 1ms: it must be at least 1s"),
        (r#"{"flag": "a", "canary_users": [""]}"#, "canary_users is \"\""),
        (r#"{"flag": "a", "error_threshold": 2}"#, "error_threshold is 2"),
    ] {
        let told = Plan::parse(json.as_bytes()).expect_err(expected).to_string();
        assert!(told.contains(expected), "{told}");
    }
    let plan = plan();
    let json = serde_json::to_vec(&plan).expect("JSON");
    assert_eq!(Plan::parse(&json), Ok(plan), "what is kept is read back as it was");
}

/// Anything that can happen to a rollout.
fn happening() -> impl Strategy<Value = (u8, i64)> {
    (0u8..6, 0i64..1_000)
}

proptest! {
    #[test]
    fn whatever_happens_nobody_more_gets_it_without_health_and_a_rollback_is_off(
        happenings in prop::collection::vec(happening(), 1..60), manual in any::<bool>(), pause in any::<bool>(),
    ) {
        let on_failure = if pause { OnFailure::Pause } else { OnFailure::Rollback };
        let mut rollout = Rollout::start(Plan { manual, on_failure, window: Duration::from_secs(9), ..plan() }).next;
        let (mut now, mut on, mut users) = (0, 0u8, 0usize);
        for (what, later) in happenings {
            now += later;
            let (seen, change) = match what {
                0 | 1 => (Some(&HEALTHY), rollout.look(&HEALTHY, at(now))),
                2 => (Some(&UNKNOWN), rollout.look(&UNKNOWN, at(now))),
                3 => (Some(&SICK), rollout.look(&SICK, at(now))),
                4 => (None, rollout.advance().ok()),
                _ => (None, rollout.rollback("asked", later % 2 == 0).ok()),
            };
            let Some(Change { next, flag, event }) = change else { continue };
            let before = on;
            match &flag {
                FlagChange::Keep => {}
                FlagChange::Users(list) => users = list.len(),
                FlagChange::Percentage(percentage) => on = *percentage,
                FlagChange::Off => (on, users) = (0, 0),
            }
            // More users come with the beginning of a step alone, one step of the schedule at a time, after one that passed.
            if on > before {
                prop_assert_eq!(event, "step_began");
                prop_assert_eq!(Some(on), next.plan.step_after(before).map(|step| step.percentage));
                prop_assert!(rollout.step.is_none());
            }
            if percentage(next.phase) > percentage(rollout.phase) {
                prop_assert_eq!(seen, Some(&HEALTHY), "a step passes by health alone");
                prop_assert!(rollout.step.is_some_and(|step| step.until <= at(now)));
            }
            if next.status == Status::RolledBack {
                prop_assert_eq!((on, users, next.step), (0, 0, None));
            }
            if next.step.is_none() && next.status != Status::RolledBack {
                prop_assert_eq!(on, percentage(next.phase), "between steps the flag is where the phase is");
            }
            rollout = next;
        }
    }
}
