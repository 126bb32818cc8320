//! Rules for overload: stress must degrade gracefully, a spike must be limited, and both must recover.

use super::super::classify::{WITHOUT_RETRY_AFTER, is_refusal};
use super::{
    Criterion, Latencies, LoadOutcome, Outcome, Profile, ProfileKind, Second, StageSpan, nothing, overlaps,
    pass_if, quantile_ms, slo, whole_seconds,
};

/// Windows in a row, inside the objectives, that count as recovered.
const STABLE_SECONDS: usize = 5;
/// Band around the limiter's rate within which accepted requests must lie in each second above it.
const LIMIT_BAND: (f64, f64) = (0.9, 1.05);

pub(super) fn judge(
    profile: &Profile,
    windows: &[Second],
    outcome: &LoadOutcome,
    excluded: &[(u64, u64)],
) -> Vec<Criterion> {
    let span_of = |stage: &&StageSpan| stage.overload;
    let spans: Vec<&StageSpan> = outcome.stages.iter().filter(span_of).collect();
    let Some(last) = spans.last() else { return Vec::new() };
    let within = |start: u64, end: u64| -> Vec<&Second> {
        let whole = whole_seconds(start, end);
        windows
            .iter()
            .filter(|w| {
                whole.contains(&(w.start_ns(), w.end_ns())) && !overlaps((w.start_ns(), w.end_ns()), excluded)
            })
            .collect()
    };
    let loaded: Vec<&Second> = spans.iter().flat_map(|span| within(span.start_ns, span.end_ns)).collect();
    let mut criteria = Vec::new();
    match profile.kind {
        ProfileKind::Sustained | ProfileKind::Capacity => {}
        ProfileKind::Stress => {
            let peak_rate = spans.iter().map(|span| span.rate.max(span.to)).fold(0.0, f64::max);
            let at_peak = spans.iter().filter(|span| span.rate >= peak_rate && span.to >= peak_rate);
            let peak: Vec<&Second> = at_peak.flat_map(|span| within(span.start_ns, span.end_ns)).collect();
            criteria.push(served_at_peak(profile, windows, &peak));
            criteria.push(only_refusals(&loaded));
        }
        ProfileKind::Spike => criteria.push(limiter(profile, outcome, &loaded)),
    }
    criteria.push(refusals_fast(profile, &loaded));
    let end = outcome.stages.last().map_or(last.end_ns, |stage| stage.end_ns);
    criteria.push(recovers(profile, last.end_ns, &within(last.end_ns, end)));
    criteria
}

fn served_at_peak(profile: &Profile, windows: &[Second], peak: &[&Second]) -> Criterion {
    let best = windows.iter().map(Second::ok).max().unwrap_or(0);
    if peak.is_empty() || best == 0 {
        return slo("served-at-peak", nothing(), "no second at the highest rate was served".into());
    }
    let served = peak.iter().map(|second| second.ok()).sum::<u64>() as f64 / peak.len() as f64;
    let share = served / best as f64;
    let wanted = profile.overload.served_share;
    // Told, because seconds of one rate that differ by more than what is missing say that the machine is unsteady.
    let (least, most) = peak
        .iter()
        .map(|second| second.ok())
        .fold((u64::MAX, 0), |(least, most), served| (least.min(served), most.max(served)));
    let detail = format!(
        "{served:.0} requests a second served at the highest rate ({least} to {most}), {:.0} % of the best second ({best}), wanted {:.0} %",
        share * 100.0,
        wanted * 100.0
    );
    slo("served-at-peak", pass_if(share >= wanted), detail)
}

/// Under overload a server may refuse and the generator may drop; errors of any other kind are not graceful.
fn only_refusals(loaded: &[&Second]) -> Criterion {
    let mut other = std::collections::BTreeMap::<&str, u64>::new();
    let mut refused = 0;
    for (code, count) in loaded.iter().flat_map(|s| &s.classes).flat_map(|class| &class.codes) {
        if is_refusal(code) {
            refused += count;
        } else {
            *other.entry(code.as_str()).or_default() += count;
        }
    }
    let dropped: u64 = loaded.iter().map(|second| second.dropped).sum();
    let bad: u64 = other.values().sum();
    let detail = format!(
        "{refused} refused, {dropped} not started in time, {bad} failed in another way under overload"
    );
    let result = if loaded.is_empty() { nothing() } else { pass_if(bad == 0) };
    let proof = other.iter().take(20).map(|(code, count)| format!("{code}: {count}")).collect();
    Criterion { proof, ..slo("only-refusals", result, detail) }
}

