//! Where settings come from: the TOML text, which knows the place of each value, and the
//! environment, read once.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Error, Problem};
use super::limits::ALIASES;

/// The process's environment at one moment. Tests make their own.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Variables whose name or value is not Unicode are as good as absent.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        Self(variables.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// A variable that is set to nothing counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// A TOML text whose syntax is right.
pub(super) struct Document<'a> {
    name: &'a str,
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(text: &'a str, name: &'a str) -> Result<Self, Error> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { name, text, root }),
            Err(error) => {
                let at = place(text, error.span().map_or(0, |span| span.start));
                Err(Error::invalid(vec![Problem::in_file(name, at, error.message().to_owned())]))
            }
        }
    }

    /// Keys that `known`, written as TOML, does not have. Every setting is in it, because no
    /// table has an `Option`, save other names of keys. A table that is empty there takes any key.
    pub(super) fn unknown_keys(&self, known: &impl Serialize) -> Vec<Problem> {
        let known = toml::Table::try_from(known).expect("the defaults can be written as TOML");
        let mut problems = Vec::new();
        self.walk(self.root.get_ref(), &known, "", &mut problems);
        problems
    }

    fn walk(&self, table: &DeTable<'_>, known: &toml::Table, path: &str, problems: &mut Vec<Problem>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match known.get(name) {
                None if ALIASES.contains(&(path, name)) => {}
                None => problems.push(self.unknown_key(key, path, known)),
                Some(toml::Value::Table(inner)) if inner.is_empty() => {}
                Some(toml::Value::Table(inner)) => {
                    // A value that should be a table is left to the reader of types.
                    if let DeValue::Table(table) = value.get_ref() {
                        self.walk(table, inner, &join(path, name), problems);
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn unknown_key(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        path: &str,
        known: &toml::Table,
    ) -> Problem {
        let name = key.get_ref().as_ref();
        let what = match path {
            "" => format!("unknown table `{name}`"),
            table => format!("unknown key `{name}` in [{table}]"),
        };
        let all: Vec<&str> = known.keys().map(String::as_str).collect();
        self.problem(key.span().start, what).allowed(all.join(", ")).suggest(name, all)
    }

    /// Reads the types; of several wrong ones the first is found.
    pub(super) fn read<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        match toml::from_str(self.text) {
            Ok(value) => Some(value),
            Err(error) => {
                match error.message().strip_prefix("unknown field ") {
                    // Unless it is in a list, or below a name that is anybody's, it was found before, with better words.
                    Some(_) if !problems.is_empty() => {}
                    Some(rest) => problems.push(self.unknown_field(&error, rest)),
                    None => problems.push(self.wrong_type(&error)),
                }
                None
            }
        }
    }

    /// `rest` is serde's: "`x`, expected one of `a`, `b`".
    fn unknown_field(&self, error: &toml::de::Error, rest: &str) -> Problem {
        let at = error.span().map_or(0, |span| span.start);
        let (name, expected) = rest.split_once(", expected ").unwrap_or((rest, ""));
        let expected = expected.strip_prefix("one of ").unwrap_or(expected).replace('`', "");
        let name = name.trim_matches('`');
        let problem = self.problem(at, format!("unknown key `{name}`"));
        problem.suggest(name, expected.split(", ")).allowed(expected.clone())
    }

    fn wrong_type(&self, error: &toml::de::Error) -> Problem {
        let at = error.span().map_or(0, |span| span.start);
        let (key, text) = self.key_at(self.root.get_ref(), "", at).unwrap_or_default();
        let message = error.message();
        // serde's sentence is `invalid type: integer `5`, expected a duration …`.
        let expected = message.split_once("expected ").map_or(message, |(_, expected)| expected);
        if key.is_empty() {
            return self.problem(at, message.to_owned());
        }
        self.problem(at, format!("{key} = {text}")).allowed(in_plain_words(expected))
    }

    /// The dotted key and the source text of the value that covers the position.
    fn key_at(&self, table: &DeTable<'_>, path: &str, at: usize) -> Option<(String, &'a str)> {
        table.iter().find_map(|(key, value)| {
            let path = join(path, key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) => self.key_at(inner, &path, at),
                _ if value.span().contains(&at) => Some((path, &self.text[value.span()])),
                _ => None,
            }
        })
    }

    /// Whether the text has this key.
    pub(super) fn has(&self, table: &str, key: &str) -> bool {
        let inner = self.root.get_ref().get(table).and_then(|table| table.get_ref().as_table());
        inner.is_some_and(|inner| inner.get(key).is_some())
    }

    /// A value of the right type that breaks a rule. It may be a default, when the rule relates
    /// two keys; then the place is the table or the file.
    pub(super) fn bad_value(&self, table: &str, key: &str, value: &str, allowed: &str) -> Problem {
        let mut current = Some(self.root.get_ref());
        let mut at = 0;
        for part in table.split('.') {
            let found = current.and_then(|table| table.get_key_value(part));
            if let Some((name, _)) = found {
                at = name.span().start;
            }
            current = found.and_then(|(_, value)| value.get_ref().as_table());
        }
        let written = current.and_then(|table| table.get(key)).map(Spanned::span);
        let (at, value) = match written {
            Some(span) => (span.start, self.text[span].to_owned()),
            None => (at, format!("{value} (the default)")),
        };
        self.problem(at, format!("{table}.{key} = {value}")).allowed(allowed)
    }

    fn problem(&self, at: usize, what: String) -> Problem {
        Problem::in_file(self.name, place(self.text, at), what)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What the types of this crate are called outside of it.
fn in_plain_words(expected: &str) -> &str {
    match expected {
        "u32" => "a whole number, not negative",
        "a boolean" => "true or false",
        "invalid socket address syntax" => "an address and a port such as \"0.0.0.0:8000\"",
        table if table.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Line and column, both counted from one, the column in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    (line, column)
}
