//! The audit of GraphQL over HTTP that the graphql-http project publishes, by its ids, in words and code of our own: each
//! is asked of a served shop. `MUST` and `SHOULD` have to hold; of `MAY` the test says which do.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::http::{Answer, read};
use crate::support::{Front, Shop, Stage};

const OLD: &str = "application/json";
const NEW: &str = "application/graphql-response+json";
const UNKNOWN_FIELD: &str = "{ aFieldThatNobodyHas }";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Must,
    Should,
    May,
}

use Level::{May, Must, Should};

/// What came of each audit.
struct Audit<'a> {
    front: &'a Front,
    found: Vec<(String, Level, Result<(), String>)>,
}

impl Audit<'_> {
    fn note(&mut self, id: impl Into<String>, level: Level, answer: &Answer, holds: bool) {
        let result = if holds { Ok(()) } else { Err(format!("{answer:?}")) };
        self.found.push((id.into(), level, result));
    }

    /// A POST of JSON without a wish for the answer.
    async fn post(&self, body: &Value) -> Answer {
        read(self.front.client.post(self.front.url()).json(body)).await
    }

    /// A POST of these bytes as JSON.
    async fn post_raw(&self, body: &'static str) -> Answer {
        let request = self.front.client.post(self.front.url()).header("content-type", OLD);
        read(request.body(body)).await
    }

    async fn get(&self, accept: Option<&str>, parameters: &[(&str, &str)]) -> Answer {
        let url = url::Url::parse_with_params(&self.front.url(), parameters).expect("a URL");
        let request = self.front.client.get(url);
        read(match accept {
            Some(accept) => request.header("accept", accept),
            None => request,
        })
        .await
    }
}

fn fine(answer: &Answer) -> bool {
    answer.status == 200 && answer.body["data"].is_object() && answer.body.get("errors").is_none()
}

pub async fn every_must_and_should_of_graphql_over_http_holds(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let front = Front::of(&shop).await;
    let mut audit = Audit { front: &front, found: Vec::new() };
    media_types(&mut audit).await;
    requests(&mut audit).await;
    parameters(&mut audit).await;
    failures(&mut audit).await;

    let mut tally: BTreeMap<Level, (usize, usize)> = BTreeMap::new();
    for (id, level, result) in &audit.found {
        let entry = tally.entry(*level).or_default();
        entry.1 += 1;
        match result {
            Ok(()) => entry.0 += 1,
            Err(seen) => eprintln!("{id} ({level:?}) does not hold: {seen}"),
        }
    }
    for (level, (hold, all)) in &tally {
        println!("GraphQL over HTTP: {hold} of {all} {level:?}");
    }
    let mut ids: Vec<&String> = audit.found.iter().map(|(id, ..)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), audit.found.len(), "an audit was asked twice");
    assert_eq!(tally, BTreeMap::from([(Must, (13, 13)), (Should, (20, 20)), (May, (27, 27))]));
    front.ended().await;
    shop.close().await;
}

async fn media_types(audit: &mut Audit<'_>) {
    let plain = json!({"query": "{ __typename }"});
    let is = |answer: &Answer, media: &str| answer.status == 200 && answer.content_type.contains(media);
    let answer = audit.front.post(NEW, &plain).await;
    audit.note("22EB", Should, &answer, is(&answer, NEW));
    let answer = audit.front.post(OLD, &plain).await;
    audit.note("4655", Must, &answer, is(&answer, OLD));
    let answer = audit.front.post("*/*", &plain).await;
    audit.note("47DE", Should, &answer, is(&answer, OLD));
    let (head, body) = without_accept(audit.front, &plain.to_string()).await;
    let holds = head.starts_with("http/1.1 200 ") && head.contains("\r\ncontent-type: application/json");
    let answer = Answer { status: 200, content_type: head, body: Value::from(body) };
    audit.note("80D8", Should, &answer, holds);
    let answer = audit.post(&plain).await;
    // Reading it as UTF-8 would have failed.
    audit.note("82A3", Must, &answer, answer.status == 200);
    let runners = json!({"query": "{ __type(name: \"Run\u{1F3C3}Swim\u{1F3CA}\") { name } }"});
    let request = audit.front.client.post(audit.front.url());
    let request = request.header("content-type", "application/json; charset=utf-8").body(runners.to_string());
    let answer = read(request).await;
    audit.note("BF61", Must, &answer, answer.status == 200);
    let answer = audit.post(&runners).await;
    audit.note("78D5", Must, &answer, answer.status == 200);
}