fn refusals_fast(profile: &Profile, loaded: &[&Second]) -> Criterion {
    let refused = Latencies::merged(loaded.iter().flat_map(|s| &s.classes).map(|class| &class.refused));
    let limit = profile.overload.refusal_p99.as_secs_f64() * 1_000.0;
    match quantile_ms(&refused, 0.99) {
        None => {
            let why = if loaded.is_empty() {
                "all of the overload lies in fault windows, which the scenario judges"
            } else {
                "nothing was refused under overload"
            };
            slo("refusals-fast", Outcome::NotJudged(why.into()), why.into())
        }
        Some(found) => {
            let detail = format!(
                "99 % of {} refusals within {found:.1} ms, wanted under {limit:.0} ms",
                refused.len()
            );
            slo("refusals-fast", pass_if(found < limit), detail)
        }
    }
}

/// Recovered: the first of five seconds in a row whose p99 is inside the objective and whose errors are.
fn recovers(profile: &Profile, ended_ns: u64, after: &[&Second]) -> Criterion {
    let limit = profile.slo.p99.as_secs_f64() * 1_000.0;
    let good = |second: &&Second| {
        let latency = Latencies::merged(second.latencies());
        let total = second.ok() + second.errors();
        let clean = second.errors() as f64 <= profile.slo.error_rate.max(0.001) * total as f64;
        clean && quantile_ms(&latency, 0.99).is_some_and(|p99| p99 < limit)
    };
    let first = after.windows(STABLE_SECONDS).find(|run| run.iter().all(good)).map(|run| run[0].start_ns());
    let wanted = profile.overload.recovery.as_secs_f64();
    match first {
        _ if after.len() < STABLE_SECONDS => {
            slo("recovers", nothing(), format!("only {} s after the overload were seen", after.len()))
        }
        None => slo("recovers", Outcome::Fail, "never back inside the objectives after the overload".into()),
        Some(at) => {
            let took = at.saturating_sub(ended_ns) as f64 / 1e9;
            let detail = format!(
                "back inside the objectives {took:.0} s after the overload, wanted within {wanted:.0} s"
            );
            slo("recovers", pass_if(took <= wanted), detail)
        }
    }
}

fn limiter(profile: &Profile, outcome: &LoadOutcome, loaded: &[&Second]) -> Criterion {
    let limit = profile.overload.limit;
    if limit <= 0.0 {
        let why = "the profile names no limit: the server under test has no rate limiter yet".to_string();
        return slo("rate-limiter", Outcome::NotJudged(why), "no limiter to judge".into());
    }
    let schedule = profile.schedule();
    let offset = |ns: u64| std::time::Duration::from_nanos(ns.saturating_sub(outcome.started_ns));
    let above: Vec<&&Second> = loaded
        .iter()
        .filter(|s| {
            schedule.rate_at(offset(s.start_ns())).min(schedule.rate_at(offset(s.end_ns() - 1))) > limit
        })
        .collect();
    let mut burst = profile.overload.burst;
    let outside: Vec<String> = above
        .iter()
        .filter(|s| {
            let accepted = s.ok() as f64;
            let within = LIMIT_BAND.0 * limit <= accepted && accepted <= LIMIT_BAND.1 * limit + burst;
            burst = (burst - (accepted - limit).max(0.0)).max(0.0);
            !within
        })
        .map(|s| format!("second {}: {} accepted", s.second, s.ok()))
        .collect();
    let silent: u64 = above
        .iter()
        .flat_map(|s| &s.classes)
        .flat_map(|class| &class.codes)
        .filter(|(code, _)| code.ends_with(WITHOUT_RETRY_AFTER))
        .map(|(_, count)| count)
        .sum();
    let detail = format!(
        "in {} of {} s above the limit of {limit:.0}/s accepted requests lay within {:.0} to {:.0} % of it; {silent} refusals without Retry-After",
        above.len() - outside.len(),
        above.len(),
        LIMIT_BAND.0 * 100.0,
        LIMIT_BAND.1 * 100.0
    );
    let result = if above.is_empty() { nothing() } else { pass_if(outside.is_empty() && silent == 0) };
    Criterion { proof: outside.into_iter().take(20).collect(), ..slo("rate-limiter", result, detail) }
}
