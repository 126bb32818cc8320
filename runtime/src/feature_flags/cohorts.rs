//! Requests behind a flag: of those whom it was on for, and of those whom it was off for, how many, how many failed on our
//! side, and how long they took. A request counts to the side that it was on.
//!
//! Promises: counting takes no lock; what is taken away is counted once; the memory is that of the flags that a schema names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::FeatureFlagService;

/// Buckets of latencies, each a quarter of an octave wide: from half a millisecond to 27 seconds a value is known within a
/// fifth.
pub const BUCKETS: usize = 64;
const FIRST_MS: f64 = 0.5;
const PER_OCTAVE: f64 = 4.0;

/// What was counted for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Requests.
    pub requests: u64,
    /// Those that failed on our side.
    pub failures: u64,
    /// Requests by how long they took, see [`bucket_of`].
    pub buckets: Vec<u64>,
}

impl Default for Sample {
    fn default() -> Self {
        Self { requests: 0, failures: 0, buckets: vec![0; BUCKETS] }
    }
}

impl Sample {
    /// The part of the requests that failed; NaN of none.
    pub fn error_rate(&self) -> f64 {
        self.failures as f64 / self.requests as f64
    }

    /// Milliseconds within which 99 of 100 requests ended, rounded up to the end of its bucket; NaN of none.
    pub fn p99_ms(&self) -> f64 {
        let wanted = (self.requests as f64 * 0.99).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return bound_ms(at);
            }
        }
        f64::NAN
    }

    /// This and the other.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
    }
}

/// The bucket of a latency.
pub fn bucket_of(latency: Duration) -> usize {
    let octaves = (latency.as_secs_f64() * 1_000.0 / FIRST_MS).log2();
    let at = (octaves * PER_OCTAVE).ceil().max(0.0);
    (at as usize).min(BUCKETS - 1)
}

/// The longest latency of a bucket, milliseconds; the last one has no end, and says where it would be.
pub fn bound_ms(bucket: usize) -> f64 {
    FIRST_MS * (bucket as f64 / PER_OCTAVE).exp2()
}

#[derive(Debug)]
struct Counts {
    requests: AtomicU64,
    failures: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Counts {
    fn default() -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { requests: AtomicU64::new(0), failures: AtomicU64::new(0), buckets }
    }
}

impl Counts {
    fn take(&self) -> Sample {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Sample {
            requests: take(&self.requests),
            failures: take(&self.failures),
            buckets: self.buckets.iter().map(take).collect(),
        }
    }

    fn give_back(&self, sample: &Sample) {
        self.requests.fetch_add(sample.requests, Ordering::Relaxed);
        self.failures.fetch_add(sample.failures, Ordering::Relaxed);
        for (count, more) in self.buckets.iter().zip(&sample.buckets) {
            count.fetch_add(*more, Ordering::Relaxed);
        }
    }
}

/// Both sides of a flag: off, on.
type Sides = Arc<[Counts; 2]>;

/// What this server has counted, by flag. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cohorts(Arc<Mutex<BTreeMap<String, Sides>>>);

/// A side of a flag with what was counted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The flag.
    pub flag: String,
    /// Whether it was on.
    pub on: bool,
    /// What was counted.
    pub sample: Sample,
}

impl Cohorts {
    /// What decides and counts for a flag. For the load of a schema, not for a request: it takes a lock.
    pub fn gate(&self, flags: &FeatureFlagService, flag: &str) -> Gate {
        let sides = self.0.lock().entry(flag.to_owned()).or_default().clone();
        Gate { flags: flags.clone(), flag: flag.into(), sides, told: Arc::default() }
    }

    /// Takes what was counted since the last time; sides without a request are left out.
    pub fn take(&self) -> Vec<Side> {
        let mut all = Vec::new();
        for (flag, sides) in &*self.0.lock() {
            for on in [false, true] {
                let sample = sides[usize::from(on)].take();
                if sample.requests > 0 {
                    all.push(Side { flag: flag.clone(), on, sample });
                }
            }
        }
        all
    }

