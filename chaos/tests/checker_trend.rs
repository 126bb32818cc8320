//! Synthetic leaks are found, curves that flatten out, steps and noise are not called leaks.

use chaos::checker::trend::statistics::{Point, mann_kendall, theil_sen};
use chaos::checker::trend::{
    GrowthParameters, GrowthVerdict, LeakParameters, MEMORY_DELTA_2_H, MEMORY_DELTA_10_MIN, TrendVerdict,
    growth, leak,
};
use rand::Rng;

const MB: f64 = 1e6;

/// One sample a second of `curve(minutes)` in megabytes, with AR(1) noise of that size.
fn memory(seed: u64, seconds: u32, noise: f64, curve: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let mut draws = chaos::seed::stream(seed, &["memory"]);
    let mut state = 0.0;
    let sample = |second: u32| {
        let at = f64::from(second) / 60.0;
        state = 0.7 * state + noise * draws.random_range(-1.0..1.0);
        (at, (60.0 + curve(at) + state) * MB)
    };
    (0..seconds).map(sample).collect()
}

/// Start-up growth to `size` megabytes with that time constant in minutes.
fn warm_up(at: f64, size: f64, constant: f64) -> f64 {
    size * (1.0 - (-at / constant).exp())
}

#[test]
fn a_megabyte_a_second_is_a_leak_after_one_and_after_two_minutes() {
    for seconds in [60, 90, 120, 300] {
        for seed in 0..20 {
            let samples = memory(seed, seconds, 2.0, |at| 60.0 * at + warm_up(at, 20.0, 0.3));
            let trend = leak(&samples, &LeakParameters::memory(f64::from(seconds) / 60.0));
            assert_eq!(trend.verdict, TrendVerdict::Leak, "{seconds} s, seed {seed}: {trend:?}");
            assert!(trend.low < trend.slope && trend.slope < trend.high, "{trend:?}");
        }
    }
}

#[test]
fn a_short_run_never_calls_a_warm_up_curve_a_leak_nor_anything_clean() {
    for seconds in [60, 120, 300] {
        for seed in 0..20 {
            for (size, constant) in [(20.0, 0.3), (40.0, 0.4), (0.0, 1.0)] {
                let samples = memory(seed, seconds, 2.0, |at| warm_up(at, size, constant));
                let trend = leak(&samples, &LeakParameters::memory(f64::from(seconds) / 60.0));
                assert_eq!(trend.verdict, TrendVerdict::Inconclusive, "{seconds} s, {size} MB: {trend:?}");
                assert!(trend.reason.contains("needs 10 min"), "{trend:?}");
            }
        }
    }
}

#[test]
fn less_than_a_minute_is_never_judged() {
    let samples = memory(1, 50, 0.1, |at| 600.0 * at);
    let trend = leak(&samples, &LeakParameters::memory(50.0 / 60.0));
    assert_eq!(trend.verdict, TrendVerdict::Inconclusive, "{trend:?}");
    assert_eq!(leak(&[], &LeakParameters::ten_minutes(1.0)).verdict, TrendVerdict::Inconclusive);
}

#[test]
fn ten_minutes_tell_a_leak_of_twice_delta_from_none() {
    let parameters = LeakParameters::ten_minutes(MEMORY_DELTA_10_MIN);
    for seed in 0..20 {
        let flat = leak(&memory(seed, 600, 0.3, |at| warm_up(at, 20.0, 0.5)), &parameters);
        assert_eq!(flat.verdict, TrendVerdict::Clean, "seed {seed}: {flat:?}");
        let rising = leak(&memory(seed, 600, 0.3, |at| 1.0 * at + warm_up(at, 20.0, 0.5)), &parameters);
        assert_eq!(rising.verdict, TrendVerdict::Leak, "seed {seed}: {rising:?}");
        let cache = leak(&memory(seed, 600, 0.3, |at| warm_up(at, 20.0, 2.0)), &parameters);
        assert_ne!(cache.verdict, TrendVerdict::Leak, "seed {seed}: {cache:?}");
        let sawtooth = leak(&memory(seed, 600, 0.1, |at| 6.0 * (at / 0.7).fract()), &parameters);
        assert_ne!(sawtooth.verdict, TrendVerdict::Leak, "seed {seed}: {sawtooth:?}");
    }
}

#[test]
fn two_hours_find_a_tenth_of_a_megabyte_a_minute() {
    let parameters = LeakParameters::two_hours(MEMORY_DELTA_2_H);
    let rising = leak(&memory(1, 7200, 0.3, |at| 0.1 * at), &parameters);
    assert_eq!((rising.verdict, rising.points), (TrendVerdict::Leak, 105), "{rising:?}");
    assert_eq!(leak(&memory(1, 7200, 0.3, |_| 0.0), &parameters).verdict, TrendVerdict::Clean);
}

