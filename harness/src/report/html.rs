//! `report.html`: one self-contained file, no network, readable without scripts; a few lines of script show the figures
//! under the pointer.

use std::fmt::Write as _;

use super::svg;
use super::text::{
    clock, count, criterion_line, duration, escape, evidence, kind_word, millis, outcome_word, recovery,
    settings, totals, verdict_rest, verdict_word,
};
use super::{RunReport, is_trouble};
use crate::verdict::{Criterion, Outcome, Verdict};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

pub fn render(report: &RunReport) -> String {
    let mut page = String::new();
    put(
        &mut page,
        format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
            escape(&report.run.title),
            verdict_word(report.verdict)
        ),
    );
    banner(&mut page, report);
    tiles(&mut page, report);
    picture(&mut page, report);
    failures(&mut page, report);
    verdict(&mut page, report);
    faults(&mut page, report);
    witnesses(&mut page, report);
    load(&mut page, report);
    environment(&mut page, report);
    let (width, points) = svg::buckets(&report.seconds);
    let data = serde_json::json!({
        "span": report.span_s(), "left": svg::LEFT, "right": svg::RIGHT, "width": svg::WIDTH, "bucket": width,
        "points": points,
    });
    // `<` cannot end the script element when it is escaped.
    let data = data.to_string().replace('<', "\\u003c");
    put(
        &mut page,
        format_args!("</main>\n<script>\nconst data = {data};\n{SCRIPT}</script>\n</body>\n</html>\n"),
    );
    page
}

fn banner(page: &mut String, report: &RunReport) {
    let class = match report.verdict {
        Verdict::Valid => "good",
        Verdict::InvariantViolated | Verdict::SloMissed | Verdict::Residue => "bad",
        Verdict::Inconclusive | Verdict::NotRun => "warn",
    };
    let rest = verdict_rest(report.verdict);
    put(
        page,
        format_args!(
            "<header class=\"{class}\"><div class=\"word\">{}</div><div><h1>{}</h1><p class=\"rest\">{}{}.</p>",
            verdict_word(report.verdict),
            escape(&report.run.title),
            rest[..1].to_uppercase(),
            &rest[1..],
        ),
    );
    if !report.run.why.is_empty() {
        put(page, format_args!("<p class=\"why\">{}</p>", escape(&report.run.why)));
    }
    put(
        page,
        format_args!(
            "<p class=\"facts\">{} · {} · <b>{}</b> backend · seed {}</p></div></header>\n",
            escape(&report.run.started),
            duration(report.run.duration_s),
            escape(&report.environment.backend),
            report.run.seed
        ),
    );
}

fn tiles(page: &mut String, report: &RunReport) {
    let (ok, fail, unknown, dropped) = totals(report);
    let all = (ok + fail + unknown + dropped).max(1);
    let passed = report.criteria.iter().filter(|c| c.outcome == Outcome::Pass).count();
    let mut tiles = vec![
        (format!("{passed}/{}", report.criteria.len()), "criteria passed".to_owned()),
        (
            format!("{:.2} %", ok as f64 / all as f64 * 100.0),
            format!("of {} operations acknowledged", count(all)),
        ),
    ];
    if let Some(load) = &report.load {
        tiles.push((
            format!("{:.1}/s", load.achieved_rate),
            format!("of {:.1}/s asked for", load.target_rate),
        ));
    }
    if let Some(worst) = report.classes.iter().map(|c| c.p99_ms).reduce(f64::max) {
        tiles.push((millis(worst), "p99 of the slowest operation".to_owned()));
    }
    let recoveries = report.faults.iter().filter_map(|f| Some(f.recovered_s? - f.healed_s?));
    if let Some(slowest) = recoveries.reduce(f64::max) {
        let what = if report.faults.len() == 1 { "to recover" } else { "slowest recovery of a fault" };
        tiles.push((duration(slowest.max(0.0)), what.to_owned()));
    }
    let violations = report.anomalies.len() as u64 + report.anomalies_omitted;
    let what = if violations == 1 { "violation" } else { "violations" };
    tiles.push((count(violations), what.to_owned()));
    page.push_str("<section class=\"tiles\">");
    for (figure, what) in tiles {
        put(page, format_args!("<div><b>{}</b><span>{}</span></div>", escape(&figure), escape(&what)));
    }
    page.push_str("</section>\n");
}

