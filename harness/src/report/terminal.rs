//! The page that ends a run on a terminal: verdict first, failures repeated at the end. No colour codes unless asked.

use std::fmt::Write as _;

use super::text::{
    bytes, clock, count, criterion_line, duration, evidence, millis, outcome_word, recovery, totals,
    verdict_rest, verdict_word,
};
use super::{RunReport, is_trouble};
use crate::verdict::{Criterion, Outcome, Verdict};

/// Most proof lines under a failed criterion.
const PROOF_LINES: usize = 5;

/// One page of text, with a final newline; `colour` adds ANSI colours to the outcome words only.
pub fn render(report: &RunReport, colour: bool) -> String {
    let mut page = String::new();
    head(&mut page, report);
    load(&mut page, report);
    faults(&mut page, report);
    page.push('\n');
    for criterion in &report.criteria {
        line(&mut page, criterion, colour);
    }
    failures(&mut page, report, colour);
    put(&mut page, format_args!("\nreplay   {}\n", report.replay));
    let word = paint(verdict_word(report.verdict), verdict_colour(report.verdict), colour);
    put(&mut page, format_args!("{word}: {}\n", verdict_rest(report.verdict)));
    page
}

fn head(page: &mut String, report: &RunReport) {
    put(page, format_args!("{}\n", report.run.title));
    if !report.run.why.is_empty() {
        put(page, format_args!("{}\n", report.run.why));
    }
    put(page, format_args!("\nrun      {}  seed {}\n", report.run.id, report.run.seed));
    put(
        page,
        format_args!("backend  {}: {}\n", report.environment.backend, report.environment.backend_reason),
    );
    let services: Vec<_> =
        report.environment.services.iter().map(|s| format!("{} {}", s.name, s.version)).collect();
    if !services.is_empty() {
        put(page, format_args!("services {}\n", services.join(", ")));
    }
}

fn load(page: &mut String, report: &RunReport) {
    let Some(load) = &report.load else { return };
    let (ok, fail, unknown, dropped) = totals(report);
    put(
        page,
        format_args!(
            "load     {}: {:.1}/s of {:.1}/s for {}; {} ok, {} refused, {} unknown, {} dropped\n",
            load.profile,
            load.achieved_rate,
            load.target_rate,
            duration(load.schedule_s()),
            count(ok),
            count(fail),
            count(unknown),
            count(dropped),
        ),
    );
    put(
        page,
        format_args!(
            "         wake lag p50 {} p99 {}, other processes took {:.1} % of the CPU\n\n",
            millis(load.wake_lag_p50_ms),
            millis(load.wake_lag_p99_ms),
            load.other_cpu_share * 100.0
        ),
    );
    put(
        page,
        format_args!("  {:<20}{:>10}{:>12}{:>12}{:>12}{:>12}\n", "", "count", "p50", "p95", "p99", "max"),
    );
    for c in &report.classes {
        let (p50, p95, p99, max) = (millis(c.p50_ms), millis(c.p95_ms), millis(c.p99_ms), millis(c.max_ms));
        let n = count(c.total());
        put(page, format_args!("  {:<20}{n:>10}{p50:>12}{p95:>12}{p99:>12}{max:>12}\n", c.class));
    }
    if let Some((_, last)) = report.samples.get("runtime.anonymous_bytes").and_then(|s| s.last()) {
        put(page, format_args!("  memory of the runtime at the end: {}\n", bytes(*last)));
    }
}

fn faults(page: &mut String, report: &RunReport) {
    if report.faults.is_empty() {
        return;
    }
    page.push('\n');
    for f in &report.faults {
        let until = f.healed_s.map_or_else(|| "never healed".to_owned(), clock);
        put(
            page,
            format_args!(
                "  {} on {} {}-{until}, touched: {}; recovery {}\n",
                f.id,
                f.target,
                clock(f.injected_s),
                evidence(&f.evidence),
                recovery(f)
            ),
        );
    }
}

fn failures(page: &mut String, report: &RunReport, colour: bool) {
    let failures = report.failures();
    if failures.is_empty() {
        return;
    }
    page.push_str("\nwhat has to be looked at\n");
    for criterion in failures {
        line(page, criterion, colour);
        for proof in criterion.proof.iter().take(PROOF_LINES) {
            put(page, format_args!("                 {}\n", proof.replace('\n', "\n                 ")));
        }
        if criterion.proof.len() > PROOF_LINES {
            let rest = criterion.proof.len() - PROOF_LINES;
            put(page, format_args!("                 … and {rest} more lines in report.json\n"));
        }
    }
}

fn line(page: &mut String, c: &Criterion, colour: bool) {
    let word = format!("{:>12}", outcome_word(&c.outcome));
    let code = match c.outcome {
        Outcome::Pass => "32",
        Outcome::NotJudged(_) => "2",
        Outcome::Fail => "31",
        Outcome::Inconclusive(_) | Outcome::NotRun(_) => "33",
    };
    debug_assert!(is_trouble(&c.outcome) || matches!(c.outcome, Outcome::Pass | Outcome::NotJudged(_)));
    let text = criterion_line(&c.detail, &c.outcome);
    put(page, format_args!("{}  {:<28} {text}\n", paint(&word, code, colour), c.name));
}

fn verdict_colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "1;32",
        Verdict::InvariantViolated | Verdict::SloMissed | Verdict::Residue => "1;31",
        Verdict::Inconclusive | Verdict::NotRun => "1;33",
    }
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String cannot fail");
}
