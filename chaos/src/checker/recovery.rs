//! After a fault is healed, the steady state is regained within a budget and held.
//!
//! Time is cut into windows of equal length, each good or not. Recovery is the start of the first row of good windows, begun at
//! the heal or later, that lasts `stable_ns` without a gap; a window that contains the heal counts from the heal. Later
//! than the budget, or never while the budget could be observed, is *late*. `Unknown` if the windows end before either can
//! be told. Operations whose outcome is unknown are part of what makes a window good or bad and are not seen here. O(n log n).

use super::keyed::{anomaly, seconds};
use super::{Finding, Validity};

const INVARIANT: &str = "recovered-within-budget";

/// A stretch of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start_ns: u64,
    pub good: bool,
}

/// When recovery began, if it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovery {
    At(u64),
    /// Not by this instant, at which the last window ends.
    NotBy(u64),
    /// A good row began here and the windows end before it lasted long enough.
    Unfinished(u64),
}

/// Judges one fault. `healed_ns` is an instant of the history, the other two are lengths.
pub fn check(fault: &str, healed_ns: u64, budget_ns: u64, stable_ns: u64, windows: &[Window]) -> Finding {
    let invariant = format!("{INVARIANT}:{fault}");
    let mut windows = windows.to_vec();
    windows.sort_by_key(|window| window.start_ns);
    let width = width_of(&windows);
    windows.retain(|window| window.start_ns.saturating_add(width) > healed_ns);
    let deadline = healed_ns.saturating_add(budget_ns);
    let examined = windows.len() as u64;
    let finding = |validity, summary: String, anomalies| Finding {
        invariant: invariant.clone(),
        validity,
        examined,
        summary,
        anomalies,
    };
    let late = |told: String| {
        let text = format!("`{fault}` was healed at {};\n{told}", seconds(healed_ns));
        let anomalies = vec![anomaly("late", fault, Vec::new(), Some(deadline), text)];
        finding(Validity::Invalid, format!("{told} (budget {})", seconds(budget_ns)), anomalies)
    };
    let undecided = |told: &str| finding(Validity::Unknown, told.into(), Vec::new());
    if width == 0 || windows.is_empty() {
        return undecided("no windows after the heal");
    }
    match recovery(healed_ns, stable_ns, width, &windows) {
        Recovery::At(at) if at <= deadline => {
            let told = format!(
                "recovered {} after the heal (budget {})",
                seconds(at - healed_ns),
                seconds(budget_ns)
            );
            finding(Validity::Valid, told, Vec::new())
        }
        Recovery::At(at) => late(format!("recovered only {} after it", seconds(at - healed_ns))),
        Recovery::Unfinished(since) if since > deadline => {
            late(format!("the first good row began only {} after it", seconds(since - healed_ns)))
        }
        Recovery::NotBy(end) if end > deadline => late(format!("not recovered by {}", seconds(end))),
        Recovery::Unfinished(_) => undecided("good when the windows ended, but not yet for long enough"),
        Recovery::NotBy(_) => undecided("the windows end before the budget does"),
    }
}

/// Windows are of one length: the smallest distance of two neighbours; 0 if there are not two.
fn width_of(windows: &[Window]) -> u64 {
    let distances = windows.windows(2).map(|pair| pair[1].start_ns - pair[0].start_ns);
    distances.filter(|distance| *distance > 0).min().unwrap_or(0)
}

fn recovery(healed_ns: u64, stable_ns: u64, width: u64, windows: &[Window]) -> Recovery {
    let mut row: Option<u64> = None;
    let mut end = healed_ns;
    for window in windows {
        if window.start_ns > end.max(healed_ns) {
            // Nobody looked in between, so nobody knows that it was good.
            row = None;
        }
        end = window.start_ns.saturating_add(width);
        if !window.good {
            row = None;
            continue;
        }
        let since = *row.get_or_insert(window.start_ns.max(healed_ns));
        if end - since >= stable_ns {
            return Recovery::At(since);
        }
    }
    row.map_or(Recovery::NotBy(end), Recovery::Unfinished)
}
