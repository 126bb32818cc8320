//! Arguments, as the planner sees them: their structure decides the SQL, their values stay parameters.
//!
//! Promises: a value that a caller gave never becomes SQL text; it is a [`Source`] that is read when the statement is
//! bound. Only structure is looked at here: which fields an input object has, what is null, how long a list of objects is.

use async_graphql::{Name, Value, Variables};
use async_graphql_value::Value as Literal;
use indexmap::IndexMap;

use crate::engine::schema::model::{Argument, Named, Schema, TypeRef};

/// Where a value comes from when a statement is bound.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// It stands in the operation or in the schema.
    Constant(Value),
    /// A variable, and the way into it.
    Variable(Name, Vec<Step>),
    /// A list in the operation of which some items are variables.
    List(Vec<Source>),
    /// An input object in the operation of which some fields are variables.
    Object(Vec<(Name, Source)>),
}

/// A step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A field.
    Field(Name),
    /// An item.
    Item(usize),
}

/// An argument's structure.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// Null.
    Null,
    /// A scalar, an enum, or a list of these.
    Leaf(Source),
    /// A list of input objects.
    List(Vec<Arg>),
    /// An input object: its fields that were given or have a default.
    Object(IndexMap<String, Arg>),
}

impl Source {
    /// The value, now that the variables are known. What is not there is null.
    pub fn read(&self, variables: &Variables) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Variable(name, steps) => {
                variables.get(name).and_then(|value| walk(value, steps)).cloned().unwrap_or(Value::Null)
            }
            Self::List(items) => Value::List(items.iter().map(|item| item.read(variables)).collect()),
            Self::Object(fields) => Value::Object(
                fields.iter().map(|(name, field)| (name.clone(), field.read(variables))).collect(),
            ),
        }
    }

    /// The value without a copy, where it is in one place.
    pub fn peek<'a>(&'a self, variables: &'a Variables) -> Option<&'a Value> {
        match self {
            Self::Constant(value) => Some(value),
            Self::Variable(name, steps) => walk(variables.get(name)?, steps),
            Self::List(_) | Self::Object(_) => None,
        }
    }
}

fn walk<'a>(value: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match (value, step) {
        (Value::Object(fields), Step::Field(name)) => fields.get(name),
        (Value::List(items), Step::Item(at)) => items.get(*at),
        // One value stands for a list of one.
        (value, Step::Item(0)) => Some(value),
        _ => None,
    })
}

impl Arg {
    /// The whole as one source, for a function that takes a document.
    pub fn source(&self) -> Source {
        match self {
            Self::Null => Source::Constant(Value::Null),
            Self::Leaf(source) => source.clone(),
            Self::List(items) => Source::List(items.iter().map(Self::source).collect()),
            Self::Object(fields) => {
                Source::Object(fields.iter().map(|(name, field)| (Name::new(name), field.source())).collect())
            }
        }
    }

    /// The field of an object.
    pub fn get(&self, field: &str) -> Option<&Arg> {
        match self {
            Self::Object(fields) => fields.get(field),
            _ => None,
        }
    }
}

/// The structure of an argument; `None` when it is not given and has no default.
pub fn resolve(
    schema: &Schema,
    argument: &Argument,
    given: Option<&Literal>,
    variables: &Variables,
) -> Option<Arg> {
    let value = match given {
        Some(Literal::Variable(name)) => {
            let value = variables.get(name);
            value.map(|value| from_value(schema, argument.ty, value, &mut Path::variable(name)))
        }
        Some(literal) => Some(from_literal(schema, argument.ty, literal, variables)),
        None => None,
    };
    value.or_else(|| {
        let default = argument.default.as_ref()?;
        Some(from_value(schema, argument.ty, default, &mut Path::constant(default)))
    })
}

/// A place in a variable or a constant.
struct Path<'a> {
    root: Root<'a>,
    steps: Vec<Step>,
}

