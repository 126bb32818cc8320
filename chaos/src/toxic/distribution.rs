//! Delays as they are found on real links, drawn one by one. Pure: the random source is passed in.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::LONGEST;

/// Probabilities at which [`Distribution::Quantiles`] is given.
pub const QUANTILES: [f64; 6] = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0];

/// What a delay is drawn from. No draw is negative or longer than [`LONGEST`].
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// Normal; what would be negative is 0.
    Normal { mean: Duration, deviation: Duration },
    /// Pareto: no delay is below `minimum`, and the smaller the shape, the longer the tail. At a shape of 1 or less the mean is
    /// infinite. A shape of 0 or less draws `minimum`.
    Pareto { minimum: Duration, shape: f64 },
    /// Between the values at [`QUANTILES`] every delay is equally likely. A value below the one before counts as that one.
    Quantiles([Duration; QUANTILES.len()]),
}

impl Distribution {
    /// The toxic's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Distribution::Normal { .. } => "latency_normal",
            Distribution::Pareto { .. } => "latency_pareto",
            Distribution::Quantiles(_) => "latency_quantiles",
        }
    }

    /// One delay. Each draw takes the same number of values from `rng`, whatever the parameters are.
    ///
    /// Normal: Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958). The others: the inverse of
    /// their distribution function.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Duration {
        let (first, second): (f64, f64) = (rng.random(), rng.random());
        // Never 0, of which there is no logarithm and no power below 0.
        let above_zero = 1.0 - first;
        match self {
            Distribution::Normal { mean, deviation } => {
                let standard = (-2.0 * above_zero.ln()).sqrt() * (TAU * second).cos();
                seconds(mean.as_secs_f64() + deviation.as_secs_f64() * standard)
            }
            Distribution::Pareto { minimum, shape } if *shape > 0.0 => {
                seconds(minimum.as_secs_f64() * above_zero.powf(-1.0 / shape))
            }
            Distribution::Pareto { minimum, .. } => (*minimum).min(LONGEST),
            Distribution::Quantiles(values) => between(values, first),
        }
    }
}

fn between(values: &[Duration; QUANTILES.len()], at: f64) -> Duration {
    let mut low = values[0];
    for (index, quantiles) in QUANTILES.windows(2).enumerate() {
        let high = values[index + 1].max(low);
        if at < quantiles[1] {
            let share = (at - quantiles[0]) / (quantiles[1] - quantiles[0]);
            return seconds(low.as_secs_f64() + (high - low).as_secs_f64() * share);
        }
        low = high;
    }
    low.min(LONGEST)
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seed;

    const DRAWS: usize = 20_000;

    fn draws(distribution: &Distribution) -> Vec<f64> {
        let mut rng = seed::stream(1, &["distribution"]);
        let mut draws: Vec<f64> = (0..DRAWS).map(|_| distribution.draw(&mut rng).as_secs_f64()).collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    fn quantile(draws: &[f64], at: f64) -> f64 {
        draws[((draws.len() - 1) as f64 * at) as usize]
    }

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.05, "{found} is far from {expected}");
    }

    #[test]
    fn normal_has_its_mean_and_deviation() {
        let millis = Duration::from_millis;
        let draws = draws(&Distribution::Normal { mean: millis(100), deviation: millis(20) });
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / DRAWS as f64;
        near(mean, 0.1);
        near(variance.sqrt(), 0.02);
        near(quantile(&draws, 0.975), 0.1392);
    }

    #[test]
    fn normal_is_never_negative() {
        let draws = draws(&Distribution::Normal { mean: Duration::ZERO, deviation: Duration::from_secs(1) });
        assert_eq!(draws[0], 0.0);
        near(draws.iter().filter(|draw| **draw > 0.0).count() as f64, DRAWS as f64 / 2.0);
    }

    #[test]
    fn pareto_has_its_minimum_and_tail() {
        let draws = draws(&Distribution::Pareto { minimum: Duration::from_millis(10), shape: 2.0 });
        assert!(draws[0] >= 0.01);
        // x of probability p is minimum / (1 - p)^(1 / shape).
        near(quantile(&draws, 0.5), 0.01 * 2f64.sqrt());
        near(quantile(&draws, 0.99), 0.1);
    }

    #[test]
    fn quantiles_are_met() {
        let table = [5, 10, 20, 100, 500, 1000].map(Duration::from_millis);
        let draws = draws(&Distribution::Quantiles(table));
        assert!(draws[0] >= 0.005 && draws[DRAWS - 1] <= 1.0);
        near(quantile(&draws, 0.5), 0.01);
        near(quantile(&draws, 0.9), 0.02);
        near(quantile(&draws, 0.25), 0.0075);
        near(quantile(&draws, 0.945), 0.06);
    }

    proptest! {
        #[test]
        fn no_parameters_give_an_impossible_delay(a in any::<u32>(), b in any::<u32>(), shape in any::<f64>(), seed in any::<u64>()) {
            let (a, b) = (Duration::from_millis(a.into()), Duration::from_millis(b.into()));
            let mut rng = seed::stream(seed, &["distribution"]);
            for distribution in [
                Distribution::Normal { mean: a, deviation: b },
                Distribution::Pareto { minimum: a, shape },
                Distribution::Quantiles([a, b, a, a, b, Duration::ZERO]),
            ] {
                let least = match distribution {
                    Distribution::Normal { .. } => Duration::ZERO,
                    _ => a,
                };
                for _ in 0..50 {
                    let drawn = distribution.draw(&mut rng);
                    // Seconds as a float are exact to a microsecond at these sizes.
                    prop_assert!(drawn + Duration::from_micros(1) >= least && drawn <= LONGEST, "{distribution:?}: {drawn:?}");
                }
            }
        }
    }
}
