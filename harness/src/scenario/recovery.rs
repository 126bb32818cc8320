//! Recovery from a fault: requests are served as before, and what queued up meanwhile is gone. Pure.

use std::time::Duration;

use chaos::checker::Finding;
use chaos::checker::recovery::{Window, check};

use super::tally::short;
use crate::verdict::{Criterion, Kind, Outcome};

const SECOND_NS: u64 = 1_000_000_000;
/// Longer than this between two samples, and nobody knows what was in between.
const GAP_NS: u64 = 3 * SECOND_NS;

/// Whether the steady state was back in time after `healed_ns`; `seconds` come from `steady_state::seconds`.
pub fn recovered(
    fault: &str,
    healed_ns: u64,
    budget_ns: u64,
    stable_ns: u64,
    seconds: &[(u64, bool)],
) -> Finding {
    let windows: Vec<Window> =
        seconds.iter().map(|(start_ns, good)| Window { start_ns: *start_ns, good: *good }).collect();
    let finding = check(fault, healed_ns, budget_ns, stable_ns, &windows);
    Finding { invariant: format!("recovery {fault}"), ..finding }
}

/// When the first row of good seconds that lasts `stable_ns` began, at the healing or later; `None`: not seen.
pub fn recovered_at(healed_ns: u64, stable_ns: u64, seconds: &[(u64, bool)]) -> Option<u64> {
    let mut began = None;
    for (start_ns, good) in seconds.iter().filter(|(start, _)| start + SECOND_NS > healed_ns) {
        let start = (*start_ns).max(healed_ns);
        began = if *good { began.or(Some(start)) } else { None };
        if let Some(at) = began
            && start_ns + SECOND_NS - at >= stable_ns
        {
            return Some(at);
        }
    }
    None
}

/// A series that filled up, or could have.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue<'a> {
    pub name: &'a str,
    /// Highest value that counts as drained.
    pub bound: f64,
    /// Samples on the run's clock, oldest first.
    pub points: &'a [(u64, f64)],
}

/// The healing of a fault, and how much time there is to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healing<'a> {
    pub fault: &'a str,
    pub healed_ns: u64,
    pub budget: Duration,
    /// How long a series has to stay at its bound.
    pub stable: Duration,
    /// When the next fault began, on the run's clock.
    pub next_fault_ns: Option<u64>,
    /// The run ended with everything drained: what was at its bound then has stayed there.
    pub settled: bool,
}

/// When a series was back at its bound, and stayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    At(u64),
    /// Not by this instant, at which the last sample was taken.
    NotBy(u64),
    /// At its bound since this instant, but the samples end before it stayed long enough.
    Unfinished(u64),
}

/// The highest value that a series has when nothing queues up: twice what it had before the first fault, and what
/// arrives in a tenth of a second, since samples are few and the server looks at its queues several times a second.
/// `None` when it was never sampled.
pub fn steady_bound(before: &[(u64, f64)], arrivals_per_second: f64) -> Option<f64> {
    let highest = before.iter().map(|(_, value)| *value).reduce(f64::max)?;
    Some((2.0 * highest + arrivals_per_second / 10.0).ceil())
}

/// Whether everything was back at its bound in time, and when the last of it was.
pub fn drained(healing: &Healing<'_>, queues: &[Queue<'_>]) -> (Criterion, Option<u64>) {
    let since = |ns: u64| (ns - healing.healed_ns.min(ns)) as f64 / 1e9;
    let deadline = healing.healed_ns.saturating_add(nanos(healing.budget));
    let mut last = Some(healing.healed_ns);
    let (mut late, mut undecided, mut told) = (false, false, Vec::new());
    for queue in queues {
        let (at, words) = match back(queue, healing) {
            Back::At(at) => (Some(at), format!("after {} s", short(since(at)))),
            Back::Unfinished(at) if healing.settled => (Some(at), format!("after {} s", short(since(at)))),
            Back::Unfinished(at) => {
                undecided |= at <= deadline;
                late |= at > deadline;
                (None, format!("after {} s, but not for long enough when the run ended", short(since(at))))
            }
            Back::NotBy(end) => {
                undecided |= end <= deadline;
                late |= end > deadline;
                (None, format!("not within {} s", short(since(end))))
            }
        };
        late |= at.is_some_and(|at| at > deadline);
        last = last.zip(at).map(|(last, at)| last.max(at));
        told.push(format!("{} at most {} {words}", queue.name, short(queue.bound)));
    }
    let disturbed = healing.next_fault_ns.is_some_and(|at| at <= deadline);
    let outcome = match (late, undecided) {
        (true, _) if disturbed => {
            Outcome::Inconclusive("the next fault began before the budget was over".into())
        }
        (true, _) => Outcome::Fail,
        (false, true) => Outcome::Inconclusive("the samples end before it can be told".into()),
        (false, false) => Outcome::Pass,
    };
    let detail = format!("{} (budget {} s)", told.join(", "), short(healing.budget.as_secs_f64()));
    let name = format!("drained {}", healing.fault);
    (Criterion { name, kind: Kind::Slo, outcome, detail, proof: vec![] }, last)
}

