//! What came of a request: ok, fail (refused before it was executed) or unknown. Pure.
//!
//! Only codes that the runtime gives before it executes anything count as fail. A timeout, a reset, a 5xx, an answer
//! that cannot be read, or data together with errors leave open what happened. GraphQL errors come with HTTP 200 and are
//! errors all the same.

use chaos::history::Outcome;
use serde_json::Value;

/// Codes after which nothing was done.
pub const REFUSALS: [&str; 16] = [
    "BAD_USER_INPUT",
    "VALIDATION",
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "RATE_LIMITED",
    "CIRCUIT_OPEN",
    "QUEUE_FULL",
    "QUEUE_TIMEOUT",
    "TOO_MANY_CONCURRENT_REQUESTS",
    "POOL_SATURATED",
    "OUT_OF_MEMORY",
    "OVERLOADED",
    "NOT_FOUND",
    "IDEMPOTENCY_CONFLICT",
    "INVALID_TRANSITION",
    "METHOD_NOT_ALLOWED",
];

/// Whether the server said that it does not serve this now, instead of trying.
pub fn is_refusal(code: &str) -> bool {
    const BUSY: [&str; 10] = [
        "503",
        "UNAVAILABLE",
        "CIRCUIT_OPEN",
        "RATE_LIMITED",
        "QUEUE_FULL",
        "QUEUE_TIMEOUT",
        "TOO_MANY_CONCURRENT_REQUESTS",
        "POOL_SATURATED",
        "OUT_OF_MEMORY",
        "OVERLOADED",
    ];
    BUSY.contains(&code.strip_suffix(WITHOUT_RETRY_AFTER).unwrap_or(code))
}

/// Follows the code of a 429 that does not say when to come back.
pub const WITHOUT_RETRY_AFTER: &str = " without Retry-After";

/// How a request ended, before it is judged.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The whole body arrived.
    Http { status: u16, retry_after: bool, body: Vec<u8> },
    /// No whole answer: `timeout`, `connect`, `reset`, `transport`, `cancelled`.
    None(&'static str),
}

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    pub outcome: Outcome,
    pub code: String,
    /// `data` of a GraphQL answer that is ok, else null.
    pub data: Value,
}

impl Classified {
    fn new(outcome: Outcome, code: impl Into<String>) -> Self {
        Classified { outcome, code: code.into(), data: Value::Null }
    }
}

/// Judges the answer to a GraphQL request with one field.
pub fn graphql(answer: &Answer) -> Classified {
    let (status, retry_after, body) = match answer {
        Answer::None(why) => return Classified::new(Outcome::Unknown, *why),
        Answer::Http { status, retry_after, body } => (*status, *retry_after, body),
    };
    if status == 429 {
        return limited(retry_after, body);
    }
    let parsed = serde_json::from_slice::<Value>(body);
    let success = (200..300).contains(&status);
    let Ok(mut parsed) = parsed else {
        let code = if success { "unparsable".into() } else { status.to_string() };
        return Classified::new(Outcome::Unknown, code);
    };
    let codes = error_codes(&parsed);
    match codes.first() {
        None if success && parsed.get("data").is_some_and(Value::is_object) => Classified {
            outcome: Outcome::Ok,
            code: status.to_string(),
            data: parsed.get_mut("data").map(Value::take).unwrap_or_default(),
        },
        None if success => Classified::new(Outcome::Unknown, "unparsable"),
        None => Classified::new(Outcome::Unknown, status.to_string()),
        Some(first) => {
            let refused = codes.iter().all(|code| REFUSALS.contains(&code.as_str())) && !has_data(&parsed);
            let outcome = if refused { Outcome::Fail } else { Outcome::Unknown };
            Classified::new(outcome, first.clone())
        }
    }
}

/// Judges the answer to a plain request; `expect` is the wanted status, any 2xx without it.
pub fn plain(answer: &Answer, expect: Option<u16>) -> Classified {
    match answer {
        Answer::None(why) => Classified::new(Outcome::Unknown, *why),
        Answer::Http { status, .. } if expect.map_or((200..300).contains(status), |want| want == *status) => {
            Classified::new(Outcome::Ok, status.to_string())
        }
        Answer::Http { status: 429, retry_after, body } => limited(*retry_after, body),
        Answer::Http { status, .. } => Classified::new(Outcome::Unknown, status.to_string()),
    }
}

/// Judges the answer to a delivery: what is taken is ok, unless the server says in the same breath that it does nothing.
pub fn webhook(answer: &Answer) -> Classified {
    let found = plain(answer, None);
    let (Outcome::Ok, Answer::Http { body, .. }) = (found.outcome, answer) else { return found };
    let data: Value = serde_json::from_slice(body).unwrap_or_default();
    match data.get("state").and_then(Value::as_str) {
        Some("done" | "waiting") => Classified { data, ..found },
        Some(state) => Classified::new(Outcome::Unknown, state),
        None => Classified::new(Outcome::Unknown, "unparsable"),
    }
}

/// By the code of a refusal that the body has, else as of a limiter. Either must say when to come back; one that does not is
/// told apart by its code.
fn limited(retry_after: bool, body: &[u8]) -> Classified {
    let codes = serde_json::from_slice(body).map(|parsed| error_codes(&parsed)).unwrap_or_default();
    let code = codes.into_iter().find(|code| is_refusal(code)).unwrap_or_else(|| "RATE_LIMITED".to_owned());
    let suffix = if retry_after { "" } else { WITHOUT_RETRY_AFTER };
    Classified::new(Outcome::Fail, code + suffix)
}

