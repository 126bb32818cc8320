//! Latencies of one second: a sparse histogram with HDR precision, small enough to keep one for each class and second
//! of a run, and the merging of many into an [`Histogram`].

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Values below this are kept exactly; above it, eleven significant bits (0.1 %).
const EXACT: u64 = 2_048;

/// Latencies in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latencies {
    buckets: BTreeMap<u64, u32>,
    count: u64,
    max_us: u64,
}

impl Latencies {
    pub fn record_us(&mut self, us: u64) {
        *self.buckets.entry(bucket(us)).or_default() += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Value at a quantile from 0 to 1, in milliseconds; `None` without values.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let wanted = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (&value, &count) in &self.buckets {
            seen += u64::from(count);
            if seen >= wanted {
                return Some(value.min(self.max_us) as f64 / 1_000.0);
            }
        }
        None
    }

    /// Adds every value to an HDR histogram.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (&value, &count) in &self.buckets {
            histogram.saturating_record_n(value.min(self.max_us), u64::from(count));
        }
    }

    /// All of them in one HDR histogram of microseconds with three significant digits.
    pub fn merged<'a>(parts: impl IntoIterator<Item = &'a Latencies>) -> Histogram<u64> {
        let mut histogram = histogram();
        parts.into_iter().for_each(|part| part.add_to(&mut histogram));
        histogram
    }
}

/// An empty HDR histogram of microseconds up to an hour; longer values count as an hour.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order")
}

/// Highest value of the bucket that `us` falls into.
fn bucket(us: u64) -> u64 {
    if us < EXACT {
        return us;
    }
    let shift = us.ilog2() - 10;
    us | ((1 << shift) - 1)
}

/// Value of a histogram of microseconds at a quantile, in milliseconds; `None` without values.
pub fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_values_there_is_no_quantile() {
        assert_eq!(Latencies::default().quantile_ms(0.5), None);
        assert_eq!(quantile_ms(&Latencies::merged([]), 0.5), None);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_thousandth_of_the_exact_value(
            mut values in prop::collection::vec(0_u64..100_000_000, 1..300), quantile in 0.0_f64..1.0,
        ) {
            let mut latencies = Latencies::default();
            values.iter().for_each(|&us| latencies.record_us(us));
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64 / 1_000.0;
            let found = latencies.quantile_ms(quantile).expect("has values");
            prop_assert!(found >= exact && found <= exact * 1.002 + 0.001, "{} for {}", found, exact);
            let merged = Latencies::merged([&latencies]);
            prop_assert_eq!(merged.len(), values.len() as u64);
            let by_hdr = quantile_ms(&merged, quantile).expect("has values");
            prop_assert!(by_hdr >= exact * 0.998 && by_hdr <= exact * 1.003 + 0.001, "{} for {}", by_hdr, exact);
        }
    }
}