fn picture(page: &mut String, report: &RunReport) {
    page.push_str("<section class=\"picture\"><h2>What happened</h2><div class=\"legend\">");
    let keys = [
        ("ok", "ok"),
        ("fail", "refused"),
        ("unknown", "unknown"),
        ("dropped", "dropped"),
        ("target", "asked for"),
        ("p50", "p50"),
        ("p95", "p95"),
        ("p99", "p99"),
        ("band", "fault"),
        ("budget", "recovery budget"),
        ("violation", "violation"),
    ];
    for (class, name) in keys {
        put(page, format_args!("<span><i class=\"{class}\"></i>{name}</span>"));
    }
    put(
        page,
        format_args!(
            "</div><div class=\"chart\">{}<div id=\"tip\"></div></div></section>\n",
            svg::timeline(report)
        ),
    );
}

fn failures(page: &mut String, report: &RunReport) {
    let failures = report.failures();
    if failures.is_empty() {
        return;
    }
    page.push_str("<section><h2>What has to be looked at</h2>\n");
    for c in failures {
        put(
            page,
            format_args!(
                "<article class=\"{}\"><h3>{} {}</h3><p>{}</p>",
                class(c),
                pill(c),
                escape(&c.name),
                escape(&criterion_line(&c.detail, &c.outcome))
            ),
        );
        if !c.proof.is_empty() {
            put(page, format_args!("<pre>{}</pre>", escape(&c.proof.join("\n"))));
        }
        page.push_str("</article>\n");
    }
    page.push_str("</section>\n");
}

fn verdict(page: &mut String, report: &RunReport) {
    page.push_str("<section><h2>Verdict</h2><table><thead><tr><th>result</th><th>criterion</th><th>kind</th><th>figures</th></tr></thead><tbody>\n");
    for c in &report.criteria {
        put(
            page,
            format_args!(
                "<tr class=\"{}\"><td>{}</td><td class=\"name\">{}</td><td>{}</td><td>{}</td></tr>\n",
                if is_trouble(&c.outcome) { "trouble" } else { "" },
                pill(c),
                escape(&c.name),
                kind_word(c.kind),
                escape(&criterion_line(&c.detail, &c.outcome))
            ),
        );
    }
    page.push_str("</tbody></table></section>\n");
}

fn faults(page: &mut String, report: &RunReport) {
    if report.faults.is_empty() {
        return;
    }
    page.push_str("<section><h2>Faults and their evidence</h2><table><thead><tr><th>fault</th><th>kind</th><th>on</th><th>when</th><th>touched</th><th>wanted</th><th>recovery of budget</th></tr></thead><tbody>\n");
    for f in &report.faults {
        let mark = if f.bit { "" } else { " <span class=\"pill warn\">too little</span>" };
        let gone = if f.verified_gone { "" } else { " <span class=\"pill bad\">not verified gone</span>" };
        put(
            page,
            format_args!(
                "<tr><td class=\"name\">{}</td><td>{}</td><td>{}</td><td class=\"nowrap\">{} – {}{gone}</td><td>{}{mark}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&f.id),
                escape(&f.kind),
                escape(&f.target),
                clock(f.injected_s),
                f.healed_s.map_or_else(|| "never".to_owned(), clock),
                evidence(&f.evidence),
                escape(&f.wanted.join(", ")),
                recovery(f)
            ),
        );
    }
    page.push_str("</tbody></table></section>\n");
}