#[test]
fn a_count_that_ends_far_above_its_start_leaks_though_it_is_flat_now() {
    let fds = |step: f64| -> Vec<(f64, f64)> {
        (0..600).map(|s| (f64::from(s) / 60.0, if s < 300 { 40.0 } else { 40.0 + step })).collect()
    };
    assert_eq!(leak(&fds(11.0), &LeakParameters::count(10.0)).verdict, TrendVerdict::Leak);
    assert_ne!(leak(&fds(9.0), &LeakParameters::count(10.0)).verdict, TrendVerdict::Leak);
}

#[test]
fn a_constant_series_has_no_slope_and_no_evidence_of_growth() {
    let samples: Vec<(f64, f64)> = (0..600).map(|s| (f64::from(s) / 60.0, 7.0)).collect();
    let trend = leak(&samples, &LeakParameters::ten_minutes(0.5));
    assert_eq!((trend.slope, trend.low, trend.high, trend.p), (0.0, 0.0, 0.0, 0.5));
    assert_eq!(trend.verdict, TrendVerdict::Clean);
}

#[test]
fn statistics_agree_with_values_worked_out_by_hand() {
    let points: Vec<Point> = [1.0, 2.0, 4.0, 3.0, 5.0]
        .into_iter()
        .enumerate()
        .map(|(at, value)| Point { at: at as f64, value })
        .collect();
    let test = mann_kendall(&points);
    // Nine pairs rise, one falls; without ties the variance is 5 * 4 * 15 / 18.
    assert_eq!(test.s, 8.0);
    assert!((test.variance - 300.0 / 18.0).abs() < 1e-9, "{test:?}");
    // z = 7 / sqrt(16.667) = 1.7146, of which the upper tail is 0.0432.
    assert!((test.p - 0.0432).abs() < 1e-4, "{test:?}");
    assert!((theil_sen(&points).slope - 1.0).abs() < 1e-9);
}

fn latency(seed: u64, minutes: f64, noise: f64, factor: f64) -> Vec<(f64, f64)> {
    let mut draws = chaos::seed::stream(seed, &["latency"]);
    let count = (minutes * 4.0) as u32;
    let sample = |window: u32| {
        let at = f64::from(window) / 4.0;
        (at, 40.0 * factor.powf(at / minutes) * (noise * draws.random_range(-1.7..1.7_f64)).exp())
    };
    (0..=count).map(sample).collect()
}

#[test]
fn latency_that_triples_has_grown_and_one_that_stays_is_stable() {
    for seed in 0..20 {
        let parameters = GrowthParameters::for_minutes(10.0);
        let grown = growth(&latency(seed, 10.0, 0.15, 3.0), &parameters);
        assert_eq!(grown.verdict, GrowthVerdict::Grown, "seed {seed}: {grown:?}");
        let stable = growth(&latency(seed, 10.0, 0.15, 1.0), &parameters);
        assert_eq!(stable.verdict, GrowthVerdict::Stable, "seed {seed}: {stable:?}");
    }
    let short = growth(&latency(1, 5.0, 0.15, 1.0), &GrowthParameters::for_minutes(5.0));
    assert_eq!(short.verdict, GrowthVerdict::Inconclusive, "{short:?}");
    let tiny: Vec<(f64, f64)> = latency(1, 10.0, 0.15, 2.0).iter().map(|(at, ms)| (*at, ms / 40.0)).collect();
    assert_eq!(growth(&tiny, &GrowthParameters::for_minutes(10.0)).verdict, GrowthVerdict::Stable);
}

/// Two minutes of p99, a value a second; in waves it is two and a half times as high.
fn two_minutes(seed: u64, factor: f64, waves: &[std::ops::Range<u32>]) -> Vec<(f64, f64)> {
    let mut draws = chaos::seed::stream(seed, &["two minutes"]);
    let sample = |second: u32| {
        let wave = if waves.iter().any(|wave| wave.contains(&second)) { 2.5 } else { 1.0 };
        let noise = draws.random_range(-0.3..0.3_f64).exp();
        (f64::from(second) / 60.0, 12.0 * wave * factor.powf(f64::from(second) / 120.0) * noise)
    };
    (0..=120).map(sample).collect()
}

#[test]
fn a_short_run_concludes_a_slow_down_and_not_a_wave() {
    let parameters = GrowthParameters::for_minutes(2.0);
    for seed in 0..20 {
        let grown = growth(&two_minutes(seed, 8.0, &[]), &parameters);
        assert_eq!(grown.verdict, GrowthVerdict::Grown, "seed {seed}: {grown:?}");
        let waves = growth(&two_minutes(seed, 1.0, &[15..19, 33..37, 79..85, 112..121]), &parameters);
        assert_eq!(waves.verdict, GrowthVerdict::Inconclusive, "seed {seed}: {waves:?}");
    }
}
