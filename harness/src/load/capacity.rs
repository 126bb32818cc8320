//! The rules of a capacity run: nothing is refused, and how much was served is told. Pure.
//!
//! The rate that is asked for is a goal for large machines. Served in full it is met; a machine that is busy to its last
//! processor has told its capacity, which is neither a pass nor a failure; one that idles and serves less has failed.

use super::classify::is_refusal;
use super::drive::LoadOutcome;
use crate::observe::latency::{Latencies, quantile_ms};
use crate::observe::recorder::Second;
use crate::verdict::{Criterion, Kind, Outcome};

/// Smallest share of what was asked for that is all of it.
const SERVED_MIN: f64 = 0.99;
/// From this share of the machine on, it is the limit.
const BUSY: f64 = 0.9;

/// Judges the seconds `windows`, in which `scheduled` arrivals were due.
pub(super) fn judge(windows: &[&Second], scheduled: u64, outcome: &LoadOutcome) -> Vec<Criterion> {
    vec![served(windows, scheduled, outcome), nothing_refused(windows)]
}

fn served(windows: &[&Second], scheduled: u64, outcome: &LoadOutcome) -> Criterion {
    let seconds = windows.len().max(1) as f64;
    let served: u64 = windows.iter().map(|second| second.ok()).sum();
    let best = windows.iter().map(|second| second.ok()).max().unwrap_or(0);
    let latency = Latencies::merged(windows.iter().flat_map(|second| second.latencies()));
    let quantile = |q| quantile_ms(&latency, q).map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
    let busy = outcome.own_cpu_share + outcome.other_cpu_share + outcome.stolen_cpu_share;
    let share = served as f64 / scheduled.max(1) as f64;
    let detail = format!(
        "{:.0} requests a second served of {:.0} asked for ({:.1} %), {best} in the best second; p50 {}, p99 {} from the \
         intended start; the processors were {:.0} % busy",
        served as f64 / seconds,
        scheduled as f64 / seconds,
        share * 100.0,
        quantile(0.5),
        quantile(0.99),
        busy * 100.0
    );
    let result = if scheduled == 0 || served == 0 {
        Outcome::Inconclusive("there was nothing to judge".into())
    } else if share >= SERVED_MIN {
        Outcome::Pass
    } else if busy >= BUSY {
        Outcome::NotJudged("this machine can do no more: its processors are the limit".into())
    } else {
        Outcome::Fail
    };
    slo("capacity", result, detail, vec![])
}

fn nothing_refused(windows: &[&Second]) -> Criterion {
    let mut refused = std::collections::BTreeMap::<&str, u64>::new();
    for (code, count) in windows.iter().flat_map(|second| &second.classes).flat_map(|class| &class.codes) {
        if is_refusal(code) {
            *refused.entry(code.as_str()).or_default() += count;
        }
    }
    let result = match (windows.is_empty(), refused.is_empty()) {
        (true, _) => Outcome::Inconclusive("there was nothing to judge".into()),
        (false, true) => Outcome::Pass,
        (false, false) => Outcome::Fail,
    };
    let detail = format!("{} requests were refused, wanted none", refused.values().sum::<u64>());
    let proof = refused.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    slo("no-refusals", result, detail, proof)
}

fn slo(name: &str, outcome: Outcome, detail: String, proof: Vec<String>) -> Criterion {
    Criterion { name: name.into(), kind: Kind::Slo, outcome, detail, proof }
}
