//! Every form of the report, from one made-up run.

#[path = "support/sample_report.rs"]
mod sample_report;

use harness::report::{self, html, json, junit, markdown, terminal};

#[test]
fn terminal_page_of_a_valid_run() {
    insta::assert_snapshot!(terminal::render(&sample_report::valid(), false));
}

#[test]
fn terminal_page_repeats_what_has_to_be_looked_at() {
    insta::assert_snapshot!(terminal::render(&sample_report::violated(), false));
}

#[test]
fn markdown_of_a_violated_run() {
    insta::assert_snapshot!(markdown::render(&sample_report::violated()));
}

#[test]
fn junit_of_a_violated_run() {
    insta::assert_snapshot!(junit::render(&sample_report::violated()));
}

#[test]
fn json_without_times_and_series() {
    insta::assert_json_snapshot!(sample_report::violated(), {
        ".run.started" => "[started]",
        ".run.id" => "[id]",
        ".seconds" => "[seconds]",
        ".samples" => "[samples]",
        ".faults[].injected_s" => "[s]",
        ".faults[].healed_s" => "[s]",
        ".faults[].recovered_s" => "[s]",
        ".faults[].drained_s" => "[s]",
        ".health[].at_s" => "[s]",
    });
}

#[test]
fn what_was_written_is_read_back_unchanged() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let report = sample_report::violated();
    let written = report::write_all(&report, folder.path()).expect("write");
    assert_eq!(json::read(&written.json).expect("read"), report);
}

#[test]
fn a_report_of_another_schema_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("report.json");
    std::fs::write(&path, r#"{"schema":"report/v0"}"#).expect("write");
    let error = json::read(&path).expect_err("another schema").to_string();
    assert!(error.contains("report/v0"), "{error}");
}

#[test]
fn html_needs_nothing_from_a_network_and_escapes_what_it_shows() {
    let page = html::render(&sample_report::violated());
    for outside in ["src=", "href=", "http:", "https:", "@import", "url(h"] {
        assert!(!page.contains(outside), "the page contains {outside}");
    }
    assert!(page.contains("&lt;anywhere&gt;") && !page.contains("<anywhere>"));
    assert!(page.contains("<svg") && page.contains("postgres-silent"));
    assert_eq!(page.matches("class=\"violation\"><title>").count(), 1, "one diamond for one anomaly");
}

#[test]
fn a_run_of_hours_is_drawn_in_buckets() {
    let mut report = sample_report::valid();
    let minute = report.seconds.clone();
    report.seconds = (0..7200)
        .map(|s| {
            let mut point = minute[s as usize % 120].clone();
            point.second = s;
            point
        })
        .collect();
    let page = html::render(&report);
    assert!(page.len() < 400_000, "the page has {} bytes", page.len());
}

#[test]
fn an_empty_run_still_has_a_page() {
    let mut report = sample_report::valid();
    report.seconds.clear();
    report.samples.clear();
    report.health.clear();
    report.faults.clear();
    report.classes.clear();
    report.load = None;
    let page = html::render(&report);
    assert!(!page.contains("NaN") && !page.contains("inf"), "a figure is not a number");
}
