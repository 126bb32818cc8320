//! Does a quantity grow without end? Medians of blocks, a slope with its interval, a test, and the second half.
//!
//! [`leak`] says `Leak` when the one-sided Mann–Kendall test (Hamed–Rao) has p < 0.01, and the 95 % interval of the Theil–Sen
//! slope lies above δ, and the slope of the second half does too; `Clean` when the interval lies below δ or the second half's
//! slope below δ/2; else `Inconclusive`, never a silent pass. [`growth`] does the same for latency, on its logarithm.
//! A leak can be concluded from one minute on, cleanness only from ten: a short run has [`LeakParameters::short`].

pub mod statistics;

use serde::{Deserialize, Serialize};

use statistics::{Point, half, mann_kendall, median, theil_sen};

/// δ of memory in bytes a minute for a 10-minute and for a 2-hour run.
pub const MEMORY_DELTA_10_MIN: f64 = 500_000.0;
pub const MEMORY_DELTA_2_H: f64 = 50_000.0;
/// δ of file descriptors, tasks and connections a minute.
pub const COUNT_DELTA_10_MIN: f64 = 0.5;
pub const COUNT_DELTA_2_H: f64 = 0.05;
/// A count that ends this much above its first block leaks, however it got there (runs of ten minutes and more).
pub const COUNT_STEP: f64 = 10.0;

const POINTS_MIN: usize = 8;
const POINTS_MAX: f64 = 1000.0;
const P_MAX: f64 = 0.01;
const LEAK_FROM_MINUTES: f64 = 1.0;
const CLEAN_FROM_MINUTES: f64 = 10.0;
/// Samples come once a second, so a run of a minute spans a little less.
const SPAN_TOLERANCE: f64 = 0.05;

/// How samples are cut and what counts as growth. Times in minutes, growth in the samples' own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LeakParameters {
    /// Dropped at the beginning.
    pub warm_up: f64,
    /// Length of a block, of which the median is taken.
    pub block: f64,
    /// δ: the slope that is tolerated, per minute.
    pub delta: f64,
    /// A last block this far above the first is a leak as well.
    pub step: Option<f64>,
    /// The second half's slope must be at least this share of the first half's: a curve that flattens out is no leak.
    pub steadiness: f64,
    /// Whether `Clean` may be said; it also takes ten minutes of samples.
    pub can_be_clean: bool,
}

impl LeakParameters {
    /// For runs from ten minutes on; `delta` is one of the `_10_MIN` constants.
    pub fn ten_minutes(delta: f64) -> Self {
        LeakParameters { warm_up: 2.0, block: 0.25, delta, step: None, steadiness: 0.0, can_be_clean: true }
    }

    /// For runs of two hours and more; `delta` is one of the `_2_H` constants.
    pub fn two_hours(delta: f64) -> Self {
        LeakParameters { warm_up: 15.0, block: 1.0, delta, step: None, steadiness: 0.0, can_be_clean: true }
    }

    /// For runs of one to ten minutes; `delta` is one of the `_10_MIN` constants.
    ///
    /// Start-up dominates such a run: the first fifth is dropped, the tolerated growth over the whole run is 48 times that
    /// of a minute of the ten-minute test (24 MB), and the second half must grow at least 0.6 times as fast as the
    /// first. It cannot say `Clean`.
    pub fn short(minutes: f64, delta: f64) -> Self {
        LeakParameters {
            warm_up: minutes * 0.2,
            block: (minutes * 0.025).max(2.0 / 60.0),
            delta: 48.0 * delta / minutes,
            step: None,
            steadiness: 0.6,
            can_be_clean: false,
        }
    }

    /// The preset for a run of that length, for memory in bytes.
    pub fn memory(minutes: f64) -> Self {
        Self::preset(minutes, MEMORY_DELTA_10_MIN, MEMORY_DELTA_2_H)
    }

    /// The preset for a run of that length, for file descriptors, tasks and connections.
    pub fn count(minutes: f64) -> Self {
        let preset = Self::preset(minutes, COUNT_DELTA_10_MIN, COUNT_DELTA_2_H);
        LeakParameters { step: preset.can_be_clean.then_some(COUNT_STEP), ..preset }
    }

