//! Leak and slow-down tests on a run's samples and windows; the statistics are `chaos::checker::trend`'s. Pure.
//!
//! A leak can be concluded from one minute on, its absence only from ten: a shorter run says "not judged" and may pass;
//! from ten minutes on, what is undecided is inconclusive. A slow-down is concluded from ten minutes on: a machine's own
//! waves last for minutes, so that growth in a shorter run is inconclusive, and whoever sees it runs again or longer. Fault
//! windows are left out: what grows in them may shrink again.

use std::collections::BTreeMap;
use std::time::Duration;

use chaos::checker::trend::{
    self, COUNT_DELTA_2_H, COUNT_DELTA_10_MIN, GrowthParameters, GrowthVerdict, LeakParameters,
    MEMORY_DELTA_2_H, MEMORY_DELTA_10_MIN, TrendVerdict,
};

use super::profile::{Leak, Profile};
use crate::observe::latency::{Latencies, quantile_ms};
use crate::observe::recorder::Second;
use crate::verdict::{Criterion, Kind, Outcome};

/// Below this nothing is judged.
const SHORTEST: Duration = Duration::from_secs(60);
/// From here on cleanness can be concluded, and undecided is inconclusive.
const DECISIVE: Duration = Duration::from_secs(600);
/// From here on the tolerances of the long form hold.
const LONG: Duration = Duration::from_secs(7_200);
/// Samples of an undecided or leaking series that are shown.
const PROOF_LINES: usize = 8;

/// Series that are tested for growth: criterion, series in the history, whether it is memory in bytes.
const SERIES: [(&str, &str, bool); 5] = [
    ("leak-memory", "runtime.anonymous_bytes", true),
    ("leak-descriptors", "runtime.fds", false),
    ("leak-threads", "runtime.threads", false),
    ("leak-tasks", "runtime.tokio_alive_tasks", false),
    ("leak-connections", "runtime.db_connections", false),
];

/// Judges a run of `duration`; `samples` are those of the recorder (nanoseconds and value), `windows` its seconds, and
/// `excluded` stretches of the run's clock, in nanoseconds, that are left out. Empty when the profile does not ask.
pub fn judge(
    profile: &Profile,
    duration: Duration,
    samples: &BTreeMap<String, Vec<(u64, f64)>>,
    windows: &[Second],
    excluded: &[(u64, u64)],
) -> Vec<Criterion> {
    if !profile.leak.enabled {
        return Vec::new();
    }
    let names = SERIES.iter().map(|(name, ..)| *name).chain(["slow-down-p50", "slow-down-p99"]);
    if duration < SHORTEST {
        let short = || Outcome::NotJudged("a leak takes at least 1 min to be seen, cleanness 10 min".into());
        return names
            .map(|name| criterion(name, short(), format!("the run lasted {} s", duration.as_secs())))
            .collect();
    }
    let mut criteria: Vec<Criterion> = SERIES
        .into_iter()
        .map(|(name, series, memory)| {
            let points = samples.get(series).map(Vec::as_slice).unwrap_or_default();
            leak(
                name,
                series,
                &minutes(points, excluded),
                duration,
                parameters(&profile.leak, duration, memory),
            )
        })
        .collect();
    criteria.extend([("slow-down-p50", 0.5), ("slow-down-p99", 0.99)].map(|(name, quantile)| {
        let mut parameters = GrowthParameters::for_minutes(duration.as_secs_f64() / 60.0);
        if duration >= DECISIVE {
            let leak = &profile.leak;
            parameters.factor = if duration >= LONG { leak.growth_long } else { leak.growth_short };
        }
        let points = blocks(windows, excluded, parameters.block, quantile);
        slow_down(name, duration, &trend::growth(&points, &parameters))
    }));
    criteria
}

/// The preset for the run's length, with the profile's tolerance in place of the preset's.
fn parameters(leak: &Leak, duration: Duration, memory: bool) -> LeakParameters {
    let minutes = duration.as_secs_f64() / 60.0;
    let long = duration >= LONG;
    let (mut preset, wanted, usual) = match (memory, long) {
        (true, false) => (LeakParameters::memory(minutes), leak.memory_short * 1e6, MEMORY_DELTA_10_MIN),
        (true, true) => (LeakParameters::memory(minutes), leak.memory_long * 1e6, MEMORY_DELTA_2_H),
        (false, false) => (LeakParameters::count(minutes), leak.count_short, COUNT_DELTA_10_MIN),
        (false, true) => (LeakParameters::count(minutes), leak.count_long, COUNT_DELTA_2_H),
    };
    preset.delta *= wanted / usual;
    preset
}

