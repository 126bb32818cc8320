//! The schema file as it was written: definitions with their places, directives with checked arguments.
//!
//! Promises: every problem has line and column; a directive or an argument of one that does not exist is a problem, not
//! ignored, since a misspelt `@tenant` must not mean "no tenant".

use std::fmt;

use async_graphql::Value;
use async_graphql::parser::types::{
    ConstDirective, EnumType, FieldDefinition, InputValueDefinition, ServiceDocument, TypeDefinition,
    TypeKind, TypeSystemDefinition,
};
use async_graphql::parser::{Pos, parse_schema};
use async_graphql::{Name, Positioned};
use indexmap::IndexMap;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the schema file, from 1.
    pub line: usize,
    /// Column in the line, from 1.
    pub column: usize,
    /// Whether the schema can be served all the same.
    pub warning: bool,
    /// What is wrong and what the database has.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning" } else { "error" };
        write!(f, "{}:{}: {kind}: {}", self.line, self.column, self.message)
    }
}

/// Collects problems.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Something that cannot be served.
    pub fn error(&mut self, pos: Pos, message: impl Into<String>) {
        self.0.push(Problem { line: pos.line, column: pos.column, warning: false, message: message.into() });
    }

    /// Something that will hurt.
    pub fn warn(&mut self, pos: Pos, message: impl Into<String>) {
        self.0.push(Problem { line: pos.line, column: pos.column, warning: true, message: message.into() });
    }

    /// Whether there is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| !problem.warning)
    }
}

/// Where a directive may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On `schema`.
    Schema,
    /// On a type.
    Type,
    /// On a field of an object.
    Field,
    /// On a value of an enum.
    EnumValue,
    /// On a field of an input object.
    InputField,
}

/// Directive, its places, its arguments.
const DIRECTIVES: &[(&str, &[Place], &[&str])] = {
    use Place::{EnumValue, Field, InputField, Schema, Type};
    &[
        ("constraint", &[Schema, Type], &["name", "code", "message", "field"]),
        ("table", &[Type], &["name", "schema", "softDelete"]),
        ("discriminator", &[Type], &["column"]),
        ("variant", &[Type], &["value"]),
        ("column", &[Field, InputField], &["name"]),
        ("key", &[Field], &[]),
        ("relation", &[Field], &["columns", "references", "through", "targets", "order", "inverse"]),
        ("list", &[Field], &["default", "max", "order"]),
        ("lookup", &[Field], &[]),
        ("function", &[Field], &["name", "schema"]),
        ("behind", &[Field], &["flag", "function", "schema"]),
        ("insert", &[Field], &[]),
        ("update", &[Field], &[]),
        ("upsert", &[Field], &["conflict"]),
        ("delete", &[Field], &[]),
        ("idempotent", &[Field], &["key"]),
        ("emits", &[Field], &["event", "payload"]),
        ("job", &[Field], &["name", "function", "check"]),
        ("subscription", &[Field], &["event", "key"]),
        ("auth", &[Type, Field], &["requires", "guards"]),
        ("cacheControl", &[Field], &["maxAge", "scope", "staleIfError"]),
        ("value", &[EnumValue], &["text"]),
        ("deprecated", &[Field, EnumValue], &["reason"]),
    ]
};

/// A directive as it was written.
pub struct Directive<'a>(pub Pos, &'a ConstDirective);

/// The first directive with this name.
pub fn directive<'a>(all: &'a [Positioned<ConstDirective>], name: &str) -> Option<Directive<'a>> {
    all.iter().find(|d| d.node.name.node == name).map(|d| Directive(d.pos, &d.node))
}

/// All directives with this name.
pub fn directives<'a>(
    all: &'a [Positioned<ConstDirective>],
    name: &'a str,
) -> impl Iterator<Item = Directive<'a>> {
    all.iter().filter(move |d| d.node.name.node == name).map(|d| Directive(d.pos, &d.node))
}

