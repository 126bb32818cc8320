//! Operations of the subscription root: which events they want, and what is answered to each.
//!
//! Promises: filters look at the event alone, so what nobody wants costs no statement; the answer is one statement an
//! event, with the row as it is then; a database that is away is waited for, for a while, before an event is answered with
//! an error. A subscription keeps the schema that it began with.

use std::time::Duration;

use async_graphql::Value;
use async_graphql::parser::types::OperationType;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::arguments::Call;
use super::error::Failure;
use super::execute::{Done, assemble, render};
use super::plan::{Action, RootPlan, Subscribe};
use super::prepare::Planned;
use super::schema::model::{Named, Schema};
use super::{Answer, Engine, Inner, Request, refused};
use crate::error::{Classify, ErrorKind};
use crate::security::guard::Caller;

/// The payload of an event.
pub type Payload = serde_json::Map<String, Json>;

/// How long an event waits for the database.
const DATABASE_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A subscription that was planned.
pub struct Subscription {
    engine: Engine,
    planned: Planned,
}

impl Engine {
    /// Plans a subscription of this caller; `None` when the operation is another one, which is for [`execute_as`](Self::execute_as).
    ///
    /// # Errors
    /// The answer to a subscription that is refused.
    pub async fn subscribe(
        &self,
        request: &Request,
        caller: &Caller,
    ) -> Result<Option<Subscription>, Answer> {
        let prepared = self.inner.prepare(request).await.map_err(|failures| refused(&failures))?;
        if prepared.kind() != OperationType::Subscription {
            return Ok(None);
        }
        let planned = self.inner.plan(request).await.map_err(|failures| refused(&failures))?;
        self.inner.let_in(&planned.plan, caller).map_err(|failures| refused(&failures))?;
        Ok(Some(Subscription { engine: self.clone(), planned }))
    }
}

impl Subscription {
    fn root(&self) -> Option<(&RootPlan, &Subscribe)> {
        self.planned.plan.roots.iter().find_map(|root| match &root.action {
            Action::Subscribe(subscribe) => Some((root, &**subscribe)),
            _ => None,
        })
    }

    /// The name of the events that it waits for.
    pub fn event(&self) -> &str {
        self.root().map_or("", |(_, subscribe)| &subscribe.event)
    }

    /// Whether the event is one that the caller wants.
    pub fn wants(&self, payload: &Payload) -> bool {
        let schema = self.engine.schema();
        self.root().is_some_and(|(_, subscribe)| {
            subscribe.filter.iter().all(|(key, source, named)| {
                matches(schema, *named, &source.read(&self.planned.variables), payload.get(key))
            })
        })
    }

    /// The answer to an event.
    pub async fn answer(&self, payload: &Payload) -> Answer {
        let Some((root, subscribe)) = self.root() else {
            return refused(&[Failure::of_kind(ErrorKind::Internal, "no event is waited for")]);
        };
        let done = self.engine.inner.told(&self.planned, root, subscribe, payload).await;
        let done =
            done.unwrap_or_else(|failure| Done::failed(failure.at(&root.key, root.pos), root.nullable));
        assemble(&self.planned.plan.roots, vec![done], Vec::new()).answer()
    }
}

impl Inner {
    async fn told(
        &self,
        planned: &Planned,
        root: &RootPlan,
        subscribe: &Subscribe,
        payload: &Payload,
    ) -> Result<Done, Failure> {
        let row_key = subscribe.key.iter().map(|key| payload.get(key).and_then(text)).collect();
        let call = Call { row_key, ..Call::default() };
        let sizes = planned.sizes.first().map(Vec::as_slice).unwrap_or_default();
        let (deadline, mut pause) = (Instant::now() + DATABASE_WITHIN, PAUSE);
        let rows = loop {
            match self.rows(&subscribe.read, sizes, &planned.variables, &call, true).await {
                Ok(rows) => break rows,
                Err(failed) if failed.is_of_a_while() && Instant::now() < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(failed) => return Err(failed.failure(self, false)),
            }
        };
        if rows.is_empty() && !root.nullable {
            return Err(Failure::of_kind(ErrorKind::NotFound, "the row is not there any more"));
        }
        Ok(render(root, &subscribe.answer, &rows, sizes))
    }
}

impl super::execute::Failed {
    /// Whether it may be over soon.
    fn is_of_a_while(&self) -> bool {
        matches!(self, Self::Database(error) if error.kind().is_away())
    }
}

/// Whether the event has what is asked for. Null asks for nothing, a list for one of its items.
fn matches(schema: &Schema, named: Named, wanted: &Value, found: Option<&Json>) -> bool {
    match wanted {
        Value::Null => true,
        Value::List(items) => {
            items.iter().any(|item| *item != Value::Null && matches(schema, named, item, found))
        }
        wanted => found.and_then(text).is_some_and(|found| wanted_text(schema, named, wanted) == found),
    }
}

/// A value as it stands in an event.
fn wanted_text(schema: &Schema, named: Named, wanted: &Value) -> String {
    let name = match wanted {
        Value::Enum(name) => name.as_str(),
        Value::String(text) => text.as_str(),
        other => return other.to_string(),
    };
    match named {
        Named::Enum(id) => {
            let values = &schema.enumeration(id).values;
            values.get(name).map_or(name, |value| value.text.as_str()).to_owned()
        }
        _ => name.to_owned(),
    }
}

/// Texts and numbers are compared by their text: ids are numbers in one event and texts in another.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Null => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::encode::Scalar;

    #[test]
    fn an_event_is_wanted_when_it_has_what_is_asked_for() {
        let schema = Schema::default();
        let wants = |wanted: Json, found: Json| {
            let wanted: Value = serde_json::from_value(wanted).expect("a value");
            matches(&schema, Named::Scalar(Scalar::Id), &wanted, Some(&found))
        };
        assert!(wants(json!(null), json!("anything")));
        assert!(wants(json!("7"), json!(7)) && wants(json!(7), json!("7")));
        assert!(!wants(json!("7"), json!(8)) && !wants(json!("7"), json!(null)));
        assert!(wants(json!(["1", "7"]), json!(7)) && !wants(json!([]), json!(7)));
        assert!(wants(json!(true), json!(true)) && !wants(json!(true), json!(false)));
        assert!(
            !matches(&schema, Named::Scalar(Scalar::Id), &Value::from("7"), None),
            "it says nothing of it"
        );
    }
}
