//! The shipped scenarios are sound, and what is wrong with a file is told with its place and a way out.

use std::path::{Path, PathBuf};

use harness::scenario::file;

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/chaos");
    let entries = std::fs::read_dir(&folder).expect("scenarios/chaos");
    let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

#[test]
fn every_shipped_scenario_is_sound() {
    let files = shipped();
    assert!(files.len() >= 4, "found only {files:?}");
    for path in files {
        if let Err(error) = file::load(&path) {
            panic!("{error}");
        }
    }
}

/// A sound file with one text replaced, and what the lint says to it.
fn golden(from: &str, to: &str) -> String {
    let sound = include_str!("../../scenarios/chaos/redis-refused.toml");
    assert!(sound.contains(from), "the sound file does not contain {from:?}");
    let broken = sound.replacen(from, to, 1);
    let found = file::parse(&broken, "redis-refused").expect_err("has to be refused");
    found.iter().map(|d| d.render("redis-refused.toml", &broken)).collect::<Vec<_>>().join("\n")
}

macro_rules! refuses {
    ($($name:ident: $from:expr => $to:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(golden($from, $to));
        }
    )*};
}

refuses! {
    an_unknown_key: "seed   = 7" => "sede   = 7";
    an_unknown_fault_kind: "inject.refuse = { existing" => "inject.refues = { existing";
    a_fault_with_values_that_do_nothing: "inject.refuse = { existing = \"reset\" }" => "inject.flap = { up = \"1s\", down = \"0s\" }";
    a_duration_without_a_unit: "stop  = { lasts = \"15s\" }" => "stop  = { lasts = \"15\" }";
    text_that_is_not_toml: "seed   = 7" => "seed   = ";
    another_schema: "scenario/v1" => "scenario/v2";
    an_id_that_is_not_the_file_name: "id     = \"redis-refused\"" => "id     = \"redis-gone\"";
    an_unknown_target: "on    = \"redis\"" => "on    = \"reddis\"";
    a_link_fault_on_the_runtime: "on    = \"redis\"" => "on    = \"runtime\"";
    an_unknown_invariant: "one-order-per-key       = {}" => "one-order-per-kye       = {}";
    an_unknown_metric: "ok_ratio{class=read}" => "okratio{class=read}";
    an_unknown_class: "ok_ratio{class=createOrder}" => "ok_ratio{class=createOrders}";
    a_window_of_an_unknown_fault: "during:redis-refused" => "during:redis-refsued";
    a_fault_that_never_stops: "stop  = { lasts = \"15s\" }" => "";
    a_fault_that_outlives_the_load: "start = { at = \"10s\" }" => "start = { at = \"40s\" }";
    a_fault_after_the_load: "start = { at = \"10s\" }" => "start = { at = \"60s\" }";
    no_time_left_to_recover: "start = { at = \"10s\" }" => "start = { at = \"30s\" }";
    subscribers_that_are_asked_for_and_not_there: "one-order-per-key       = {}" => "event-reaches-subscribers = {}";
    more_subscribers_than_are_kept: "clients = 64" => "clients = 64\nsubscribers = 1000";
    an_invariant_whose_operation_is_never_issued: ", requestInvoice = 2 }" => " }";
    a_budget_that_is_too_short: "budget = \"150s\"" => "budget = \"30s\"";
    evidence_that_asks_for_nothing: "{ min_refused = 1, min_reset = 1 }" => "{}";
    a_check_without_an_operator: "metric = \"p95_ms\",   op = \"<=\", value" => "metric = \"p95_ms\", value";
    a_surge_of_what_is_no_load: "inject.refuse = { existing = \"reset\" }" => "inject.surge = { arrival = \"100/s\" }";
    two_faults_at_once_on_one_target: "[[expect]]" => "[[fault]]\nid = \"again\"\non = \"redis\"\ninject.latency = { delay = \"50ms\" }\nstart = { at = \"12s\" }\nstop = { lasts = \"2s\" }\n\n[[expect]]";
}