fn leak(
    name: &str,
    series: &str,
    points: &[(f64, f64)],
    duration: Duration,
    parameters: LeakParameters,
) -> Criterion {
    if points.is_empty() {
        return criterion(
            name,
            undecided(duration, "it was never sampled"),
            format!("no samples of {series}"),
        );
    }
    let trend = trend::leak(points, &parameters);
    let detail = format!(
        "{series} grows by {:.3} a minute (95 % interval {:.3} to {:.3}, second half {:.3}, tolerated {:.3}): {}",
        trend.slope, trend.low, trend.high, trend.second_half_slope, trend.delta, trend.reason
    );
    match trend.verdict {
        TrendVerdict::Leak => Criterion { proof: excerpt(points), ..criterion(name, Outcome::Fail, detail) },
        TrendVerdict::Clean if duration >= DECISIVE => criterion(name, Outcome::Pass, detail),
        TrendVerdict::Clean | TrendVerdict::Inconclusive => {
            criterion(name, undecided(duration, &trend.reason), detail)
        }
    }
}

fn slow_down(name: &str, duration: Duration, growth: &trend::Growth) -> Criterion {
    let detail = format!(
        "{:.2} times over the run (95 % interval {:.2} to {:.2}, {:.1} ms more): {}",
        growth.factor, growth.low, growth.high, growth.added_ms, growth.reason
    );
    let outcome = match growth.verdict {
        GrowthVerdict::Grown if duration >= DECISIVE => Outcome::Fail,
        GrowthVerdict::Grown => {
            Outcome::Inconclusive("it grew, and less than 10 min do not tell a slow-down from a wave".into())
        }
        GrowthVerdict::Stable if duration >= DECISIVE => Outcome::Pass,
        GrowthVerdict::Stable | GrowthVerdict::Inconclusive => undecided(duration, &growth.reason),
    };
    criterion(name, outcome, detail)
}

/// Undecided is inconclusive where the run was long enough to decide.
fn undecided(duration: Duration, reason: &str) -> Outcome {
    if duration >= DECISIVE {
        Outcome::Inconclusive(reason.into())
    } else {
        Outcome::NotJudged("no growth seen; that there is none needs 10 min".into())
    }
}

/// Samples outside the excluded stretches, in minutes since the first.
fn minutes(points: &[(u64, f64)], excluded: &[(u64, u64)]) -> Vec<(f64, f64)> {
    let start = points.first().map_or(0, |(at, _)| *at);
    points
        .iter()
        .filter(|(at, _)| !excluded.iter().any(|(from, to)| from <= at && at < to))
        .map(|(at, value)| ((at - start) as f64 / 60e9, *value))
        .collect()
}

/// A percentile of each block of `minutes`, in milliseconds, over the seconds outside the excluded stretches.
fn blocks(windows: &[Second], excluded: &[(u64, u64)], minutes: f64, quantile: f64) -> Vec<(f64, f64)> {
    let seconds = ((minutes * 60.0).round() as u64).max(1);
    let start = windows.first().map_or(0, |window| window.second);
    let mut groups = BTreeMap::<u64, Vec<&Second>>::new();
    for window in windows {
        if !excluded.iter().any(|(from, to)| *from < window.end_ns() && window.start_ns() < *to) {
            groups.entry((window.second - start) / seconds).or_default().push(window);
        }
    }
    groups
        .into_iter()
        .filter_map(|(block, members)| {
            let merged = Latencies::merged(members.iter().flat_map(|second| second.latencies()));
            Some(((block as f64 + 0.5) * minutes, quantile_ms(&merged, quantile)?))
        })
        .collect()
}

/// Some samples, evenly spread.
fn excerpt(points: &[(f64, f64)]) -> Vec<String> {
    let step = points.len().div_ceil(PROOF_LINES).max(1);
    points.iter().step_by(step).map(|(minute, value)| format!("minute {minute:.2}: {value:.0}")).collect()
}