impl Directive<'_> {
    fn value(&self, argument: &str) -> Option<(&Value, Pos)> {
        let (_, value) = self.1.arguments.iter().find(|(name, _)| name.node == argument)?;
        Some((&value.node, value.pos))
    }

    /// Whether the argument is there.
    pub fn has(&self, argument: &str) -> bool {
        self.value(argument).is_some()
    }

    /// A text; anything else is a problem and `None`.
    pub fn text(&self, argument: &str, problems: &mut Problems) -> Option<String> {
        match self.value(argument)? {
            (Value::String(text), _) => Some(text.clone()),
            (Value::Enum(name), _) => Some(name.to_string()),
            (other, pos) => {
                problems.error(pos, format!("{argument} must be a text, not {other}"));
                None
            }
        }
    }

    /// A text that must be there.
    pub fn required(&self, argument: &str, problems: &mut Problems) -> String {
        if self.value(argument).is_none() {
            problems.error(self.0, format!("@{} needs {argument}: \"…\"", self.1.name.node));
        }
        self.text(argument, problems).unwrap_or_default()
    }

    /// A list of texts; a single one stands for a list of it. Empty when it is left out.
    pub fn texts(&self, argument: &str, problems: &mut Problems) -> Vec<String> {
        let values = match self.value(argument) {
            None => return Vec::new(),
            Some((Value::List(values), pos)) => values.iter().map(|value| (value, pos)).collect(),
            Some((value, pos)) => vec![(value, pos)],
        };
        let mut texts = Vec::new();
        for (value, pos) in values {
            match value {
                Value::String(text) => texts.push(text.clone()),
                Value::Enum(name) => texts.push(name.to_string()),
                other => problems.error(pos, format!("{argument} must be a list of texts, not {other}")),
            }
        }
        texts
    }

    /// A whole number from 0.
    pub fn seconds(&self, argument: &str, problems: &mut Problems) -> Option<u32> {
        let (value, pos) = self.value(argument)?;
        let Value::Number(number) = value else {
            problems.error(pos, format!("{argument} must be a number of seconds, not {value}"));
            return None;
        };
        let seconds = number.as_u64().and_then(|n| u32::try_from(n).ok());
        if seconds.is_none() {
            problems.error(pos, format!("{argument} must be a whole number of seconds, not {value}"));
        }
        seconds
    }

    /// A whole number from 1.
    pub fn count(&self, argument: &str, problems: &mut Problems) -> Option<u32> {
        let (value, pos) = self.value(argument)?;
        let count = match value {
            Value::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
            _ => None,
        };
        if count.is_none() {
            problems.error(pos, format!("{argument} must be a whole number from 1, not {value}"));
        }
        count
    }

    /// Whether it is set to true.
    pub fn flag(&self, argument: &str, problems: &mut Problems) -> bool {
        match self.value(argument) {
            None => false,
            Some((Value::Boolean(flag), _)) => *flag,
            Some((other, pos)) => {
                problems.error(pos, format!("{argument} must be true or false, not {other}"));
                false
            }
        }
    }
}

/// The definitions of a file, by name, in their order.
#[derive(Debug, Default)]
pub struct Source {
    /// Directives of `schema`.
    pub schema: Vec<Positioned<ConstDirective>>,
    /// Names of the root types.
    pub query: String,
    /// As above; empty when there are no mutations.
    pub mutation: String,
    /// As above; empty when there are no subscriptions.
    pub subscription: String,
    /// Every type.
    pub types: IndexMap<String, Positioned<TypeDefinition>>,
}

/// Reads a schema file.
pub fn read(text: &str, problems: &mut Problems) -> Option<Source> {
    let document = match parse_schema(text) {
        Ok(document) => document,
        Err(error) => {
            let pos = error.positions().next().unwrap_or(Pos { line: 1, column: 1 });
            problems
                .error(pos, format!("this is no schema in GraphQL's language: {}", said(&error.to_string())));
            return None;
        }
    };
    Some(collect(document, problems))
}

/// The parser draws the line with an arrow; what it expected is in the last line.
fn said(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches([' ', '=']).to_owned()
}

fn collect(document: ServiceDocument, problems: &mut Problems) -> Source {
    let mut source = Source { query: "Query".to_owned(), ..Source::default() };
    let mut named_roots = false;
    for definition in document.definitions {
        match definition {
            TypeSystemDefinition::Schema(schema) => {
                if schema.node.extend {
                    problems.error(schema.pos, "`extend schema` is not supported: put it into `schema`");
                }
                named_roots = true;
                let name =
                    |root: Option<Positioned<Name>>| root.map_or_else(String::new, |n| n.node.to_string());
                check(&schema.node.directives, Place::Schema, problems);
                source.schema = schema.node.directives;
                source.query = name(schema.node.query);
                source.mutation = name(schema.node.mutation);
                source.subscription = name(schema.node.subscription);
            }
            TypeSystemDefinition::Type(ty) => add_type(&mut source, ty, problems),
            TypeSystemDefinition::Directive(directive) => problems.error(
                directive.pos,
                format!(
                    "directives cannot be defined here: @{} is not known to the server",
                    directive.node.name.node
                ),
            ),
        }
    }
    if !named_roots {
        let defined =
            |name: &str| if source.types.contains_key(name) { name.to_owned() } else { String::new() };
        (source.mutation, source.subscription) = (defined("Mutation"), defined("Subscription"));
    }
    if !source.types.contains_key(&source.query) {
        problems.error(Pos { line: 1, column: 1 }, "a schema needs a query root: `type Query { … }`");
    }
    source
}