fn back(queue: &Queue<'_>, healing: &Healing<'_>) -> Back {
    let (healed, stable) = (healing.healed_ns, nanos(healing.stable));
    let split = queue.points.partition_point(|(at, _)| *at <= healed);
    // What never left its bound was back at once.
    let known = queue.points[..split].last();
    let mut row = known.filter(|(at, value)| healed - at <= GAP_NS && *value <= queue.bound).map(|_| healed);
    let mut end = healed;
    for (at, value) in &queue.points[split..] {
        if at - end > GAP_NS {
            row = None;
        }
        end = *at;
        if *value > queue.bound {
            row = None;
            continue;
        }
        let since = *row.get_or_insert(*at);
        if at - since >= stable {
            return Back::At(since);
        }
    }
    row.map_or(Back::NotBy(end), Back::Unfinished)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = SECOND_NS;

    fn seconds(values: &[f64]) -> Vec<(u64, f64)> {
        values.iter().enumerate().map(|(i, value)| (i as u64 * S, *value)).collect()
    }

    fn healing(healed_s: u64, budget_s: u64) -> Healing<'static> {
        Healing {
            fault: "f",
            healed_ns: healed_s * S,
            budget: Duration::from_secs(budget_s),
            stable: Duration::from_secs(2),
            next_fault_ns: None,
            settled: false,
        }
    }

    fn judged(healing: &Healing<'_>, values: &[f64]) -> (Outcome, Option<u64>) {
        let points = seconds(values);
        let (criterion, at) = drained(healing, &[Queue { name: "q", bound: 5.0, points: &points }]);
        (criterion.outcome, at)
    }

    #[test]
    fn only_a_row_of_good_seconds_is_a_recovery() {
        let good = [false, true, false, true, true, true];
        let seconds: Vec<(u64, bool)> =
            good.iter().enumerate().map(|(i, good)| (i as u64 * S, *good)).collect();
        assert_eq!(recovered_at(S / 2, 2 * S, &seconds), Some(3 * S));
        assert_eq!(recovered_at(S / 2, 4 * S, &seconds), None);
    }

    #[test]
    fn a_queue_is_drained_when_it_is_at_its_bound_and_stays() {
        let values = [0.0, 50.0, 90.0, 40.0, 3.0, 9.0, 4.0, 0.0, 0.0];
        assert_eq!(judged(&healing(2, 10), &values), (Outcome::Pass, Some(6 * S)));
        assert_eq!(judged(&healing(2, 3), &values), (Outcome::Fail, Some(6 * S)));
    }

    #[test]
    fn what_never_queued_up_is_drained_at_once_and_a_late_rise_is_not_overlooked() {
        assert_eq!(judged(&healing(2, 10), &[1.0; 6]), (Outcome::Pass, Some(2 * S)));
        // The gauge was stale while the database was away.
        let stale = [1.0, 1.0, 1.0, 60.0, 30.0, 1.0, 1.0, 1.0];
        assert_eq!(judged(&healing(2, 10), &stale), (Outcome::Pass, Some(5 * S)));
    }

    #[test]
    fn the_slowest_of_several_series_counts() {
        let (fast, slow) = (seconds(&[0.0, 9.0, 0.0, 0.0, 0.0]), seconds(&[0.0, 9.0, 9.0, 0.0, 0.0, 0.0]));
        let queue = |name, points| Queue { name, bound: 1.0, points };
        let (criterion, at) = drained(&healing(1, 10), &[queue("fast", &fast), queue("slow", &slow)]);
        assert_eq!((criterion.outcome, at), (Outcome::Pass, Some(3 * S)));
        assert_eq!(criterion.detail, "fast at most 1 after 1 s, slow at most 1 after 2 s (budget 10 s)");
    }

    #[test]
    fn a_queue_that_is_still_full_when_the_budget_is_over_fails_unless_another_fault_came_first() {
        let full = [0.0, 50.0, 50.0, 50.0, 50.0, 50.0];
        assert_eq!(judged(&healing(1, 3), &full), (Outcome::Fail, None));
        let disturbed = Healing { next_fault_ns: Some(3 * S), ..healing(1, 3) };
        assert!(matches!(judged(&disturbed, &full).0, Outcome::Inconclusive(_)));
        assert!(
            matches!(judged(&healing(1, 30), &full).0, Outcome::Inconclusive(_)),
            "the samples end first"
        );
    }

    #[test]
    fn samples_that_end_early_decide_only_for_a_run_that_ended_empty() {
        let values = [0.0, 50.0, 0.0];
        assert!(matches!(judged(&healing(1, 10), &values).0, Outcome::Inconclusive(_)));
        let settled = Healing { settled: true, ..healing(1, 10) };
        assert_eq!(judged(&settled, &values), (Outcome::Pass, Some(2 * S)));
    }

    #[test]
    fn a_hole_in_the_samples_is_no_time_at_the_bound() {
        let points = [(0, 0.0), (2 * S, 0.0), (9 * S, 0.0), (10 * S, 0.0), (11 * S, 0.0)];
        let (criterion, at) = drained(&healing(2, 20), &[Queue { name: "q", bound: 5.0, points: &points }]);
        assert_eq!((criterion.outcome, at), (Outcome::Pass, Some(9 * S)));
    }

    #[test]
    fn a_steady_bound_knows_the_load_and_needs_samples() {
        assert_eq!(steady_bound(&seconds(&[3.0, 11.0, 0.0]), 150.0), Some(37.0));
        assert_eq!(steady_bound(&[], 150.0), None);
    }

    proptest! {
        #[test]
        fn from_the_told_instant_on_the_queue_stays_at_its_bound_for_long_enough(
            values in proptest::collection::vec(0.0_f64..10.0, 1..40),
            healed_s in 0_u64..20,
        ) {
            let healing = healing(healed_s, 15);
            let (outcome, at) = judged(&healing, &values);
            let points = seconds(&values);
            if let Some(at) = at {
                prop_assert!(at >= healing.healed_ns);
                let held = points.iter().filter(|(t, _)| (at..at + 2 * S).contains(t) && *t > healing.healed_ns);
                prop_assert!(held.clone().all(|(_, value)| *value <= 5.0));
                prop_assert_eq!(outcome == Outcome::Pass, at <= healing.healed_ns + 15 * S);
            } else {
                prop_assert!(outcome != Outcome::Pass);
            }
        }
    }
}
