//! Variables as the specification coerces them (section 6.1.2): every problem at once, before anything runs.
//!
//! async-graphql's validation looks at the operation and not at the values of variables; so this is ours.

use async_graphql::parser::types::{BaseType, OperationDefinition, Type};
use async_graphql::{Name, Pos, Value, Variables};

use crate::engine::encode::Scalar;
use crate::engine::plan::error::Refusal;
use crate::engine::schema::model::{InputRole, Named, Schema, TypeRef};

/// Problems of one request at most; the rest is not listed.
const PROBLEMS_MAX: usize = 20;

/// The variables of an operation, coerced: those that were not given and have no default are absent.
///
/// # Errors
/// Every variable, and every place in one, that is not what the operation declares.
pub fn variables(
    schema: &Schema,
    operation: &OperationDefinition,
    given: &Variables,
) -> Result<Variables, Vec<Refusal>> {
    let mut coerced = Variables::default();
    let mut problems = Vec::new();
    for definition in &operation.variable_definitions {
        let name = &definition.node.name.node;
        let pos = definition.node.name.pos;
        let Some(ty) = type_ref(schema, &definition.node.var_type.node) else {
            problems.push(Refusal::input(pos, format!("${name} has a type that is not for input")));
            continue;
        };
        // Not `default_value()`, which has null for a variable that may be null: what is not given is no null.
        let default = definition.node.default_value.as_ref().map(|default| &default.node);
        let value = match (given.get(name), default) {
            (Some(value), _) => value,
            (None, Some(default)) => default,
            (None, None) if ty.nullable => continue,
            (None, None) => {
                let declared = &definition.node.var_type.node;
                problems.push(Refusal::input(pos, format!("${name} of the type {declared} was not given")));
                continue;
            }
        };
        let mut coercion = Coercion { schema, pos, problems: &mut problems };
        let value = coercion.value(ty, value, &mut format!("${name}"));
        coerced.insert(name.clone(), value);
    }
    problems.truncate(PROBLEMS_MAX);
    if problems.is_empty() { Ok(coerced) } else { Err(problems) }
}

/// The type of a variable.
pub fn type_ref(schema: &Schema, ty: &Type) -> Option<TypeRef> {
    let (name, list) = match &ty.base {
        BaseType::Named(name) => (name, None),
        BaseType::List(inner) => match &inner.base {
            BaseType::Named(name) => (name, Some(inner.nullable)),
            BaseType::List(_) => return None,
        },
    };
    let named = match schema.names.get(name.as_str()) {
        Some(Named::Object(_)) => return None,
        Some(named) => *named,
        None => Named::Scalar(Scalar::from_name(name)?),
    };
    Some(TypeRef { named, list, nullable: ty.nullable })
}

struct Coercion<'a> {
    schema: &'a Schema,
    pos: Pos,
    problems: &'a mut Vec<Refusal>,
}

impl Coercion<'_> {
    fn problem(&mut self, message: String) -> Value {
        if self.problems.len() <= PROBLEMS_MAX {
            self.problems.push(Refusal::input(self.pos, message));
        }
        Value::Null
    }

    fn value(&mut self, ty: TypeRef, value: &Value, path: &mut String) -> Value {
        if matches!(value, Value::Null) {
            return if ty.nullable { Value::Null } else { self.problem(format!("{path} must not be null")) };
        }
        let Some(items_nullable) = ty.list else { return self.one(ty.named, value, path) };
        let item = TypeRef { list: None, nullable: items_nullable, ..ty };
        match value {
            Value::List(items) => {
                let items = items.iter().enumerate().map(|(at, value)| {
                    let end = path.len();
                    path.push_str(&format!(".{at}"));
                    let value = self.value(item, value, path);
                    path.truncate(end);
                    value
                });
                Value::List(items.collect())
            }
            single => Value::List(vec![self.value(item, single, path)]),
        }
    }

    fn one(&mut self, named: Named, value: &Value, path: &mut String) -> Value {
        match named {
            Named::Scalar(scalar) => match coerce_scalar(scalar, value) {
                Some(value) => value,
                None => self.problem(format!("{path}: {} is no {}", shown(value), scalar.name())),
            },
            Named::Enum(id) => {
                let known = self.schema.enumeration(id);
                let word = match value {
                    Value::String(word) => word.as_str(),
                    Value::Enum(word) => word.as_str(),
                    _ => "",
                };
                match known.values.contains_key(word) {
                    true => Value::Enum(Name::new(word)),
                    false => {
                        let values: Vec<&str> = known.values.keys().map(String::as_str).collect();
                        let near = super::schema::source::nearest(word, values.iter().copied());
                        self.problem(format!("{path}: {} is no {}{near}", shown(value), known.name))
                    }
                }
            }
            Named::Input(_) => self.object(named, value, path),
            Named::Object(_) => self.problem(format!("{path} has a type that is not for input")),
        }
    }

    fn object(&mut self, named: Named, value: &Value, path: &mut String) -> Value {
        let Named::Input(id) = named else { return Value::Null };
        let input = self.schema.input(id);
        let Value::Object(given) = value else {
            return self.problem(format!(
                "{path}: {} is no {}, which is an object",
                shown(value),
                input.name
            ));
        };
        for name in given.keys().filter(|name| !input.fields.contains_key(name.as_str())) {
            let near = super::schema::source::nearest(name, input.fields.keys().map(String::as_str));
            self.problem(format!("{path}: {} has no field {name}{near}", input.name));
        }
        let mut fields = async_graphql::indexmap::IndexMap::new();
        for (name, field) in &input.fields {
            let end = path.len();
            path.push('.');
            path.push_str(name);
            match given.get(name.as_str()).or(field.default.as_ref()) {
                Some(value) => {
                    let value = self.value(field.ty, value, path);
                    fields.insert(Name::new(name), value);
                }
                None if field.ty.nullable => {}
                None => {
                    self.problem(format!("{path} was not given"));
                }
            }
            path.truncate(end);
        }
        if matches!(input.role, InputRole::Order(_)) && fields.len() > 1 {
            self.problem(format!("{path}: {} names one field; write a list for several", input.name));
        }
        Value::Object(fields)
    }
}

