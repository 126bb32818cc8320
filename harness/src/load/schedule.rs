//! When arrivals happen: a piecewise linear rate, turned into the instant of each arrival.
//!
//! Arrival `k` is due where the cumulative number of arrivals reaches `k + ½`, so a stage of 1,000/s for 10 s has exactly
//! 10,000 arrivals, the first half a millisecond in. Everything here is a pure function of the stages.

use std::time::Duration;

/// One stage: the rate runs linearly from `from` to `to` (arrivals a second) within `duration`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    pub from: f64,
    pub to: f64,
    pub duration: Duration,
}

impl Segment {
    /// Arrivals of the whole segment, as a real number.
    fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.duration.as_secs_f64()
    }

    /// Arrivals within the first `seconds` of the segment.
    fn arrivals_until(&self, seconds: f64) -> f64 {
        let length = self.duration.as_secs_f64();
        if length <= 0.0 {
            return 0.0;
        }
        let seconds = seconds.clamp(0.0, length);
        self.from * seconds + (self.to - self.from) / length * seconds * seconds / 2.0
    }

    /// Seconds into the segment where `q` arrivals have happened: the stable root of `from·t + slope·t²/2 = q`, which
    /// also holds for `from = 0` and for a constant rate.
    fn inverse(&self, q: f64) -> f64 {
        let length = self.duration.as_secs_f64();
        let slope = (self.to - self.from) / length;
        let root = (self.from * self.from + 2.0 * slope * q).max(0.0).sqrt();
        (2.0 * q / (self.from + root)).min(length)
    }
}

/// The arrivals of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    parts: Vec<Part>,
    total: u64,
    duration: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    segment: Segment,
    /// Seconds and arrivals before this part.
    start: f64,
    before: f64,
}

impl Schedule {
    /// Rates are expected to be finite and not negative, as a profile guarantees.
    pub fn new(segments: &[Segment]) -> Self {
        let mut parts = Vec::with_capacity(segments.len());
        let (mut start, mut before) = (Duration::ZERO, 0.0);
        for &segment in segments {
            parts.push(Part { segment, start: start.as_secs_f64(), before });
            start += segment.duration;
            before += segment.arrivals();
        }
        Schedule { parts, total: whole(before), duration: start }
    }

    /// Number of arrivals; their indices are `0..total`.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// When arrival `k` is due, counted from the start; the end of the schedule for `k` beyond the last.
    pub fn at(&self, k: u64) -> Duration {
        if k >= self.total {
            return self.duration;
        }
        let wanted = k as f64 + 0.5;
        let after =
            self.parts.partition_point(|part| part.before + part.segment.arrivals() < wanted - EPSILON);
        let part = self.parts[after.min(self.parts.len() - 1)];
        let q = (wanted - part.before).clamp(0.0, part.segment.arrivals());
        Duration::from_secs_f64(part.start + part.segment.inverse(q))
    }

    /// How many arrivals are due by `elapsed`.
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        if elapsed >= self.duration {
            return self.total;
        }
        let seconds = elapsed.as_secs_f64();
        let index = self.parts.partition_point(|part| part.start <= seconds).saturating_sub(1);
        let Some(part) = self.parts.get(index) else { return 0 };
        whole(part.before + part.segment.arrivals_until(seconds - part.start)).min(self.total)
    }

    /// The wanted rate at `elapsed`, in arrivals a second; 0 after the end.
    pub fn rate_at(&self, elapsed: Duration) -> f64 {
        if elapsed >= self.duration {
            return 0.0;
        }
        let seconds = elapsed.as_secs_f64();
        let index = self.parts.partition_point(|part| part.start <= seconds).saturating_sub(1);
        let Some(part) = self.parts.get(index) else { return 0.0 };
        let share = (seconds - part.start) / part.segment.duration.as_secs_f64();
        part.segment.from + (part.segment.to - part.segment.from) * share
    }
}

/// Tolerance for sums of real arrivals that ought to be whole.
const EPSILON: f64 = 1e-6;

/// Arrivals whose midpoint lies below `cumulative`.
fn whole(cumulative: f64) -> u64 {
    (cumulative + 0.5 + EPSILON).floor().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(from: f64, to: f64, seconds: u64) -> Segment {
        Segment { from, to, duration: Duration::from_secs(seconds) }
    }

    fn per_second(schedule: &Schedule) -> Vec<u64> {
        let mut counts = vec![0; schedule.duration().as_secs() as usize + 1];
        (0..schedule.total()).for_each(|k| counts[schedule.at(k).as_secs() as usize] += 1);
        counts
    }

    #[test]
    fn spike_of_thirty_seconds_and_ten_at_the_top_is_exactly_250_000_arrivals() {
        let schedule = Schedule::new(&[segment(0.0, 10_000.0, 30), segment(10_000.0, 10_000.0, 10)]);
        assert_eq!(schedule.total(), 250_000);
        let mut last = Duration::ZERO;
        for k in 0..schedule.total() {
            let at = schedule.at(k);
            assert!(at > last, "arrival {k} at {at:?} is not after {last:?}");
            last = at;
        }
        assert!(last < schedule.duration());
        for (second, &count) in per_second(&schedule).iter().take(40).enumerate() {
            let wanted = if second < 30 { 10_000.0 / 30.0 * (second as f64 + 0.5) } else { 10_000.0 };
            assert!((count as f64 - wanted).abs() <= 1.0, "second {second}: {count}, wanted {wanted}");
        }
    }

    #[test]
    fn constant_rate_is_evenly_spaced_from_half_a_gap_in() {
        let schedule = Schedule::new(&[segment(1_000.0, 1_000.0, 10)]);
        assert_eq!(schedule.total(), 10_000);
        assert_eq!(schedule.at(0), Duration::from_micros(500));
        assert_eq!(schedule.due_by(Duration::from_secs(1)), 1_000);
        assert_eq!(schedule.due_by(Duration::from_secs(99)), 10_000);
    }

    #[test]
    fn a_pause_between_stages_has_no_arrivals() {
        let schedule = Schedule::new(&[segment(10.0, 10.0, 2), segment(0.0, 0.0, 3), segment(10.0, 10.0, 1)]);
        assert_eq!(per_second(&schedule), [10, 10, 0, 0, 0, 10, 0]);
        assert_eq!(schedule.rate_at(Duration::from_secs(3)), 0.0);
    }

    #[test]
    fn nothing_is_due_without_stages() {
        let schedule = Schedule::new(&[]);
        assert_eq!((schedule.total(), schedule.due_by(Duration::from_secs(1))), (0, 0));
        assert_eq!(schedule.rate_at(Duration::ZERO), 0.0);
    }

    proptest! {
        #[test]
        fn arrivals_increase_and_match_the_area_under_the_rate(
            stages in prop::collection::vec((0_u32..300, 0_u32..300, 1_u64..8), 1..5),
        ) {
            let segments: Vec<Segment> =
                stages.iter().map(|&(from, to, s)| segment(f64::from(from), f64::from(to), s)).collect();
            let schedule = Schedule::new(&segments);
            let area: f64 = segments.iter().map(Segment::arrivals).sum();
            prop_assert!((schedule.total() as f64 - area).abs() <= 0.5 + EPSILON);
            let mut last = None;
            for k in 0..schedule.total() {
                let at = schedule.at(k);
                prop_assert!(at <= schedule.duration());
                prop_assert!(last.is_none_or(|last| at > last), "arrival {} at {:?}", k, at);
                // One nanosecond either side: durations are whole nanoseconds.
                prop_assert!(schedule.due_by(at + Duration::from_micros(2)) > k);
                last = Some(at);
            }
        }
    }
}
