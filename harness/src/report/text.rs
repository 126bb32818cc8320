//! Words and numbers that all forms share.

use std::fmt::Write as _;

use chaos::fault::Evidence;

use super::{FaultReport, RunReport};
use crate::verdict::{Kind, Outcome, Verdict};

/// `1234567` as `1 234 567`: thin groups that no locale misreads.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Milliseconds with three digits at most: `0.42 ms`, `12.3 ms`, `1.24 s`.
pub fn millis(ms: f64) -> String {
    if ms >= 10_000.0 {
        format!("{:.1} s", ms / 1000.0)
    } else if ms >= 1000.0 {
        format!("{:.2} s", ms / 1000.0)
    } else if ms >= 100.0 {
        format!("{ms:.0} ms")
    } else if ms >= 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.2} ms")
    }
}

/// `0:42.5`, minutes and seconds from the start of the load.
pub fn clock(seconds: f64) -> String {
    let tenths = (seconds.max(0.0) * 10.0).round() as u64;
    let (minutes, tenths) = (tenths / 600, tenths % 600);
    format!("{minutes}:{:02}.{}", tenths / 10, tenths % 10)
}

/// `15 s`, `2 min`, `1 h 30 min`.
pub fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        let text = format!("{seconds:.1}");
        return format!("{} s", text.trim_end_matches('0').trim_end_matches('.'));
    }
    let total = seconds.round() as u64;
    let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60);
    let mut parts = Vec::new();
    for (n, unit) in [(hours, "h"), (minutes, "min"), (rest, "s")] {
        if n > 0 {
            parts.push(format!("{n} {unit}"));
        }
    }
    parts.join(" ")
}

/// Bytes in binary units: `61.4 MiB`.
pub fn bytes(n: f64) -> String {
    let mut value = n;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1024.0 || unit == "GiB" {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    unreachable!("the last unit always returns")
}

/// `PASS`, `FAIL`, `INCONCLUSIVE`, `NOT JUDGED`, `NOT RUN`.
pub fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive(_) => "INCONCLUSIVE",
        Outcome::NotJudged(_) => "NOT JUDGED",
        Outcome::NotRun(_) => "NOT RUN",
    }
}

/// The reason an outcome carries, empty for pass and fail.
pub fn outcome_reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Pass | Outcome::Fail => "",
        Outcome::Inconclusive(reason) | Outcome::NotJudged(reason) | Outcome::NotRun(reason) => reason,
    }
}

pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Invariant => "invariant",
        Kind::Slo => "objective",
        Kind::Validity => "validity",
        Kind::Residue => "residue",
    }
}

pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "VALID",
        Verdict::InvariantViolated => "INVALID",
        Verdict::SloMissed => "MISSED",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::NotRun => "NOT RUN",
        Verdict::Residue => "RESIDUE",
    }
}

/// The sentence of a verdict without the word that already stands before it.
pub fn verdict_rest(verdict: Verdict) -> &'static str {
    verdict.sentence().split_once(": ").map_or("", |(_, rest)| rest)
}

/// Detail and reason of a criterion as one sentence.
pub fn criterion_line(detail: &str, outcome: &Outcome) -> String {
    match (detail, outcome_reason(outcome)) {
        (detail, "") => detail.to_owned(),
        ("", reason) => reason.to_owned(),
        (detail, reason) if detail == reason => detail.to_owned(),
        (detail, reason) => format!("{detail}; {reason}"),
    }
}

/// What a fault touched, only the counters that moved: `412 refused, 37 reset`; `nothing` when none did.
pub fn evidence(e: &Evidence) -> String {
    let mut parts: Vec<String> = Vec::new();
    let counted = [
        (e.refused, "refused", "refused"),
        (e.unanswered, "unanswered", "unanswered"),
        (e.reset, "reset", "reset"),
        (e.connections, "live connection", "live connections"),
        (e.processes, "process", "processes"),
        (e.arrivals, "arrival", "arrivals"),
        (e.acted, "message struck", "messages struck"),
        (e.missed, "message missed", "messages missed"),
        (e.blind, "time blind", "times blind"),
    ];
    for (n, one, many) in counted {
        if n > 0 {
            parts.push(format!("{} {}", count(n), if n == 1 { one } else { many }));
        }
    }
    let measured = [
        (e.delayed_bytes, "delayed"),
        (e.swallowed_bytes, "swallowed"),
        (e.corrupted_bytes, "corrupted"),
        (e.duplicated_bytes, "duplicated"),
        (e.probes, "probes"),
        (e.forwarded_bytes, "forwarded"),
    ];
    for (n, what) in measured {
        if n > 0 {
            parts.push(format!("{} {what}", bytes(n as f64)));
        }
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// `1.2 s of 10 s, drained after 3 s`: requests first, then what had queued up.
pub fn recovery(fault: &FaultReport) -> String {
    let Some(healed) = fault.healed_s else { return "never healed".to_owned() };
    let budget = duration(fault.recovery_budget_s);
    let after = |at: f64| duration((at - healed).max(0.0));
    let requests = match fault.recovered_s {
        Some(back) => format!("{} of {budget}", after(back)),
        None => format!("not seen within {budget}"),
    };
    match fault.drained_s {
        Some(at) => format!("{requests}, drained after {}", after(at)),
        None => requests,
    }
}

/// Totals over all classes: (ok, fail, unknown, dropped).
pub fn totals(report: &RunReport) -> (u64, u64, u64, u64) {
    report
        .classes
        .iter()
        .fold((0, 0, 0, 0), |t, c| (t.0 + c.ok, t.1 + c.fail, t.2 + c.unknown, t.3 + c.dropped))
}

/// `3 services: …` settings as `fsync=on, max_connections=120`.
pub fn settings(settings: &std::collections::BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (key, value) in settings {
        let separator = if out.is_empty() { "" } else { ", " };
        write!(out, "{separator}{key}={value}").expect("writing to a String cannot fail");
    }
    out
}

/// Text that is safe between tags and in double-quoted attributes of XML and HTML. Control characters that XML 1.0
/// forbids become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