fn criterion(name: &str, outcome: Outcome, detail: String) -> Criterion {
    Criterion { name: name.into(), kind: Kind::Slo, outcome, detail, proof: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::recorder::ClassSecond;

    const MB: f64 = 1e6;

    fn soak() -> Profile {
        Profile::built_in("soak").expect("shipped").expect("valid")
    }

    /// One sample a second: a base, growth a second, and a ripple.
    fn series(seconds: u64, base: f64, per_second: f64) -> Vec<(u64, f64)> {
        let ripple = |s: u64| (s * 7_919 % 100) as f64 / 100.0 * base * 0.002;
        (0..seconds).map(|s| (s * 1_000_000_000, base + per_second * s as f64 + ripple(s))).collect()
    }

    fn all(seconds: u64, memory_per_second: f64) -> BTreeMap<String, Vec<(u64, f64)>> {
        SERIES
            .into_iter()
            .map(|(_, name, memory)| {
                let growth = if memory { memory_per_second } else { 0.0 };
                let base = if memory { 50.0 * MB } else { 40.0 };
                (name.to_string(), series(seconds, base, growth))
            })
            .collect()
    }

    fn steady_windows(seconds: u64, grows: f64) -> Vec<Second> {
        (0..seconds)
            .map(|second| {
                let mut class = ClassSecond { ok: 100, ..ClassSecond::default() };
                let factor = 1.0 + grows * second as f64 / seconds as f64;
                (1..=100).for_each(|n| class.latency.record_us((f64::from(n) * 1_000.0 * factor) as u64));
                Second { second, started: 100, dropped: 0, classes: vec![class] }
            })
            .collect()
    }

    fn outcome(criteria: &[Criterion], name: &str) -> Outcome {
        criteria
            .iter()
            .find(|c| c.name == name)
            .unwrap_or_else(|| panic!("{name} in {criteria:?}"))
            .outcome
            .clone()
    }

    #[test]
    fn a_leak_of_one_mb_a_second_fails_a_two_minute_run_and_a_ten_minute_run() {
        for seconds in [120, 600] {
            let duration = Duration::from_secs(seconds);
            let criteria = judge(&soak(), duration, &all(seconds, MB), &steady_windows(seconds, 0.0), &[]);
            assert_eq!(outcome(&criteria, "leak-memory"), Outcome::Fail, "{criteria:#?}");
            assert!(!criteria[0].proof.is_empty());
        }
    }

    #[test]
    fn two_clean_minutes_are_not_judged_and_say_that_ten_are_needed() {
        let criteria =
            judge(&soak(), Duration::from_secs(120), &all(120, 0.0), &steady_windows(120, 0.0), &[]);
        for criterion in &criteria {
            let Outcome::NotJudged(why) = &criterion.outcome else { panic!("{criterion:?}") };
            assert!(why.contains("10 min"), "{why}");
        }
        assert_eq!(criteria.len(), 7);
    }

    #[test]
    fn ten_clean_minutes_pass_and_without_samples_they_are_inconclusive() {
        let ten = Duration::from_secs(600);
        let criteria = judge(&soak(), ten, &all(601, 0.0), &steady_windows(601, 0.0), &[]);
        assert!(criteria.iter().all(|c| c.outcome == Outcome::Pass), "{criteria:#?}");
        let blind = judge(&soak(), ten, &BTreeMap::new(), &[], &[]);
        assert!(blind.iter().all(|c| matches!(c.outcome, Outcome::Inconclusive(_))), "{blind:#?}");
    }

    #[test]
    fn latency_that_doubles_over_ten_minutes_is_a_slow_down() {
        let criteria =
            judge(&soak(), Duration::from_secs(600), &all(601, 0.0), &steady_windows(601, 1.5), &[]);
        assert_eq!(outcome(&criteria, "slow-down-p99"), Outcome::Fail);
    }

    #[test]
    fn latency_that_grows_in_two_minutes_may_be_a_wave_and_is_not_passed_over() {
        let criteria =
            judge(&soak(), Duration::from_secs(120), &all(120, 0.0), &steady_windows(120, 30.0), &[]);
        for name in ["slow-down-p50", "slow-down-p99"] {
            let outcome = outcome(&criteria, name);
            assert!(
                matches!(&outcome, Outcome::Inconclusive(why) if why.contains("10 min")),
                "{criteria:#?}"
            );
        }
    }

    #[test]
    fn under_a_minute_nothing_is_judged_and_other_profiles_do_not_ask() {
        let criteria = judge(&soak(), Duration::from_secs(59), &all(59, MB), &[], &[]);
        assert!(criteria.iter().all(|c| matches!(c.outcome, Outcome::NotJudged(_))));
        let baseline = Profile::built_in("baseline").expect("shipped").expect("valid");
        assert!(judge(&baseline, Duration::from_secs(600), &all(600, MB), &[], &[]).is_empty());
    }
}