fn witnesses(page: &mut String, report: &RunReport) {
    if report.anomalies.is_empty() {
        return;
    }
    page.push_str("<section><h2>What proves it</h2><table><thead><tr><th>when</th><th>invariant</th><th>what</th><th>witness</th></tr></thead><tbody>\n");
    for a in &report.anomalies {
        put(
            page,
            format_args!(
                "<tr><td class=\"nowrap\"><i class=\"violation\"></i> {}</td><td class=\"name\">{}</td><td>{}</td><td>{}",
                a.at_s.map_or_else(|| "at the end".to_owned(), clock),
                escape(&a.invariant),
                escape(&a.kind),
                escape(&a.explanation)
            ),
        );
        if !a.operations.is_empty() {
            put(page, format_args!("<pre>{}</pre>", escape(&a.operations.join("\n"))));
        }
        page.push_str("</td></tr>\n");
    }
    page.push_str("</tbody></table>");
    if report.anomalies_omitted > 0 {
        put(page, format_args!("<p>and {} more, in the history.</p>", count(report.anomalies_omitted)));
    }
    page.push_str("</section>\n");
}

fn load(page: &mut String, report: &RunReport) {
    let Some(load) = &report.load else { return };
    page.push_str("<section><h2>Load</h2><table class=\"figures\"><thead><tr><th>operation</th><th>ok</th><th>refused</th><th>unknown</th><th>dropped</th><th>p50</th><th>p95</th><th>p99</th><th>max</th></tr></thead><tbody>\n");
    for c in &report.classes {
        put(page, format_args!("<tr><td class=\"name\">{}</td>", escape(&c.class)));
        for n in [c.ok, c.fail, c.unknown, c.dropped] {
            put(page, format_args!("<td>{}</td>", count(n)));
        }
        for ms in [c.p50_ms, c.p95_ms, c.p99_ms, c.max_ms] {
            put(page, format_args!("<td>{}</td>", millis(ms)));
        }
        page.push_str("</tr>\n");
    }
    let server = load.server_cpu_seconds.map_or(String::new(), |s| format!(", the server {s:.1} s"));
    put(
        page,
        format_args!(
            "</tbody></table><p>Profile {}: {} scheduled, {} released, {} answered, {} dropped. Wake lag p50 {}, p99 {}. \
             CPU: the generator {:.1} s{server}, other processes {:.1} % of the machine. Latency counts from the intended \
             start, so waiting is never left out.</p></section>\n",
            escape(&load.profile),
            count(load.scheduled),
            count(load.released),
            count(load.answered),
            count(load.dropped),
            millis(load.wake_lag_p50_ms),
            millis(load.wake_lag_p99_ms),
            load.generator_cpu_seconds,
            load.other_cpu_share * 100.0
        ),
    );
}

fn environment(page: &mut String, report: &RunReport) {
    let (env, host) = (&report.environment, &report.run.host);
    put(
        page,
        format_args!(
            "<section><h2>Environment</h2><dl><dt>backend</dt><dd>{}: {}</dd><dt>server</dt><dd>{}</dd>",
            escape(&env.backend),
            escape(&env.backend_reason),
            escape(&env.server)
        ),
    );
    for s in &env.services {
        put(
            page,
            format_args!(
                "<dt>{}</dt><dd>{} <span class=\"quiet\">{}</span></dd>",
                escape(&s.name),
                escape(&s.version),
                escape(&settings(&s.settings))
            ),
        );
    }
    put(
        page,
        format_args!(
            "<dt>machine</dt><dd>{}, kernel {}, {} cores, {}</dd><dt>run</dt><dd>{}</dd><dt>command</dt>\
             <dd><code>{}</code></dd></dl><h2>Do it again</h2><pre class=\"replay\">{}</pre></section>\n",
            escape(&host.os),
            escape(&host.kernel),
            host.cores,
            super::text::bytes(host.memory_bytes as f64),
            escape(&report.run.id),
            escape(&report.run.command),
            escape(&report.replay)
        ),
    );
}

fn class(c: &Criterion) -> &'static str {
    match c.outcome {
        Outcome::Pass => "good",
        Outcome::Fail => "bad",
        Outcome::Inconclusive(_) | Outcome::NotRun(_) => "warn",
        Outcome::NotJudged(_) => "none",
    }
}

fn pill(c: &Criterion) -> String {
    format!("<span class=\"pill {}\">{}</span>", class(c), outcome_word(&c.outcome).to_lowercase())
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String cannot fail");
}
