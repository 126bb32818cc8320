//! How an error of an operation looks in the answer: the message for the caller, a code, the place, the path.
//!
//! What happened inside goes to the log; nothing of SQL, addresses or rows is in a message.

use std::time::Duration;

use async_graphql::{Pos, ServerError};
use serde_json::{Map, Value, json};

use super::plan::error::Refusal;
use super::render::{FieldError, Step};
use super::schema::model::Schema;
use crate::error::{Classify, ErrorKind, chain};
use crate::resilience::dependency::Refused;
use crate::storage::postgres;

/// An error in an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// For the caller.
    pub message: String,
    /// `extensions.code`.
    pub code: Box<str>,
    /// `extensions.field`: the input that is wrong.
    pub field: Option<Box<str>>,
    /// Where in the operation.
    pub locations: Vec<Pos>,
    /// Where in the answer.
    pub path: Vec<Step>,
    /// Whether it is our fault and not the caller's.
    pub ours: bool,
    /// Nothing was done, since a dependency is not asked now; in how many milliseconds it may be.
    pub retry_after_ms: Option<u32>,
}

/// In a failure's own unit: those are passed on in many hands, and are small.
fn millis(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

impl Failure {
    /// A failure of the caller's making.
    pub fn refusal(refusal: &Refusal) -> Self {
        let locations = if refusal.pos.line > 0 { vec![refusal.pos] } else { Vec::new() };
        Self {
            message: refusal.message.clone(),
            code: refusal.code.into(),
            field: None,
            locations,
            path: Vec::new(),
            ours: false,
            retry_after_ms: None,
        }
    }

    /// An error of the GraphQL layer: syntax, unknown fields, wrong types.
    pub fn validation(error: &ServerError) -> Self {
        Self {
            message: error.message.clone(),
            code: "VALIDATION".into(),
            field: None,
            locations: error.locations.clone(),
            path: Vec::new(),
            ours: false,
            retry_after_ms: None,
        }
    }

    /// A failure with a kind.
    pub fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: kind.code().into(),
            field: None,
            locations: Vec::new(),
            path: Vec::new(),
            ours: !kind.is_refusal(),
            retry_after_ms: None,
        }
    }

    /// A value that could not be written.
    pub fn field(error: FieldError) -> Self {
        let path = error.path;
        Self { path, ..Self::of_kind(ErrorKind::Internal, error.message) }
    }

    /// At this root field.
    pub fn at(mut self, key: &str, pos: Pos) -> Self {
        self.path.insert(0, Step::Key(key.to_owned()));
        if self.locations.is_empty() && pos.line > 0 {
            self.locations.push(pos);
        }
        self
    }

    /// As it stands in the answer.
    pub fn json(&self) -> Value {
        let mut error = Map::new();
        error.insert("message".to_owned(), json!(self.message));
        if !self.locations.is_empty() {
            let places = self.locations.iter().map(|pos| json!({"line": pos.line, "column": pos.column}));
            error.insert("locations".to_owned(), places.collect());
        }
        if !self.path.is_empty() {
            let steps = self.path.iter().map(|step| match step {
                Step::Key(key) => json!(key),
                Step::Item(item) => json!(item),
            });
            error.insert("path".to_owned(), steps.collect());
        }
        let mut extensions = Map::new();
        extensions.insert("code".to_owned(), json!(self.code));
        if let Some(field) = &self.field {
            extensions.insert("field".to_owned(), json!(field));
        }
        error.insert("extensions".to_owned(), Value::Object(extensions));
        Value::Object(error)
    }
}

/// What an error of the database is to the caller. `wrote`: the call it belongs to may have changed something.
pub fn of_database(schema: &Schema, error: &postgres::Error, wrote: bool) -> Failure {
    if let Some(failure) = of_constraint(schema, error) {
        tracing::debug!(error = %chain(error), code = failure.code, "operation refused");
        return failure;
    }
    if let (postgres::Error::Refused(Refused::Open(open)), false) = (error, wrote) {
        tracing::debug!(error = %chain(error), "operation refused");
        let failure = Failure::of_kind(ErrorKind::CircuitBreakerOpen, open.to_string());
        return Failure { retry_after_ms: Some(millis(open.retry_after)), ..failure };
    }
    // Of a call with several steps some were done before this one was refused.
    let kind =
        if error.kind() == ErrorKind::CircuitBreakerOpen { ErrorKind::Unavailable } else { error.kind() };
    let may = if wrote { "; it may have been done" } else { "" };
    let message = match kind {
        ErrorKind::Timeout => format!("no answer in time{may}"),
        ErrorKind::Unavailable | ErrorKind::DatabaseBusy => format!("not available now{may}"),
        _ => format!("something went wrong on our side{may}"),
    };
    match kind {
        ErrorKind::Internal => tracing::error!(error = %chain(error), "operation failed"),
        kind => tracing::warn!(error = %chain(error), kind = kind.label(), "operation failed"),
    }
    Failure::of_kind(kind, message)
}

/// The violation of a constraint that the schema gives a meaning, or a wrong value; nothing was changed.
fn of_constraint(schema: &Schema, error: &postgres::Error) -> Option<Failure> {
    let violation = error.violation()?;
    let names = [violation.constraint.clone(), violation.column.clone()];
    let meaning = names.iter().flatten().find_map(|name| schema.constraints.get(name));
    let (code, message, field) = match meaning {
        // What a function says is written for the caller.
        Some(meaning) if violation.raised => (meaning.code.clone(), violation.message, meaning.field.clone()),
        Some(meaning) => (meaning.code.clone(), meaning.message.clone(), meaning.field.clone()),
        // What stands in a table that the schema does not show is not the caller's doing.
        None if violation.table.as_ref().is_some_and(|table| !is_shown(schema, table)) => return None,
        None => {
            let message = match violation.code.as_str() {
                "23505" => "there is a row with this key already",
                "23503" => "a row that is referred to does not exist, or is still referred to",
                "23502" => "a value that must be given is missing",
                "23514" => "a value is not allowed",
                "22001" => "a text is too long",
                "22003" => "a number is out of range",
                code if code.starts_with("22") => "a value does not have the form of its type",
                _ => return None,
            };
            let column = violation.column.as_deref().and_then(|column| column.split_once('.'));
            ("BAD_USER_INPUT".to_owned(), message.to_owned(), column.map(|(_, column)| column.to_owned()))
        }
    };
    Some(Failure {
        field: field.map(Into::into),
        code: code.into(),
        ..Failure::of_kind(ErrorKind::BadInput, message)
    })
}

fn is_shown(schema: &Schema, table: &str) -> bool {
    schema.objects.iter().any(|object| object.table.name == table)
}