enum Root<'a> {
    Variable(&'a Name),
    Constant(&'a Value),
}

impl<'a> Path<'a> {
    fn variable(name: &'a Name) -> Self {
        Self { root: Root::Variable(name), steps: Vec::new() }
    }

    fn constant(value: &'a Value) -> Self {
        Self { root: Root::Constant(value), steps: Vec::new() }
    }

    fn source(&self) -> Source {
        match self.root {
            Root::Variable(name) => Source::Variable(name.clone(), self.steps.clone()),
            Root::Constant(value) => {
                Source::Constant(walk(value, &self.steps).cloned().unwrap_or(Value::Null))
            }
        }
    }

    fn at<T>(&mut self, step: Step, work: impl FnOnce(&mut Self) -> T) -> T {
        self.steps.push(step);
        let done = work(self);
        self.steps.pop();
        done
    }
}

fn from_value(schema: &Schema, ty: TypeRef, value: &Value, path: &mut Path<'_>) -> Arg {
    let Named::Input(id) = ty.named else {
        return if matches!(value, Value::Null) { Arg::Null } else { Arg::Leaf(path.source()) };
    };
    match value {
        Value::Null => Arg::Null,
        Value::List(items) if ty.list.is_some() => {
            let item_ty = TypeRef { list: None, nullable: ty.list.unwrap_or_default(), ..ty };
            let items = items.iter().enumerate();
            Arg::List(
                items
                    .map(|(at, item)| path.at(Step::Item(at), |path| from_value(schema, item_ty, item, path)))
                    .collect(),
            )
        }
        value if ty.list.is_some() => Arg::List(vec![
            path.at(Step::Item(0), |path| from_value(schema, TypeRef { list: None, ..ty }, value, path)),
        ]),
        Value::Object(given) => {
            let mut fields = IndexMap::new();
            for (name, field) in &schema.input(id).fields {
                let arg = match given.get(name.as_str()) {
                    Some(value) => {
                        let step = Step::Field(Name::new(name));
                        Some(path.at(step, |path| from_value(schema, field.ty, value, path)))
                    }
                    None => field
                        .default
                        .as_ref()
                        .map(|default| from_value(schema, field.ty, default, &mut Path::constant(default))),
                };
                if let Some(arg) = arg {
                    fields.insert(name.clone(), arg);
                }
            }
            Arg::Object(fields)
        }
        _ => Arg::Leaf(path.source()),
    }
}

fn from_literal(schema: &Schema, ty: TypeRef, literal: &Literal, variables: &Variables) -> Arg {
    if let Some(value) = literal.clone().into_const() {
        return from_value(schema, ty, &value, &mut Path::constant(&value));
    }
    let item_ty = TypeRef { list: None, nullable: ty.list.unwrap_or_default(), ..ty };
    match (literal, ty.named) {
        (Literal::Variable(name), _) => match variables.get(name) {
            Some(value) => from_value(schema, ty, value, &mut Path::variable(name)),
            None => Arg::Null,
        },
        (Literal::List(items), Named::Input(_)) => {
            Arg::List(items.iter().map(|item| from_literal(schema, item_ty, item, variables)).collect())
        }
        (Literal::List(items), _) => Arg::Leaf(Source::List(
            items.iter().map(|item| from_literal(schema, item_ty, item, variables).source()).collect(),
        )),
        (Literal::Object(given), Named::Input(id)) => {
            let mut fields = IndexMap::new();
            for (name, field) in &schema.input(id).fields {
                // A field whose variable was not given counts as not given.
                let given = given.get(name.as_str());
                if let Some(arg) = resolve(schema, field, given, variables) {
                    fields.insert(name.clone(), arg);
                }
            }
            let object = Arg::Object(fields);
            if ty.list.is_some() { Arg::List(vec![object]) } else { object }
        }
        (Literal::Object(given), _) => Arg::Leaf(Source::Object(
            given.iter().map(|(name, value)| (name.clone(), free(value, variables))).collect(),
        )),
        _ => Arg::Null,
    }
}

/// Whether null stands in a literal for something that takes none; `path` then ends there. A variable that may be null
/// passes validation where it has a default, and a caller can give null for it all the same (section 5.8.5).
pub fn has_forbidden_null(
    schema: &Schema,
    ty: TypeRef,
    literal: &Literal,
    variables: &Variables,
    path: &mut String,
) -> bool {
    let end = path.len();
    let mut within = |step: &str, ty: TypeRef, literal: &Literal| {
        path.truncate(end);
        path.push('.');
        path.push_str(step);
        has_forbidden_null(schema, ty, literal, variables, path)
    };
    match (literal, ty.named) {
        (Literal::Variable(name), _) => !ty.nullable && variables.get(name) == Some(&Value::Null),
        (Literal::List(items), _) => {
            let Some(nullable) = ty.list else { return false };
            let item = TypeRef { list: None, nullable, ..ty };
            items.iter().enumerate().any(|(at, literal)| within(&at.to_string(), item, literal))
        }
        (Literal::Object(given), Named::Input(id)) => given.iter().any(|(name, literal)| {
            let field = schema.input(id).fields.get(name.as_str());
            field.is_some_and(|field| within(name, field.ty, literal))
        }),
        _ => false,
    }
}

/// Inside a JSON scalar nothing has a type.
fn free(literal: &Literal, variables: &Variables) -> Source {
    match literal {
        Literal::Variable(name) if variables.contains_key(name) => Source::Variable(name.clone(), Vec::new()),
        Literal::List(items) => Source::List(items.iter().map(|item| free(item, variables)).collect()),
        Literal::Object(given) => {
            Source::Object(given.iter().map(|(name, value)| (name.clone(), free(value, variables))).collect())
        }
        literal => Source::Constant(literal.clone().into_const().unwrap_or(Value::Null)),
    }
}

/// What of the variables decides the SQL: equal signatures give equal plans of one operation.
pub fn signature(schema: &Schema, ty: TypeRef, value: Option<&Value>, into: &mut String) {
    match (value, ty.named) {
        (None, _) => into.push('-'),
        (Some(Value::Null), _) => into.push('0'),
        (Some(Value::Boolean(flag)), _) => into.push(if *flag { 'T' } else { 'F' }),
        // Directions of an order are structure; other enums are few, so they may be.
        (Some(Value::Enum(name)), _) => {
            into.push_str(name);
            into.push(';');
        }
        (Some(Value::String(word)), Named::Enum(_)) => {
            into.push_str(word);
            into.push(';');
        }
        (Some(Value::List(items)), Named::Input(_)) => {
            into.push('[');
            items.iter().for_each(|item| signature(schema, TypeRef { list: None, ..ty }, Some(item), into));
            into.push(']');
        }
        (Some(Value::Object(given)), Named::Input(id)) => {
            into.push('{');
            for (at, (name, field)) in schema.input(id).fields.iter().enumerate() {
                if let Some(value) = given.get(name.as_str()) {
                    into.push_str(&at.to_string());
                    // Else null in fields 1 and 2 was null in field 102.
                    into.push(':');
                    signature(schema, field.ty, Some(value), into);
                }
            }
            into.push('}');
        }
        (Some(_), _) => into.push('v'),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::engine::encode::Scalar;
    use crate::engine::schema::model::{Input, InputId, InputRole};

    #[test]
    fn other_fields_that_are_null_are_another_structure() {
        let ty = TypeRef { named: Named::Scalar(Scalar::String), list: None, nullable: true };
        let field = |at: usize| Argument { name: format!("f{at}"), description: None, ty, default: None };
        let fields = (0..110).map(|at| (format!("f{at}"), field(at))).collect();
        let (columns, column_types) = (HashMap::new(), HashMap::new());
        let role = InputRole::Values;
        let input = Input { name: "I".to_owned(), description: None, role, fields, columns, column_types };
        let schema = Schema { inputs: vec![input], ..Schema::default() };
        let of = |names: &[&str]| {
            let object = names.iter().map(|name| (Name::new(name), Value::Null)).collect();
            let mut signature = String::new();
            let ty = TypeRef { named: Named::Input(InputId(0)), list: None, nullable: true };
            super::signature(&schema, ty, Some(&Value::Object(object)), &mut signature);
            signature
        };
        assert_ne!(of(&["f1", "f2"]), of(&["f102"]));
        assert_ne!(of(&["f10"]), of(&["f1", "f0"]));
    }
}