fn add_type(source: &mut Source, ty: Positioned<TypeDefinition>, problems: &mut Problems) {
    let name = ty.node.name.node.to_string();
    let pos = ty.node.name.pos;
    if ty.node.extend {
        problems.error(pos, format!("`extend` is not supported: put it into the definition of {name}"));
        return;
    }
    if name.starts_with("__") {
        problems.error(pos, format!("{name}: names with two underscores belong to introspection"));
    }
    check(&ty.node.directives, Place::Type, problems);
    match &ty.node.kind {
        TypeKind::Object(object) => check_fields(&object.fields, problems),
        TypeKind::Interface(interface) => check_fields(&interface.fields, problems),
        TypeKind::Enum(enumeration) => check_values(enumeration, problems),
        TypeKind::InputObject(input) => check_inputs(&input.fields, problems),
        TypeKind::Scalar | TypeKind::Union(_) => {}
    }
    let (empty, part) = match &ty.node.kind {
        TypeKind::Object(object) => (object.fields.is_empty(), "field"),
        TypeKind::Interface(interface) => (interface.fields.is_empty(), "field"),
        TypeKind::InputObject(input) => (input.fields.is_empty(), "field"),
        TypeKind::Enum(enumeration) => (enumeration.values.is_empty(), "value"),
        TypeKind::Union(union) => (union.members.is_empty(), "member"),
        TypeKind::Scalar => (false, ""),
    };
    if empty {
        problems.error(pos, format!("{name} has no {part}: it needs at least one"));
    }
    if source.types.insert(name.clone(), ty).is_some() {
        problems.error(pos, format!("{name} is defined twice"));
    }
}

fn check_fields(fields: &[Positioned<FieldDefinition>], problems: &mut Problems) {
    fields.iter().for_each(|field| check(&field.node.directives, Place::Field, problems));
    unique(fields.iter().map(|field| &field.node.name), problems);
}

fn check_values(enumeration: &EnumType, problems: &mut Problems) {
    enumeration.values.iter().for_each(|value| check(&value.node.directives, Place::EnumValue, problems));
    unique(enumeration.values.iter().map(|value| &value.node.value), problems);
}

fn check_inputs(fields: &[Positioned<InputValueDefinition>], problems: &mut Problems) {
    fields.iter().for_each(|field| check(&field.node.directives, Place::InputField, problems));
    unique(fields.iter().map(|field| &field.node.name), problems);
}

fn unique<'a>(names: impl Iterator<Item = &'a Positioned<Name>>, problems: &mut Problems) {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name.node.as_str()) {
            problems.error(name.pos, format!("{} stands here twice", name.node));
        }
    }
}

fn check(directives: &[Positioned<ConstDirective>], place: Place, problems: &mut Problems) {
    for directive in directives {
        let name = directive.node.name.node.as_str();
        let Some((_, places, arguments)) = DIRECTIVES.iter().find(|(known, ..)| *known == name) else {
            let near = nearest(name, DIRECTIVES.iter().map(|(known, ..)| *known));
            problems.error(directive.pos, format!("there is no directive @{name}{near}"));
            continue;
        };
        if !places.contains(&place) {
            problems.error(directive.pos, format!("@{name} has no meaning here"));
        }
        for (argument, _) in &directive.node.arguments {
            if !arguments.contains(&argument.node.as_str()) {
                let near = nearest(&argument.node, arguments.iter().copied());
                problems.error(argument.pos, format!("@{name} has no argument {}{near}", argument.node));
            }
        }
    }
}

/// `, did you mean …?` when something is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let closest = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match closest {
        Some((distance, known)) if distance <= 2.max(name.len() / 3) => format!(", did you mean {known}?"),
        _ => String::new(),
    }
}
