//! The values of a statement's parameters, read from the variables of one request.
//!
//! Promises: each value is checked against the column's type before it is sent, so that a wrong one is refused by the name
//! of its argument and not by the database; text with NUL, which PostgreSQL cannot hold, is refused too.

use std::sync::Arc;

use async_graphql::{Pos, Value, Variables};

use super::args::Source;
use super::cursor;
use super::error::Refusal;
use crate::engine::coerce::coerce_scalar;
use crate::engine::encode::PgType;
use crate::engine::schema::model::{Named, Schema};

/// Where a parameter comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// A value for a column.
    Value(Argument),
    /// A list's size; whether one more row is read, to see that there are more.
    Size(usize, bool),
    /// How many rows are left out.
    Offset(Source, Pos),
    /// One key of a cursor.
    Cursor {
        /// The cursor.
        source: Source,
        /// The argument.
        name: Arc<str>,
        /// Where it stands.
        pos: Pos,
        /// What cursors of this order begin with.
        fingerprint: Arc<str>,
        /// Which key.
        part: usize,
    },
    /// Made for the call.
    Given(Given),
}

/// A value for a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Where it comes from.
    pub source: Source,
    /// The argument, or the field of an input, for messages.
    pub name: Arc<str>,
    /// Where it stands.
    pub pos: Pos,
    /// Its type in GraphQL.
    pub named: Named,
    /// The column's type.
    pub pg: PgType,
    /// Whether it is a list for an array.
    pub array: bool,
}

/// What is made for one call of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The caller's idempotency key.
    IdempotencyKey,
    /// SHA-256 of the input without the key.
    InputHash,
    /// The name of the field, by which keys are kept apart.
    Operation,
    /// The event's id.
    EventId,
    /// The event's subject.
    Subject,
    /// The trace that the change belongs to.
    Traceparent,
    /// One key of the row that was changed, as text.
    Key(usize),
}

/// How long a list is.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    /// What the caller says; `None` when the list has no such argument or it was left out.
    pub source: Option<Source>,
    /// The argument.
    pub name: Arc<str>,
    /// Where it stands.
    pub pos: Pos,
    /// When the caller does not say.
    pub default: u32,
    /// At most.
    pub max: u32,
}

/// A value ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text, in the form that the type reads.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Whole numbers.
    Ints(Vec<Option<i64>>),
    /// Texts.
    Texts(Vec<Option<String>>),
}

/// How a parameter is declared: `$1::bigint`, then cast to what the column has.
pub fn wire_type(pg: PgType, array: bool) -> &'static str {
    match (pg, array) {
        (PgType::Bool, false) => "boolean",
        (PgType::Int2 | PgType::Int4 | PgType::Int8, false) => "bigint",
        (PgType::Int2 | PgType::Int4 | PgType::Int8, true) => "bigint[]",
        (PgType::Float4 | PgType::Float8, false) => "double precision",
        (_, true) => "text[]",
        (_, false) => "text",
    }
}

/// Reads a list's length.
///
/// # Errors
/// When it is negative or more than allowed.
pub fn length(size: &Size, variables: &Variables) -> Result<u32, Refusal> {
    let given = size.source.as_ref().map(|source| source.read(variables));
    let (name, max) = (&size.name, size.max);
    match given {
        None | Some(Value::Null) => Ok(size.default),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(n) if (0..=i64::from(max)).contains(&n) => Ok(u32::try_from(n).unwrap_or(max)),
            _ => Err(Refusal::input(size.pos, format!("{name} must be between 0 and {max}, not {number}"))),
        },
        Some(other) => Err(Refusal::input(size.pos, format!("{name} must be a number, not {other}"))),
    }
}

/// Reads how many rows are left out.
///
/// # Errors
/// When it is negative.
pub fn offset(source: &Source, pos: Pos, variables: &Variables) -> Result<i64, Refusal> {
    match source.read(variables) {
        Value::Null => Ok(0),
        Value::Number(number) if number.as_i64().is_some_and(|n| n >= 0) => {
            Ok(number.as_i64().unwrap_or_default())
        }
        other => Err(Refusal::input(pos, format!("offset must be 0 or more, not {other}"))),
    }
}

/// Reads one key of a cursor.
///
/// # Errors
/// When the cursor is none of this order.
pub fn cursor_part(
    source: &Source,
    name: &str,
    pos: Pos,
    fingerprint: &str,
    part: usize,
    variables: &Variables,
) -> Result<Bound, Refusal> {
    let given = source.read(variables);
    let Value::String(text) = &given else {
        return Err(Refusal::input(pos, format!("{name} must be a cursor, not {given}")));
    };
    match cursor::read(text, fingerprint) {
        Some(mut keys) if part < keys.len() => Ok(keys.swap_remove(part).map_or(Bound::Null, Bound::Text)),
        _ => Err(Refusal::input(pos, format!("{name}: this cursor was not made by a list in this order"))),
    }
}

