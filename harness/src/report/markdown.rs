//! `report.md`: for a CI summary or a pull request; GitHub's dialect.

use std::fmt::Write as _;

use super::text::{
    clock, count, criterion_line, duration, evidence, kind_word, millis, outcome_word, recovery, settings,
    verdict_rest, verdict_word,
};
use super::{AnomalyReport, RunReport};
use crate::verdict::Outcome;

pub fn render(report: &RunReport) -> String {
    let mut page = String::new();
    let word = verdict_word(report.verdict);
    put(&mut page, format_args!("# {}: {}\n\n", cell(&report.run.title), word));
    if !report.run.why.is_empty() {
        put(&mut page, format_args!("{}\n\n", report.run.why));
    }
    put(&mut page, format_args!("**{word}**: {}.\n\n", verdict_rest(report.verdict)));
    verdict(&mut page, report);
    faults(&mut page, report);
    load(&mut page, report);
    witnesses(&mut page, report);
    environment(&mut page, report);
    page
}

fn verdict(page: &mut String, report: &RunReport) {
    page.push_str("| result | criterion | kind | figures |\n|---|---|---|---|\n");
    for c in &report.criteria {
        let mark = match c.outcome {
            Outcome::Pass => "✅",
            Outcome::Fail => "❌",
            Outcome::Inconclusive(_) | Outcome::NotRun(_) => "⚠️",
            Outcome::NotJudged(_) => "➖",
        };
        let text = cell(&criterion_line(&c.detail, &c.outcome));
        put(
            page,
            format_args!(
                "| {mark} {} | {} | {} | {text} |\n",
                outcome_word(&c.outcome),
                cell(&c.name),
                kind_word(c.kind)
            ),
        );
    }
}

fn faults(page: &mut String, report: &RunReport) {
    if report.faults.is_empty() {
        return;
    }
    page.push_str("\n## Faults\n\n| fault | on | from | to | touched | wanted | recovery |\n|---|---|---|---|---|---|---|\n");
    for f in &report.faults {
        let bit = if f.bit { "" } else { " **too little**" };
        put(
            page,
            format_args!(
                "| {} | {} | {} | {} | {}{bit} | {} | {} |\n",
                cell(&f.id),
                f.target,
                clock(f.injected_s),
                f.healed_s.map_or_else(|| "never".to_owned(), clock),
                evidence(&f.evidence),
                f.wanted.join(", "),
                recovery(f)
            ),
        );
    }
}

fn load(page: &mut String, report: &RunReport) {
    let Some(load) = &report.load else { return };
    put(
        page,
        format_args!(
            "\n## Load\n\n{}: {:.1}/s of {:.1}/s for {}; wake lag p99 {}; other processes {:.1} % of the CPU.\n\n",
            load.profile,
            load.achieved_rate,
            load.target_rate,
            duration(load.schedule_s()),
            millis(load.wake_lag_p99_ms),
            load.other_cpu_share * 100.0
        ),
    );
    page.push_str(
        "| operation | ok | refused | unknown | dropped | p50 | p95 | p99 | max |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for c in &report.classes {
        put(
            page,
            format_args!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                c.class,
                count(c.ok),
                count(c.fail),
                count(c.unknown),
                count(c.dropped),
                millis(c.p50_ms),
                millis(c.p95_ms),
                millis(c.p99_ms),
                millis(c.max_ms)
            ),
        );
    }
}

fn witnesses(page: &mut String, report: &RunReport) {
    if report.anomalies.is_empty() {
        return;
    }
    page.push_str("\n## What proves it\n\n");
    for AnomalyReport { invariant, kind, key, explanation, operations, .. } in &report.anomalies {
        put(page, format_args!("- **{invariant}** {kind} `{key}`: {}\n", explanation.replace('\n', " ")));
        if !operations.is_empty() {
            put(page, format_args!("  ```\n  {}\n  ```\n", operations.join("\n  ")));
        }
    }
    if report.anomalies_omitted > 0 {
        put(page, format_args!("\nand {} more.\n", count(report.anomalies_omitted)));
    }
}

fn environment(page: &mut String, report: &RunReport) {
    let env = &report.environment;
    put(
        page,
        format_args!(
            "\n## Environment\n\nBackend **{}**: {}. Server: {}.\n\n",
            env.backend, env.backend_reason, env.server
        ),
    );
    for s in &env.services {
        put(page, format_args!("- {} {} ({})\n", s.name, s.version, settings(&s.settings)));
    }
    put(
        page,
        format_args!(
            "\nRun `{}`, seed {}, started {}.\n\n```\n{}\n```\n",
            report.run.id, report.run.seed, report.run.started, report.replay
        ),
    );
}

/// Text that cannot end a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String cannot fail");
}