async fn requests(audit: &mut Audit<'_>) {
    let plain = json!({"query": "{ __typename }"});
    let answer = audit.post(&plain).await;
    audit.note("2C94", Must, &answer, answer.status == 200);
    audit.note("03D4", Must, &answer, fine(&answer));
    let answer = audit.get(None, &[("query", "{ __typename }")]).await;
    audit.note("5A70", May, &answer, fine(&answer));
    let answer = audit.get(Some(NEW), &[("query", "mutation { __typename }")]).await;
    audit.note("9C48", May, &answer, (400..500).contains(&answer.status));
    let answer = read(audit.front.client.post(audit.front.url())).await;
    audit.note("9ABE", May, &answer, (400..500).contains(&answer.status));
    let answer = audit.post_raw("").await;
    audit.note("A5BF", May, &answer, answer.status == 400);
}

async fn parameters(audit: &mut Audit<'_>) {
    let answer = audit.front.post(NEW, &json!({"notquery": "{ __typename }"})).await;
    audit.note("423L", May, &answer, answer.status == 400);
    let not_text = [json!({"obj": "ect"}), json!(0), json!(false), json!(["array"])];
    let not_map = [json!("string"), json!(0), json!(false), json!(["array"])];
    for (ids, name, wrong) in [
        ("LKJ", "query", &not_text),
        ("6C0", "operationName", &not_text),
        ("476", "variables", &not_map),
        ("58B", "extensions", &not_map),
    ] {
        for (at, value) in wrong.iter().enumerate() {
            let mut body = json!({"query": "{ __typename }"});
            body[name] = value.clone();
            let answer = audit.post(&body).await;
            audit.note(format!("{ids}{at}"), May, &answer, answer.status == 400);
        }
    }
    let typed = "query Type($name: String!) { __type(name: $name) { name } }";
    let cases = [
        ("34A2", "13EE", json!({"query": "{ __typename }"})),
        ("8161", "B8B3", json!({"query": "query Query { __typename }", "operationName": "Query"})),
        ("94B0", "0220", json!({"query": "{ __typename }", "variables": null})),
        ("94B1", "0221", json!({"query": "{ __typename }", "operationName": null})),
        ("94B2", "0222", json!({"query": "{ __typename }", "extensions": null})),
        ("2EA1", "28B9", json!({"query": typed, "variables": {"name": "sometype"}})),
        ("428F", "1B7A", json!({"query": "{ __typename }", "extensions": {"some": "value"}})),
    ];
    for (should, must, body) in cases {
        let answer = audit.front.post(NEW, &body).await;
        audit.note(should, Should, &answer, fine(&answer));
        let answer = audit.front.post(OLD, &body).await;
        audit.note(must, Must, &answer, fine(&answer));
    }
    for (id, media) in [("D6D5", NEW), ("6A70", OLD)] {
        let answer =
            audit.get(Some(media), &[("query", typed), ("variables", r#"{"name":"sometype"}"#)]).await;
        audit.note(id, May, &answer, fine(&answer));
    }
}

async fn failures(audit: &mut Audit<'_>) {
    let answer = audit.post_raw("{ \"not a JSON").await;
    audit.note("B6DC", May, &answer, (400..600).contains(&answer.status));
    audit.note("BCF8", May, &answer, answer.status == 400);
    let answer = audit.post(&json!({"qeury": "{ __typename }"})).await;
    audit.note("8764", May, &answer, (400..600).contains(&answer.status));
    audit.note("3E3A", May, &answer, answer.status == 400);

    let syntax = json!({"query": "{"});
    let invalid = json!({"query": UNKNOWN_FIELD});
    let coercion =
        json!({"query": "query CoerceFailure($id: ID!) { __typename }", "variables": {"id": null}});
    let told = |answer: &Answer| answer.body["errors"].as_array().is_some_and(|errors| !errors.is_empty());
    for (id, body) in [("572B", &syntax), ("FDE2", &invalid), ("7B9B", &coercion)] {
        let answer = audit.front.post(OLD, body).await;
        audit.note(id, Should, &answer, answer.status == 200 && told(&answer));
    }
    for (ids, body) in [(["865D", "556A", "D586"], &syntax), (["51FE", "74FF", "5E5B"], &invalid)] {
        let answer = audit.front.post(NEW, body).await;
        audit.note(ids[0], Should, &answer, (400..600).contains(&answer.status));
        audit.note(ids[1], Should, &answer, answer.status == 400 && told(&answer));
        audit.note(ids[2], Should, &answer, answer.body.get("data").is_none());
    }
    let answer = audit.front.post(NEW, &coercion).await;
    audit.note("86EE", Should, &answer, answer.status == 400 && told(&answer));
}

/// A POST by hand: the client library always says what it accepts. Answers head, in lower case, and body.
async fn without_accept(front: &Front, body: &str) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(front.address).await.expect("connects");
    let length = body.len();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    (head.to_ascii_lowercase(), body.to_owned())
}