/// A value in a message: short, whatever it is.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The value of a scalar; `None` when it is none.
pub fn coerce_scalar(scalar: Scalar, value: &Value) -> Option<Value> {
    let fits = match (scalar, value) {
        (Scalar::Json, _) => true,
        (Scalar::Boolean, Value::Boolean(_)) => true,
        (Scalar::Int, Value::Number(number)) => {
            return whole(number, i64::from(i32::MIN), i64::from(i32::MAX));
        }
        (Scalar::Float, Value::Number(number)) => number.as_f64().is_some_and(f64::is_finite),
        (Scalar::Id, Value::Number(number)) => {
            return number.as_i64().map(|n| Value::String(n.to_string()));
        }
        (Scalar::BigInt, Value::Number(number)) => number.as_i64().is_some(),
        (Scalar::Decimal, Value::Number(_)) => true,
        (Scalar::Id | Scalar::String, Value::String(_)) => true,
        (Scalar::BigInt, Value::String(text)) => text.parse::<i64>().is_ok(),
        (Scalar::Decimal, Value::String(text)) => crate::engine::plan::bind::is_decimal(text),
        (Scalar::Uuid, Value::String(text)) => uuid::Uuid::try_parse(text).is_ok(),
        (Scalar::Ulid, Value::String(text)) => crate::engine::plan::bind::is_ulid(text),
        (Scalar::DateTime, Value::String(text)) => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        (Scalar::LocalDateTime, Value::String(text)) => text.parse::<chrono::NaiveDateTime>().is_ok(),
        (Scalar::Date, Value::String(text)) => text.parse::<chrono::NaiveDate>().is_ok(),
        (Scalar::Time, Value::String(text)) => text.parse::<chrono::NaiveTime>().is_ok(),
        (Scalar::Interval, Value::String(text)) => !text.is_empty() && text.len() < 100,
        (Scalar::Bytes, Value::String(text)) => text
            .strip_prefix("\\x")
            .is_some_and(|hex| hex.len() % 2 == 0 && hex.bytes().all(|b| b.is_ascii_hexdigit())),
        _ => false,
    };
    fits.then(|| value.clone())
}

/// JSON has one kind of number: 3.0 is a whole one.
fn whole(number: &async_graphql::Number, min: i64, max: i64) -> Option<Value> {
    let exact = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15)?;
        Some(float as i64)
    })?;
    (min..=max).contains(&exact).then(|| Value::Number(exact.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(scalar: Scalar, json: &str) -> Option<Value> {
        coerce_scalar(scalar, &serde_json::from_str::<Value>(json).expect("JSON"))
    }

    #[test]
    fn numbers_are_whole_and_within_range_where_they_must_be() {
        assert_eq!(scalar(Scalar::Int, "3.0"), Some(Value::from(3)));
        assert_eq!(scalar(Scalar::Int, "2147483647"), Some(Value::from(i32::MAX)));
        for wrong in ["2147483648", "-2147483649", "1.5", "\"1\"", "true", "1e40"] {
            assert_eq!(scalar(Scalar::Int, wrong), None, "{wrong}");
        }
        assert_eq!(scalar(Scalar::Id, "7"), Some(Value::from("7")));
        assert_eq!(scalar(Scalar::Id, "true"), None);
        assert_eq!(
            scalar(Scalar::BigInt, "\"9223372036854775807\""),
            Some(Value::from("9223372036854775807"))
        );
        assert_eq!(scalar(Scalar::BigInt, "\"9223372036854775808\""), None);
    }

    #[test]
    fn a_variable_that_was_not_given_is_not_null() {
        let text = "query ($none: Int, $null: Int, $default: Int = 2) { x }";
        let document = async_graphql::parser::parse_query(text).expect("an operation");
        let (_, operation) = document.operations.iter().next().expect("an operation");
        let mut given = Variables::default();
        given.insert(Name::new("null"), Value::Null);
        let coerced = variables(&Schema::default(), &operation.node, &given).expect("right");
        assert_eq!(coerced.get("none"), None);
        assert_eq!(coerced.get("null"), Some(&Value::Null));
        assert_eq!(coerced.get("default"), Some(&Value::from(2)));
    }

    #[test]
    fn texts_have_the_form_of_their_type() {
        for (kind, good, bad) in [
            (Scalar::Uuid, "\"01563e3a-b5d3-d676-4c61-efb99302bd5b\"", "\"x\""),
            (Scalar::DateTime, "\"2026-11-21T09:00:00Z\"", "\"2026-11-21\""),
            (Scalar::Date, "\"2026-02-28\"", "\"2026-02-30\""),
            (Scalar::Decimal, "\"1.50\"", "\"1,50\""),
            (Scalar::Bytes, "\"\\\\x00ff\"", "\"\\\\x0\""),
        ] {
            assert!(scalar(kind, good).is_some(), "{good}");
            assert!(scalar(kind, bad).is_none(), "{bad}");
        }
    }
}
