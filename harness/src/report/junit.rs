//! `junit.xml`: one test suite a run, one test case a criterion, as CI systems read it. Undecided and not-run criteria
//! are errors, because a skipped case would be shown as green.

use std::fmt::Write as _;

use super::RunReport;
use super::text::{criterion_line, escape, kind_word, outcome_reason, verdict_word};
use crate::verdict::{Criterion, Outcome};

pub fn render(report: &RunReport) -> String {
    let counted =
        |wanted: fn(&Outcome) -> bool| report.criteria.iter().filter(|c| wanted(&c.outcome)).count();
    let failures = counted(|o| matches!(o, Outcome::Fail));
    let errors = counted(|o| matches!(o, Outcome::Inconclusive(_) | Outcome::NotRun(_)));
    let skipped = counted(|o| matches!(o, Outcome::NotJudged(_)));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let suite = format!(
        "name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{:.3}\"",
        escape(&report.run.title),
        report.criteria.len(),
        report.run.duration_s
    );
    put(
        &mut xml,
        format_args!(
            "<testsuites {suite}>\n  <testsuite {suite} timestamp=\"{}\">\n",
            escape(&report.run.started)
        ),
    );
    put(&mut xml, format_args!("    <properties>\n"));
    let properties = [
        ("run", report.run.id.clone()),
        ("seed", report.run.seed.to_string()),
        ("backend", report.environment.backend.clone()),
        ("verdict", verdict_word(report.verdict).to_owned()),
        ("replay", report.replay.clone()),
    ];
    for (name, value) in properties {
        put(&mut xml, format_args!("      <property name=\"{name}\" value=\"{}\"/>\n", escape(&value)));
    }
    put(&mut xml, format_args!("    </properties>\n"));
    for criterion in &report.criteria {
        case(&mut xml, criterion);
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn case(xml: &mut String, c: &Criterion) {
    let head = format!("    <testcase classname=\"{}\" name=\"{}\"", kind_word(c.kind), escape(&c.name));
    let message = escape(&criterion_line(&c.detail, &c.outcome));
    let proof = escape(&c.proof.join("\n"));
    let body = match c.outcome {
        Outcome::Pass => {
            put(xml, format_args!("{head}><system-out>{message}</system-out></testcase>\n"));
            return;
        }
        Outcome::Fail => format!("<failure message=\"{message}\">{proof}</failure>"),
        Outcome::Inconclusive(_) => {
            format!("<error type=\"inconclusive\" message=\"{message}\">{proof}</error>")
        }
        Outcome::NotRun(_) => format!("<error type=\"not-run\" message=\"{message}\">{proof}</error>"),
        Outcome::NotJudged(_) => format!("<skipped message=\"{}\"/>", escape(outcome_reason(&c.outcome))),
    };
    put(xml, format_args!("{head}>{body}</testcase>\n"));
}

fn put(xml: &mut String, text: std::fmt::Arguments<'_>) {
    xml.write_fmt(text).expect("writing to a String cannot fail");
}
