//! Rank statistics of a series in time: robust slope, its interval, and a test for growth.
//!
//! Quadratic in the number of points, which [`super::blocks`] bounds to a thousand.

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at: f64,
    pub value: f64,
}

/// Theil–Sen slope with its 95 % interval (Sen 1968), and the intercept: the median of value − slope × time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    pub slope: f64,
    pub low: f64,
    pub high: f64,
    pub intercept: f64,
}

/// One-sided Mann–Kendall test for growth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Number of rising pairs less falling ones.
    pub s: f64,
    /// Variance of `s` without a trend, corrected for autocorrelation.
    pub variance: f64,
    pub p: f64,
}

/// The median; 0 for no values. Sorts its argument.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The first (0) or second (1) half of a series; a middle point belongs to the second.
pub fn half(points: &[Point], which: usize) -> &[Point] {
    let (first, second) = points.split_at(points.len() / 2);
    if which == 0 { first } else { second }
}

/// Median of all pairwise slopes. The interval uses the variance of the Mann–Kendall statistic with the Hamed–Rao
/// correction, so that it is honest for autocorrelated series too. All zero for fewer than two points.
pub fn theil_sen(points: &[Point]) -> Slope {
    let (slope, slopes) = pairwise(points);
    if slopes.is_empty() {
        return Slope {
            slope: 0.0,
            low: 0.0,
            high: 0.0,
            intercept: points.first().map_or(0.0, |point| point.value),
        };
    }
    let mut rests: Vec<f64> = points.iter().map(|point| point.value - slope * point.at).collect();
    let reach = 1.96 * mann_kendall(points).variance.sqrt();
    let (count, last) = (slopes.len() as f64, slopes.len() - 1);
    // Sen: the M1-th smallest and the (M2 + 1)-th smallest, counted from one; casts saturate at zero.
    let low = ((count - reach) / 2.0).floor() as usize;
    let high = ((count + reach) / 2.0).ceil() as usize;
    Slope {
        slope,
        low: slopes[low.saturating_sub(1).min(last)],
        high: slopes[high.min(last)],
        intercept: median(&mut rests),
    }
}

/// Mann–Kendall with the correction of Hamed and Rao (1998): the variance is multiplied by
/// 1 + 2/(n(n−1)(n−2)) Σ (n−i)(n−i−1)(n−i−2) ρ(i), over the lags i whose autocorrelation ρ of the ranks of the detrended series
/// is significant at 5 %. A factor below one is not used: it would only make the test bolder.
pub fn mann_kendall(points: &[Point]) -> Test {
    let n = points.len() as f64;
    let mut s = 0.0;
    for (index, earlier) in points.iter().enumerate() {
        for later in &points[index + 1..] {
            s += f64::from(u8::from(later.value > earlier.value))
                - f64::from(u8::from(later.value < earlier.value));
        }
    }
    let plain = (n * (n - 1.0) * (2.0 * n + 5.0) - ties(points)) / 18.0;
    let variance = plain.max(0.0) * hamed_rao(points);
    let z = if variance <= 0.0 || s == 0.0 { 0.0 } else { (s - s.signum()) / variance.sqrt() };
    // The fit is off by 3e-8 at zero, where the answer is known.
    let p = if z == 0.0 { 0.5 } else { 0.5 * erfc(z / std::f64::consts::SQRT_2) };
    Test { s, variance, p }
}

/// The median slope and all slopes in order.
fn pairwise(points: &[Point]) -> (f64, Vec<f64>) {
    let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (index, earlier) in points.iter().enumerate() {
        let later = points[index + 1..].iter().filter(|later| later.at > earlier.at);
        slopes.extend(later.map(|later| (later.value - earlier.value) / (later.at - earlier.at)));
    }
    (median(&mut slopes), slopes)
}

/// Σ t(t−1)(2t+5) over the groups of equal values.
fn ties(points: &[Point]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
    values.sort_by(f64::total_cmp);
    let sizes = values.chunk_by(|a, b| a == b).map(|group| group.len() as f64);
    sizes.map(|t| t * (t - 1.0) * (2.0 * t + 5.0)).sum()
}

fn hamed_rao(points: &[Point]) -> f64 {
    if points.len() < 4 {
        return 1.0;
    }
    let (slope, _) = pairwise(points);
    let detrended: Vec<f64> = points.iter().map(|point| point.value - slope * point.at).collect();
    let mut centred = ranks(&detrended);
    let n = centred.len();
    let mean = centred.iter().sum::<f64>() / n as f64;
    centred.iter_mut().for_each(|rank| *rank -= mean);
    let total: f64 = centred.iter().map(|rank| rank * rank).sum();
    if total <= 0.0 {
        return 1.0;
    }
    let significant = 1.96 / (n as f64).sqrt();
    let size = n as f64;
    let mut sum = 0.0;
    for lag in 1..n {
        let shared: f64 = centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum();
        let correlation = shared / total;
        if correlation.abs() > significant {
            let rest = size - lag as f64;
            sum += rest * (rest - 1.0) * (rest - 2.0) * correlation;
        }
    }
    (1.0 + 2.0 / (size * (size - 1.0) * (size - 2.0)) * sum).max(1.0)
}

/// Ranks from one; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = before as f64 + (group.len() as f64 + 1.0) / 2.0;
        for index in group {
            ranks[*index] = rank;
        }
        before += group.len();
    }
    ranks
}

/// Complementary error function by Chebyshev fit, relative error below 1.2e-7 everywhere (Press et al., Numerical Recipes in C,
/// section 6.2, `erfcc`).
fn erfc(x: f64) -> f64 {
    const C: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let z = x.abs();
    let t = 1.0 / (1.0 + 0.5 * z);
    let series = C.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let tail = t * (-z * z + series).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
}
