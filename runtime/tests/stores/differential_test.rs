//! The engine answers what the specification says, on thousands of schemas, rows and operations made of seeds.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::differential::compare::{Cursors, equal, naive_cursor};
use crate::differential::run;
use crate::support::Stage;

/// Schemas, each with rows of its own.
const SCHEMAS: u64 = 30;
/// Operations on each.
const OPERATIONS: u64 = 100;

pub async fn seeds_that_found_a_difference_find_none(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    let lines = include_str!("differential/seeds.txt").lines();
    let seeds =
        lines.map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|seed| !seed.is_empty());
    let report = run(url.as_str(), seeds.map(|seed| seed.parse().expect("a number")), OPERATIONS).await;
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
}

pub async fn the_engine_answers_what_a_naive_executor_does(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    let report = run(url.as_str(), 1..=SCHEMAS, OPERATIONS).await;
    println!("{} cases on {} schemas", report.cases, report.schemas);
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
    assert!(report.cases >= SCHEMAS * OPERATIONS, "{} cases", report.cases);
}

/// That a wrong answer is seen: of each kind one, planted into a right one.
pub async fn every_planted_bug_is_seen(_stage: Arc<Stage>) {
    let cursor = |row| naive_cursor("t/0:false", row);
    let naive = json!({"data": {"a": [{"id": "1", "n": 1.5, "b": null}, {"id": "2", "n": 2, "b": true}],
                                "cursors": [cursor(0), cursor(1), cursor(0)]},
                       "errors": [{"path": ["a", 0, "b"]}]});
    let right = json!({"data": {"a": [{"id": "1", "n": 1.5, "b": null}, {"id": "2", "n": 2.0, "b": true}],
                                "cursors": ["x", "y", "x"]},
                       "errors": [{"path": ["a", 0, "b"]}]});
    equal(&right, &naive, &mut Cursors::default()).expect("the same");
    type Plant = fn(&mut Value);
    let plants: [(&str, Plant); 12] = [
        ("another value", |answer| answer["data"]["a"][0]["id"] = json!("3")),
        ("a number for a text", |answer| answer["data"]["a"][0]["id"] = json!(1)),
        ("another number", |answer| answer["data"]["a"][1]["n"] = json!(2.5)),
        ("a value for null", |answer| answer["data"]["a"][0]["b"] = json!(false)),
        ("null for a value", |answer| answer["data"]["a"][1]["b"] = json!(null)),
        ("a row less", |answer| drop(answer["data"]["a"].as_array_mut().expect("rows").pop())),
        ("rows in another order", |answer| answer["data"]["a"].as_array_mut().expect("rows").reverse()),
        ("fields in another order", |answer| {
            let row = answer["data"]["a"][0].as_object_mut().expect("a row");
            let id = row.shift_remove("id").expect("an id");
            row.insert("id".to_owned(), id);
        }),
        ("a field more", |answer| answer["data"]["a"][0]["c"] = json!(null)),
        ("two rows with one cursor", |answer| answer["data"]["cursors"][1] = json!("x")),
        ("two cursors of one row", |answer| answer["data"]["cursors"][2] = json!("z")),
        ("an error elsewhere", |answer| answer["errors"][0]["path"][1] = json!(1)),
    ];
    for (what, plant) in plants {
        let mut wrong = right.clone();
        plant(&mut wrong);
        equal(&wrong, &naive, &mut Cursors::default()).expect_err(what);
    }
}