/// Reads a value.
///
/// # Errors
/// When it is not one of the column's type.
pub fn value(schema: &Schema, value: &Argument, variables: &Variables) -> Result<Bound, Refusal> {
    let owned;
    let given = match value.source.peek(variables) {
        Some(given) => given,
        None => {
            owned = value.source.read(variables);
            &owned
        }
    };
    if matches!(value.pg, PgType::Json | PgType::Jsonb) && !value.array {
        return document(value, given);
    }
    if !value.array {
        return one(schema, value, given);
    }
    let items = match given {
        Value::Null => return Ok(Bound::Null),
        Value::List(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    let bound: Vec<Bound> = items.iter().map(|item| one(schema, value, item)).collect::<Result<_, _>>()?;
    if wire_type(value.pg, true) == "bigint[]" {
        let ints = bound.into_iter().map(|item| if let Bound::Int(n) = item { Some(n) } else { None });
        return Ok(Bound::Ints(ints.collect()));
    }
    let texts = bound.into_iter().map(|item| match item {
        Bound::Text(text) => Some(text),
        Bound::Bool(flag) => Some(flag.to_string()),
        Bound::Float(number) => Some(number.to_string()),
        _ => None,
    });
    Ok(Bound::Texts(texts.collect()))
}

fn document(value: &Argument, given: &Value) -> Result<Bound, Refusal> {
    if matches!(given, Value::Null) {
        return Ok(Bound::Null);
    }
    let text = serde_json::to_string(given)
        .map_err(|error| Refusal::input(value.pos, format!("{} is no JSON: {error}", value.name)))?;
    if text.contains("\\u0000") {
        return Err(Refusal::input(
            value.pos,
            format!("{} must not contain the character U+0000", value.name),
        ));
    }
    Ok(Bound::Text(text))
}

fn one(schema: &Schema, value: &Argument, given: &Value) -> Result<Bound, Refusal> {
    let wrong = || {
        let kind = value.pg.name();
        Refusal::input(value.pos, format!("{}: {given} is no {kind}", value.name))
    };
    // Variables were coerced before; what stands in the operation was not.
    if let (Named::Scalar(scalar), false) = (value.named, matches!(value.source, Source::Variable(..)))
        && !matches!(given, Value::Null)
        && coerce_scalar(scalar, given).is_none()
    {
        return Err(wrong());
    }
    let text = match given {
        Value::Null => return Ok(Bound::Null),
        Value::Boolean(flag) if value.pg == PgType::Bool => return Ok(Bound::Bool(*flag)),
        Value::Number(number) => number.to_string(),
        Value::String(text) => match value.named {
            // In JSON a name is a text; coerced variables have names by now, and in an operation a text is none.
            Named::Enum(_) => return Err(wrong()),
            _ => text.clone(),
        },
        Value::Enum(name) => match value.named {
            Named::Enum(id) => enum_text(schema, id, name).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    match value.pg {
        PgType::Int2 => text.parse::<i16>().map(|n| Bound::Int(n.into())).map_err(|_| wrong()),
        PgType::Int4 => text.parse::<i32>().map(|n| Bound::Int(n.into())).map_err(|_| wrong()),
        PgType::Int8 => text.parse::<i64>().map(Bound::Int).map_err(|_| wrong()),
        PgType::Float4 | PgType::Float8 => {
            text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Bound::Float).ok_or_else(wrong)
        }
        PgType::Numeric => {
            if is_decimal(&text) {
                Ok(Bound::Text(text))
            } else {
                Err(wrong())
            }
        }
        PgType::Uuid => uuid_text(&text).map(Bound::Text).ok_or_else(wrong),
        PgType::Bool => Err(wrong()),
        _ if text.contains('\0') => {
            Err(Refusal::input(value.pos, format!("{} must not contain the character U+0000", value.name)))
        }
        _ => Ok(Bound::Text(text)),
    }
}

fn enum_text(schema: &Schema, id: crate::engine::schema::model::EnumId, name: &str) -> Option<String> {
    schema.enumeration(id).values.get(name).map(|value| value.text.clone())
}

/// Digits with a sign, a point and an exponent, all within what numeric takes.
pub fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let some = whole.len() + fraction.len();
    all_digits && some > 0 && some <= 1_000 && exponent.parse::<i16>().is_ok_and(|e| e.abs() <= 1_000)
}

/// The usual form of a UUID; a ULID is one in another alphabet.
fn uuid_text(text: &str) -> Option<String> {
    if text.len() == 26 { ulid(text) } else { uuid::Uuid::try_parse(text).ok() }.map(|uuid| uuid.to_string())
}

/// Whether the text is a ULID.
pub fn is_ulid(text: &str) -> bool {
    text.len() == 26 && ulid(text).is_some()
}

/// Crockford's base 32, <https://github.com/ulid/spec>.
fn ulid(text: &str) -> Option<uuid::Uuid> {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |letter: u8| LETTERS.iter().position(|known| *known == letter.to_ascii_uppercase());
    if !text.starts_with(|first: char| ('0'..='7').contains(&first)) {
        return None;
    }
    text.bytes()
        .try_fold(0u128, |sum, letter| Some((sum << 5) | digit(letter)? as u128))
        .map(uuid::Uuid::from_u128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_digits_with_at_most_one_point_and_exponent() {
        for good in ["0", "-1", "+1.50", ".5", "5.", "1e3", "12345678901234567890.123456789"] {
            assert!(is_decimal(good), "{good}");
        }
        for bad in ["", "-", ".", "1.2.3", "NaN", "Infinity", "0x10", "1e", "1e99999", "1 ", "' OR 1=1 --"] {
            assert!(!is_decimal(bad), "{bad}");
        }
    }

    #[test]
    fn a_ulid_is_a_uuid_in_another_alphabet() {
        let ulid = uuid_text("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("a ULID");
        assert_eq!(ulid, "01563e3a-b5d3-d676-4c61-efb99302bd5b");
        assert_eq!(uuid_text("81ARZ3NDEKTSV4RRFFQ69G5FAV"), None, "more than 128 bits");
        assert_eq!(uuid_text("not a uuid"), None);
    }
}
