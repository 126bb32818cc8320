//! The parameters of a statement as sqlx sends them.

use async_graphql::Variables;
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;

use super::plan::Statement;
use super::plan::bind::{self, Bound, Given, Param};
use super::plan::error::Refusal;
use super::schema::model::Schema;

/// What is made for one call of a change.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// What the key stands for.
    pub input_hash: Vec<u8>,
    /// The name of the field.
    pub operation: String,
    /// The event's id.
    pub event_id: String,
    /// The event's subject.
    pub subject: String,
    /// The trace that the change belongs to.
    pub traceparent: Option<String>,
    /// Keys of the changed row, as text.
    pub row_key: Vec<Option<String>>,
}

/// The lengths of a statement's lists.
///
/// # Errors
/// When a caller asks for more than allowed.
pub fn sizes(statement: &Statement, variables: &Variables) -> Result<Vec<u32>, Refusal> {
    statement.sizes.iter().map(|size| bind::length(size, variables)).collect()
}

/// The values of a statement's parameters.
///
/// # Errors
/// When a value is not one of its column's type.
pub fn bind(
    schema: &Schema,
    statement: &Statement,
    sizes: &[u32],
    variables: &Variables,
    call: &Call,
) -> Result<Vec<Bound>, Refusal> {
    statement.params.iter().map(|param| bind_one(schema, param, sizes, variables, call)).collect()
}

fn bind_one(
    schema: &Schema,
    param: &Param,
    sizes: &[u32],
    variables: &Variables,
    call: &Call,
) -> Result<Bound, Refusal> {
    match param {
        Param::Value(value) => bind::value(schema, value, variables),
        Param::Size(at, one_more) => {
            let size = sizes.get(*at).copied().unwrap_or_default();
            Ok(Bound::Int(i64::from(size) + i64::from(*one_more)))
        }
        Param::Offset(source, pos) => bind::offset(source, *pos, variables).map(Bound::Int),
        Param::Cursor { source, name, pos, fingerprint, part } => {
            bind::cursor_part(source, name, *pos, fingerprint, *part, variables)
        }
        Param::Given(given) => Ok(match given {
            Given::IdempotencyKey => call.key.clone().map_or(Bound::Null, Bound::Text),
            Given::InputHash => Bound::Bytes(call.input_hash.clone()),
            Given::Operation => Bound::Text(call.operation.clone()),
            Given::EventId => Bound::Text(call.event_id.clone()),
            Given::Subject => Bound::Text(call.subject.clone()),
            Given::Traceparent => call.traceparent.clone().map_or(Bound::Null, Bound::Text),
            Given::Key(part) => call.row_key.get(*part).cloned().flatten().map_or(Bound::Null, Bound::Text),
        }),
    }
}

/// Encodes values for one execution.
///
/// # Errors
/// When a value is too large for the protocol.
pub fn encode(statement: &Statement, values: &[Bound]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for (value, param) in values.iter().zip(&statement.params) {
        let added = match value {
            Bound::Null => add_null(&mut arguments, param),
            Bound::Bool(flag) => arguments.add(*flag),
            Bound::Int(number) => arguments.add(*number),
            Bound::Float(number) => arguments.add(*number),
            Bound::Text(text) => arguments.add(text.as_str()),
            Bound::Bytes(bytes) => arguments.add(bytes.as_slice()),
            Bound::Ints(numbers) => arguments.add(numbers.as_slice()),
            Bound::Texts(texts) => arguments.add(texts.as_slice()),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Null of the type that the parameter is declared with, so that one prepared statement serves it.
fn add_null(arguments: &mut PgArguments, param: &Param) -> Result<(), sqlx::error::BoxDynError> {
    let wire = match param {
        Param::Value(value) => bind::wire_type(value.pg, value.array),
        Param::Size(..) | Param::Offset(..) => "bigint",
        Param::Cursor { .. } | Param::Given(_) => "text",
    };
    match wire {
        "boolean" => arguments.add(None::<bool>),
        "bigint" => arguments.add(None::<i64>),
        "double precision" => arguments.add(None::<f64>),
        "bigint[]" => arguments.add(None::<Vec<i64>>),
        "text[]" => arguments.add(None::<Vec<String>>),
        _ => arguments.add(None::<&str>),
    }
}