/// Every error's `extensions.code`, `graphql` for one that has none. An answer that no operation made, of a limit or a
/// route that is missing, is `{"error":{"code":…}}` instead.
fn error_codes(answer: &Value) -> Vec<String> {
    if let Some(code) = answer.pointer("/error/code").and_then(Value::as_str) {
        return vec![code.to_owned()];
    }
    let errors = answer.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    errors
        .iter()
        .map(|error| {
            error.pointer("/extensions/code").and_then(Value::as_str).unwrap_or("graphql").to_string()
        })
        .collect()
}

/// True when some field has a value although there are errors.
fn has_data(answer: &Value) -> bool {
    answer
        .get("data")
        .and_then(Value::as_object)
        .is_some_and(|fields| fields.values().any(|value| !value.is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, body: &str) -> Answer {
        Answer::Http { status, retry_after: true, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn graphql_answers_are_ok_fail_or_unknown() {
        use Outcome::{Fail, Ok, Unknown};
        let coded =
            |code: &str| format!(r#"{{"data":null,"errors":[{{"extensions":{{"code":"{code}"}}}}]}}"#);
        let two = r#"{"errors":[{"extensions":{"code":"VALIDATION"}},{"extensions":{"code":"INTERNAL"}}]}"#;
        let partial = r#"{"data":{"a":1},"errors":[{"extensions":{"code":"VALIDATION"}}]}"#;
        let over = coded("OVERLOADED");
        let mut table = vec![
            (http(200, r#"{"data":{"order":null}}"#), Ok, "200"),
            (http(200, r#"{"data":{"order":null},"errors":[]}"#), Ok, "200"),
            (http(200, r#"{"errors":[{"message":"x"}]}"#), Unknown, "graphql"),
            (http(200, &coded("INTERNAL")), Unknown, "INTERNAL"),
            (http(200, &coded("TIMEOUT")), Unknown, "TIMEOUT"),
            (http(200, &coded("UNAVAILABLE")), Unknown, "UNAVAILABLE"),
            (http(503, &coded("CIRCUIT_OPEN")), Fail, "CIRCUIT_OPEN"),
            (http(200, two), Unknown, "VALIDATION"),
            (http(200, partial), Unknown, "VALIDATION"),
            (http(200, "{}"), Unknown, "unparsable"),
            (http(200, "<html>"), Unknown, "unparsable"),
            (http(200, r#"{"data":null}"#), Unknown, "unparsable"),
            (http(500, "oops"), Unknown, "500"),
            (http(503, "{}"), Unknown, "503"),
            (http(400, r#"{"error":{"code":"BAD_USER_INPUT","message":"x"}}"#), Fail, "BAD_USER_INPUT"),
            (http(404, r#"{"error":{"code":"NOT_FOUND","message":"x"}}"#), Fail, "NOT_FOUND"),
            (http(503, r#"{"error":{"code":"TIMEOUT","message":"x"}}"#), Unknown, "TIMEOUT"),
            (http(500, r#"{"error":{"code":"INTERNAL","message":"x"}}"#), Unknown, "INTERNAL"),
            (http(404, "{}"), Unknown, "404"),
            (http(429, ""), Fail, "RATE_LIMITED"),
            (http(429, r#"{"errors":[{"message":"x"}]}"#), Fail, "RATE_LIMITED"),
            (http(429, &over), Fail, "OVERLOADED"),
            (Answer::None("timeout"), Unknown, "timeout"),
            (Answer::None("reset"), Unknown, "reset"),
        ];
        let refusals: Vec<String> = REFUSALS.iter().map(|code| coded(code)).collect();
        table.extend(refusals.iter().zip(REFUSALS).map(|(body, code)| (http(200, body), Fail, code)));
        for (answer, outcome, code) in table {
            let found = graphql(&answer);
            assert_eq!((found.outcome, found.code.as_str()), (outcome, code), "{answer:?}");
        }
    }

    #[test]
    fn plain_answers_are_judged_by_status() {
        use Outcome::{Fail, Ok, Unknown};
        for (status, expect, outcome) in [
            (200, None, Ok),
            (204, None, Ok),
            (302, None, Unknown),
            (302, Some(302), Ok),
            (200, Some(201), Unknown),
            (429, None, Fail),
            (429, Some(429), Ok),
            (500, None, Unknown),
        ] {
            assert_eq!(plain(&http(status, ""), expect).outcome, outcome, "{status} expecting {expect:?}");
        }
    }

    #[test]
    fn a_delivery_is_ok_when_it_is_taken_and_acted_upon() {
        use Outcome::{Fail, Ok, Unknown};
        for (status, body, outcome, code) in [
            (200, r#"{"id":"e","state":"done"}"#, Ok, "200"),
            (202, r#"{"id":"e","state":"waiting"}"#, Ok, "202"),
            (200, r#"{"id":"e","state":"dead"}"#, Unknown, "dead"),
            (200, r#"{"id":"e","state":"ignored"}"#, Unknown, "ignored"),
            (200, "", Unknown, "unparsable"),
            (400, r#"{"error":{"code":"SIGNATURE_INVALID"}}"#, Unknown, "400"),
            (429, r#"{"error":{"code":"OVERLOADED"}}"#, Fail, "OVERLOADED without Retry-After"),
            (503, r#"{"error":{"code":"UNAVAILABLE"}}"#, Unknown, "503"),
        ] {
            let answer = Answer::Http { status, retry_after: false, body: body.into() };
            let found = webhook(&answer);
            assert_eq!((found.outcome, found.code.as_str()), (outcome, code), "{answer:?}");
        }
    }

    #[test]
    fn a_limiter_that_does_not_say_when_to_come_back_is_told_apart() {
        let answer = Answer::Http { status: 429, retry_after: false, body: vec![] };
        assert_eq!(plain(&answer, None).code, "RATE_LIMITED without Retry-After");
        assert!(is_refusal(&plain(&answer, None).code));
    }
}