    fn preset(minutes: f64, delta_10_min: f64, delta_2_h: f64) -> Self {
        if minutes >= 120.0 * (1.0 - SPAN_TOLERANCE) {
            Self::two_hours(delta_2_h)
        } else if minutes >= CLEAN_FROM_MINUTES * (1.0 - SPAN_TOLERANCE) {
            Self::ten_minutes(delta_10_min)
        } else {
            Self::short(minutes, delta_10_min)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrendVerdict {
    Leak,
    Clean,
    Inconclusive,
}

/// A slope and what it means. Slopes in the samples' unit per minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    pub verdict: TrendVerdict,
    /// Blocks that were judged.
    pub points: usize,
    pub slope: f64,
    /// 95 % interval of the slope.
    pub low: f64,
    pub high: f64,
    pub second_half_slope: f64,
    /// One-sided, for growth.
    pub p: f64,
    pub delta: f64,
    /// Why, in one sentence.
    pub reason: String,
}

/// Judges samples `(minutes since the start, value)`, in any order.
pub fn leak(samples: &[(f64, f64)], parameters: &LeakParameters) -> Trend {
    let span = span(samples);
    let points = blocks(samples, parameters.warm_up, parameters.block);
    let slope = theil_sen(&points);
    let (first_half, second_half) = (theil_sen(half(&points, 0)).slope, theil_sen(half(&points, 1)).slope);
    let p = mann_kendall(&points).p;
    let delta = parameters.delta;
    let rises = p < P_MAX && slope.low > delta && second_half > delta;
    let steady = second_half >= parameters.steadiness * first_half;
    let step = match (points.first(), points.last(), parameters.step) {
        (Some(first), Some(last), Some(step)) => last.value > first.value + step,
        _ => false,
    };
    let flat = slope.high < delta || second_half < delta / 2.0;
    let (verdict, reason) = if points.len() < POINTS_MIN || span < LEAK_FROM_MINUTES * (1.0 - SPAN_TOLERANCE)
    {
        (
            TrendVerdict::Inconclusive,
            format!("{} blocks in {span:.1} min are too few: needs 1 min", points.len()),
        )
    } else if (rises && steady) || step {
        let how = if rises && steady { "it rises steadily" } else { "it ended far above where it began" };
        (TrendVerdict::Leak, format!("{how}: {:.3} a minute, {delta:.3} tolerated", slope.slope))
    } else if !parameters.can_be_clean || span < CLEAN_FROM_MINUTES * (1.0 - SPAN_TOLERANCE) {
        (TrendVerdict::Inconclusive, "no leak seen, but cleanness needs 10 min".into())
    } else if flat {
        (TrendVerdict::Clean, format!("{:.3} a minute, {delta:.3} tolerated", slope.slope))
    } else {
        (TrendVerdict::Inconclusive, "neither a leak nor its absence can be told: run longer".into())
    };
    Trend {
        verdict,
        points: points.len(),
        slope: slope.slope,
        low: slope.low,
        high: slope.high,
        second_half_slope: second_half,
        p,
        delta,
        reason,
    }
}

/// How latency windows are judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GrowthParameters {
    pub warm_up: f64,
    pub block: f64,
    /// Growth over the run that is too much: 1.5 is half again.
    pub factor: f64,
    /// The low end of the interval must be above this as well.
    pub factor_low: f64,
    /// And the growth must be more than this, in milliseconds.
    pub added_ms: f64,
    pub can_be_stable: bool,
}

impl GrowthParameters {
    /// The preset for a run of that length; below ten minutes only a threefold growth is called one, and nothing stable.
    /// There the whole interval has to say that it doubled: percentiles come in waves of some ten seconds, of which a run
    /// of two minutes has too few for the interval to be as wide as it should.
    pub fn for_minutes(minutes: f64) -> Self {
        let base = GrowthParameters {
            warm_up: 2.0,
            block: 0.25,
            factor: 1.5,
            factor_low: 1.1,
            added_ms: 5.0,
            can_be_stable: true,
        };
        if minutes >= 120.0 * (1.0 - SPAN_TOLERANCE) {
            GrowthParameters { warm_up: 15.0, block: 0.5, factor: 1.2, ..base }
        } else if minutes >= CLEAN_FROM_MINUTES * (1.0 - SPAN_TOLERANCE) {
            base
        } else {
            let block = (minutes * 0.025).max(2.0 / 60.0);
            GrowthParameters {
                warm_up: minutes * 0.2,
                block,
                factor: 3.0,
                factor_low: 2.0,
                can_be_stable: false,
                ..base
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrowthVerdict {
    Grown,
    Stable,
    Inconclusive,
}

/// Growth of a latency over the judged part of the run; 1 is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    pub verdict: GrowthVerdict,
    pub points: usize,
    pub factor: f64,
    /// 95 % interval of the factor.
    pub low: f64,
    pub high: f64,
    /// What the factor adds to the fitted latency at the start, in milliseconds.
    pub added_ms: f64,
    pub reason: String,
}

/// Judges a percentile, `(minutes since the start, milliseconds)`; values that are not positive are passed over.
///
/// G = exp(Theil–Sen slope of ln latency × judged time). Growth that cannot exceed `added_ms` even at the interval's high
/// end is stable whatever its factor, because it could never be called grown.
pub fn growth(samples: &[(f64, f64)], parameters: &GrowthParameters) -> Growth {
    let positive: Vec<(f64, f64)> = samples.iter().copied().filter(|(_, ms)| *ms > 0.0).collect();
    let span = span(&positive);
    let mut points = blocks(&positive, parameters.warm_up, parameters.block);
    for point in &mut points {
        point.value = point.value.ln();
    }
    let slope = theil_sen(&points);
    let judged = points.last().map_or(0.0, |last| last.at - points[0].at);
    let factor = |slope: f64| (slope * judged).exp();
    let start_ms = points.first().map_or(0.0, |first| (slope.intercept + slope.slope * first.at).exp());
    let (g, low, high) = (factor(slope.slope), factor(slope.low), factor(slope.high));
    let added_ms = start_ms * (g - 1.0);
    let grown = g > parameters.factor && low > parameters.factor_low && added_ms > parameters.added_ms;
    let stable = high < parameters.factor || start_ms * (high - 1.0) < parameters.added_ms;
    let (verdict, reason) = if points.len() < POINTS_MIN || span < LEAK_FROM_MINUTES * (1.0 - SPAN_TOLERANCE)
    {
        (
            GrowthVerdict::Inconclusive,
            format!("{} blocks in {span:.1} min are too few: needs 1 min", points.len()),
        )
    } else if grown {
        (GrowthVerdict::Grown, format!("{g:.2} times as slow at the end, {added_ms:.1} ms more"))
    } else if !parameters.can_be_stable || span < CLEAN_FROM_MINUTES * (1.0 - SPAN_TOLERANCE) {
        (GrowthVerdict::Inconclusive, "no slow-down seen, but stability needs 10 min".into())
    } else if stable {
        (GrowthVerdict::Stable, format!("{g:.2} times at the end, {added_ms:.1} ms more"))
    } else {
        (GrowthVerdict::Inconclusive, "neither a slow-down nor its absence can be told: run longer".into())
    };
    Growth { verdict, points: points.len(), factor: g, low, high, added_ms, reason }
}

/// Minutes from the first sample to the last.
fn span(samples: &[(f64, f64)]) -> f64 {
    let first = samples.iter().map(|(at, _)| *at).fold(f64::INFINITY, f64::min);
    let last = samples.iter().map(|(at, _)| *at).fold(f64::NEG_INFINITY, f64::max);
    if samples.is_empty() { 0.0 } else { last - first }
}

/// Medians of blocks after the warm-up, at the blocks' middles. Very long runs get longer blocks: at most 1000 of them.
fn blocks(samples: &[(f64, f64)], warm_up: f64, block: f64) -> Vec<Point> {
    let block = block.max(span(samples) / POINTS_MAX);
    let start = samples.iter().map(|(at, _)| *at).fold(f64::INFINITY, f64::min) + warm_up;
    let mut by_block: std::collections::BTreeMap<u64, Vec<f64>> = std::collections::BTreeMap::new();
    for (at, value) in samples.iter().filter(|(at, value)| *at >= start && value.is_finite()) {
        // A float to integer cast saturates, and both ends are finite and not negative here.
        by_block.entry(((at - start) / block) as u64).or_default().push(*value);
    }
    let points = by_block.into_iter().map(|(index, mut values)| Point {
        at: start + (index as f64 + 0.5) * block,
        value: median(&mut values),
    });
    points.collect()
}
