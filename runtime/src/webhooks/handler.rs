//! From an event to a mutation, and what its answer says of the event. Pure.

use std::time::Duration;

use async_graphql::Variables;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::event::Event;
use crate::config::webhooks::{EVENT_KEY, Handler};
use crate::engine::{Answer, Request, Stage};

/// What a handler came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// There is nothing to do.
    Ignored(String),
    /// It was not done, or nobody knows; it may be done later.
    Failed {
        /// Why not.
        reason: String,
        /// When it may be.
        retry_after: Option<Duration>,
    },
    /// It was refused, and would be again.
    Refused(String),
}

/// The request of this handler for this event, or what the event lacks.
pub fn request(handler: &Handler, event: &Event) -> Result<Request, String> {
    let mut variables = Map::new();
    for (name, source) in &handler.variables {
        let value = if source == EVENT_KEY {
            // The id is made of the key, has always the same form, and is no longer than keys may be.
            Value::String(event.id.to_string())
        } else {
            match event.payload.pointer(source) {
                None | Some(Value::Null) => return Err(format!("the event has nothing at {source}")),
                Some(value) => value.clone(),
            }
        };
        variables.insert(name.clone(), value);
    }
    let variables = Variables::from_json(Value::Object(variables));
    Ok(Request { query: handler.mutation.clone(), operation_name: None, variables })
}

/// What an answer says.
pub fn outcome(answer: &Answer) -> Outcome {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        message: String,
        #[serde(default)]
        extensions: Extensions,
    }
    #[derive(Deserialize, Default)]
    struct Extensions {
        #[serde(default)]
        code: String,
    }
    let errors = match serde_json::from_slice::<Body>(&answer.body) {
        Ok(body) => body.errors,
        Err(error) => {
            return Outcome::Failed { reason: format!("an answer of no form: {error}"), retry_after: None };
        }
    };
    let reasons: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", error.extensions.code, error.message)).collect();
    let reason = reasons.join("; ");
    // A schema that does not take the mutation is no fault of the event, and may be another soon.
    let unfit = errors.iter().any(|error| error.extensions.code == "VALIDATION");
    match (errors.is_empty(), answer.failed || unfit, answer.stage) {
        (true, false, Stage::Executed) => Outcome::Done,
        (_, true, _) => Outcome::Failed { reason, retry_after: answer.retry_after },
        _ => Outcome::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::webhooks::Provider;
    use crate::webhooks::event;

    fn paid(body: &str) -> Event {
        event::read("shop", Provider::Stripe, body, None).expect("an event")
    }

    fn handler() -> Handler {
        let text = "event = 'paid'\nmutation = 'mutation($id: ID!, $key: String) { pay(id: $id, key: $key) { id } }'\n\
                    variables = { id = '/data/object/metadata/order_id', key = 'event_key' }";
        toml::from_str(text).expect("a handler")
    }

    #[test]
    fn variables_are_where_the_pointers_lead() {
        let event = paid(r#"{"id":"e","type":"paid","data":{"object":{"metadata":{"order_id":"7"}}}}"#);
        let request = request(&handler(), &event).expect("all are there");
        let variables = serde_json::to_value(&request.variables).expect("JSON");
        assert_eq!(variables, serde_json::json!({ "id": "7", "key": event.id.to_string() }));
    }

    #[test]
    fn an_event_without_what_is_asked_for_is_none_of_ours() {
        for body in [
            r#"{"type":"paid","data":{"object":{"id":"pi_123"}}}"#,
            r#"{"type":"paid","data":{"object":{"metadata":{"order_id":null}}}}"#,
        ] {
            let lacks = request(&handler(), &paid(body)).expect_err("it has no order");
            assert_eq!(lacks, "the event has nothing at /data/object/metadata/order_id");
        }
    }

    #[test]
    fn only_what_is_ours_is_tried_again() {
        let answer = |body: &str, stage, failed: bool| {
            let retry_after = failed.then_some(Duration::from_secs(2));
            outcome(&Answer { body: body.as_bytes().to_vec(), stage, failed, retry_after })
        };
        const ERROR: &str = r#"{"data":null,"errors":[{"message":"no","extensions":{"code":"C"}}]}"#;
        assert_eq!(answer(r#"{"data":{}}"#, Stage::Executed, false), Outcome::Done);
        let refused = Outcome::Refused("C: no".to_owned());
        assert_eq!(answer(ERROR, Stage::Executed, false), refused);
        assert_eq!(answer(ERROR, Stage::Forbidden, false), refused);
        let retry_after = Some(Duration::from_secs(2));
        let failed = Outcome::Failed { reason: "C: no".to_owned(), retry_after };
        assert_eq!(answer(ERROR, Stage::Executed, true), failed);
        let unfit = ERROR.replace("\"C\"", "\"VALIDATION\"");
        assert!(matches!(answer(&unfit, Stage::Refused, false), Outcome::Failed { .. }));
        assert!(matches!(answer("{", Stage::Executed, false), Outcome::Failed { .. }));
    }
}