    /// Puts back what could not be handed on.
    pub fn give_back(&self, sides: &[Side]) {
        let all = self.0.lock();
        for side in sides {
            if let Some(counts) = all.get(&side.flag) {
                counts[usize::from(side.on)].give_back(&side.sample);
            }
        }
    }
}

/// Decides for a request on which side of a flag it is, and counts it there.
#[derive(Debug, Clone)]
pub struct Gate {
    flags: FeatureFlagService,
    flag: Arc<str>,
    sides: Sides,
    /// Whether it was told that the flag is not known.
    told: Arc<AtomicBool>,
}

impl Gate {
    /// Whether the flag is on for this user. One that is not known is off, which is told once.
    pub fn enter(&self, user: Option<&str>) -> Passage {
        let on = self.flags.ask(&self.flag, user).unwrap_or_else(|| {
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!(flag = &*self.flag, "Unknown feature flag");
            }
            false
        });
        Passage { on, failed: false, began: Instant::now(), sides: self.sides.clone() }
    }
}

/// A request on its side. It is counted when it is dropped, also when its caller has left.
#[derive(Debug)]
pub struct Passage {
    /// Whether the flag was on.
    pub on: bool,
    /// Whether it failed on our side; the way it ended is told before it is dropped.
    pub failed: bool,
    began: Instant,
    sides: Sides,
}

impl Drop for Passage {
    fn drop(&mut self) {
        let counts = &self.sides[usize::from(self.on)];
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.failures.fetch_add(u64::from(self.failed), Ordering::Relaxed);
        counts.buckets[bucket_of(self.began.elapsed())].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::feature_flags::FeatureFlag;

    #[tokio::test(start_paused = true)]
    async fn a_request_counts_once_to_the_side_that_it_was_on() {
        let (flags, cohorts) = (FeatureFlagService::new("here"), Cohorts::default());
        let gate = cohorts.gate(&flags, "feature");
        drop(gate.enter(Some("ada")));
        let on = FeatureFlag {
            name: "feature".into(),
            user_allowlist: ["ada".to_owned()].into(),
            ..FeatureFlag::default()
        };
        flags.load_flags(vec![on]).await;
        let mut passage = gate.enter(Some("ada"));
        // The flag is turned off while the request runs: it was on for it.
        flags.replace(Vec::new());
        tokio::time::advance(Duration::from_millis(100)).await;
        passage.failed = true;
        drop(passage);
        drop(gate.enter(None));
        let taken = cohorts.take();
        let seen: Vec<_> =
            taken.iter().map(|side| (side.on, side.sample.requests, side.sample.failures)).collect();
        assert_eq!(seen, [(false, 2, 0), (true, 1, 1)]);
        assert!((100.0..120.0).contains(&taken[1].sample.p99_ms()), "{}", taken[1].sample.p99_ms());
        assert_eq!(cohorts.take(), []);
        cohorts.give_back(&taken);
        assert_eq!(cohorts.take(), taken);
    }

    #[test]
    fn of_no_request_nothing_is_known() {
        let none = Sample::default();
        assert!(none.error_rate().is_nan() && none.p99_ms().is_nan());
    }

    proptest! {
        #[test]
        fn a_latency_is_within_its_bucket(micros in 0u64..27_000_000) {
            let latency = Duration::from_micros(micros);
            let (at, ms) = (bucket_of(latency), latency.as_secs_f64() * 1_000.0);
            prop_assert!(ms <= bound_ms(at) * (1.0 + 1e-9));
            prop_assert!(at == 0 || ms > bound_ms(at - 1) * (1.0 - 1e-9));
        }

        #[test]
        fn the_p99_is_that_of_a_sorted_list(mut micros in prop::collection::vec(1_000u64..20_000_000, 1..300)) {
            let mut sample = Sample { requests: micros.len() as u64, ..Sample::default() };
            for one in &micros {
                sample.buckets[bucket_of(Duration::from_micros(*one))] += 1;
            }
            micros.sort_unstable();
            let rank = (micros.len() as f64 * 0.99).ceil() as usize;
            let exact = micros[rank - 1] as f64 / 1_000.0;
            let found = sample.p99_ms();
            prop_assert!(found >= exact * (1.0 - 1e-9) && found <= exact * 1.19, "{} for {}", found, exact);
        }
    }
}
