//! The key of an answer: everything that the answer depends on, and whom it is for, under SHA-256.
//!
//! Promises: two questions have one key only if they are the same question for the same audience. Each part is
//! written with its length, so no two lists of parts read alike; an absent part differs from an empty one. Variables
//! are the same in whatever order an object's fields stand.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::control::Scope;

/// What keys of answers begin with.
pub const PREFIX: &str = "response:";

/// Changes whenever the bytes below change their meaning, so that no release reads another's answers.
const FORMAT: &str = "fraiseql response 1";

/// An operation as it is executed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operation<'a> {
    /// Anything that changes when the schema does: a digest or a version.
    pub schema: &'a str,
    /// The text of the document.
    pub text: &'a str,
    /// Which operation of the document.
    pub name: Option<&'a str>,
    /// The variables, `null` without any.
    pub variables: &'a Value,
}

/// The parts of the principal that the answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audience<'a> {
    /// The tenant whose rows it shows.
    pub tenant: Option<&'a str>,
    /// The role whose permissions it was computed under.
    pub role: Option<&'a str>,
    /// The user; `None` is everybody without one.
    pub user: Option<&'a str>,
}

impl Audience<'_> {
    /// Those who share an answer of this scope: a public one does not depend on the user.
    pub fn within(self, scope: Scope) -> Self {
        match scope {
            Scope::Private => self,
            Scope::Public => Self { user: None, ..self },
        }
    }
}

/// The key of an answer: `response:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of what `audience` is answered to `operation`.
    pub fn new(operation: &Operation<'_>, audience: &Audience<'_>) -> Self {
        let mut hash = Sha256::new();
        write_question(&mut |bytes| hash.update(bytes), operation, audience);
        let mut key = String::with_capacity(PREFIX.len() + 64);
        key.push_str(PREFIX);
        for byte in hash.finalize() {
            write!(key, "{byte:02x}").expect("writing to a string does not fail");
        }
        Self(key.into())
    }

    /// As the cache is asked.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes the bytes that are hashed.
type Sink<'s> = dyn FnMut(&[u8]) + 's;

fn write_question(sink: &mut Sink<'_>, operation: &Operation<'_>, audience: &Audience<'_>) {
    let Operation { schema, text, name, variables } = *operation;
    let Audience { tenant, role, user } = *audience;
    for part in [Some(FORMAT), Some(schema), Some(text), name, tenant, role, user] {
        write_part(sink, part);
    }
    write_value(sink, variables);
}

fn write_part(sink: &mut Sink<'_>, part: Option<&str>) {
    match part {
        None => sink(b"-"),
        Some(text) => {
            sink(b"+");
            write_text(sink, text);
        }
    }
}

fn write_text(sink: &mut Sink<'_>, text: &str) {
    write_length(sink, text.len());
    sink(text.as_bytes());
}

fn write_length(sink: &mut Sink<'_>, length: usize) {
    sink(&(length as u64).to_le_bytes());
}

/// `1` and `1.0` differ, as they do to a coercion; an absent field and `null` do too.
fn write_value(sink: &mut Sink<'_>, value: &Value) {
    match value {
        Value::Null => sink(b"n"),
        Value::Bool(false) => sink(b"f"),
        Value::Bool(true) => sink(b"t"),
        Value::Number(number) => {
            sink(b"#");
            write_text(sink, &number.to_string());
        }
        Value::String(text) => {
            sink(b"s");
            write_text(sink, text);
        }
        Value::Array(values) => {
            sink(b"[");
            write_length(sink, values.len());
            values.iter().for_each(|value| write_value(sink, value));
        }
        Value::Object(fields) => {
            sink(b"{");
            write_length(sink, fields.len());
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in fields {
                write_text(sink, name);
                write_value(sink, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A question that owns its parts.
    #[derive(Debug, Clone, PartialEq)]
    struct Question {
        texts: [String; 2],
        options: [Option<String>; 4],
        variables: Value,
    }

    impl Question {
        fn with<T>(&self, work: impl FnOnce(&Operation<'_>, &Audience<'_>) -> T) -> T {
            let [schema, text] = &self.texts;
            let [name, tenant, role, user] = self.options.each_ref().map(Option::as_deref);
            let operation = Operation { schema, text, name, variables: &self.variables };
            work(&operation, &Audience { tenant, role, user })
        }

        /// What is hashed; SHA-256 itself is trusted not to collide.
        fn bytes(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            self.with(|operation, audience| {
                write_question(&mut |part| bytes.extend_from_slice(part), operation, audience);
            });
            bytes
        }
    }

    /// Few letters, among them those of the encoding, so that two questions are often nearly the same.
    fn text() -> impl Strategy<Value = String> {
        "[-+ns{\\[a\0]{0,3}"
    }

    fn variables() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (0..3_i64).prop_map(Value::from),
            (0..3_i64).prop_map(|number| Value::from(number as f64)),
            text().prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                proptest::collection::vec((text(), inner), 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn question() -> impl Strategy<Value = Question> {
        let option = || proptest::option::of(text());
        ([text(), text()], [option(), option(), option(), option()], variables())
            .prop_map(|(texts, options, variables)| Question { texts, options, variables })
    }

    /// The same value with every object's fields the other way round.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Array(values) => values.iter().map(reversed).collect(),
            Value::Object(fields) => {
                fields.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect()
            }
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn different_questions_are_different_bytes(a in question(), b in question()) {
            prop_assert_eq!(a == b, a.bytes() == b.bytes());
        }

        #[test]
        fn a_question_that_differs_in_one_part_is_another(a in question(), b in question(), part in 0..7_usize) {
            let mut other = a.clone();
            match part {
                0 | 1 => other.texts[part] = b.texts[part].clone(),
                2..=5 => other.options[part - 2] = b.options[part - 2].clone(),
                _ => other.variables = b.variables,
            }
            prop_assert_eq!(a == other, a.bytes() == other.bytes());
        }

        #[test]
        fn text_that_moves_from_one_part_to_the_next_makes_another_question(
            a in question(), text in "[a-c]{1,6}", cut in 0..6_usize, other_cut in 0..6_usize,
        ) {
            let split = |cut: usize| {
                let (left, right) = text.split_at(cut.min(text.len()));
                Question { texts: [left.to_owned(), right.to_owned()], ..a.clone() }
            };
            let (one, other) = (split(cut), split(other_cut));
            prop_assert_eq!(one == other, one.bytes() == other.bytes());
        }

        #[test]
        fn the_order_of_fields_does_not_matter(a in question()) {
            let other = Question { variables: reversed(&a.variables), ..a.clone() };
            prop_assert_eq!(a.bytes(), other.bytes());
        }
    }

    fn key(variables: &Value, user: Option<&str>, scope: Scope) -> Key {
        let operation = Operation { schema: "1", text: "{ me { id } }", name: None, variables };
        let audience = Audience { tenant: Some("acme"), role: Some("viewer"), user };
        Key::new(&operation, &audience.within(scope))
    }

    #[test]
    fn two_users_share_a_public_answer_and_no_private_one() {
        let none = Value::Null;
        let (a, b) = (Some("a"), Some("b"));
        assert_ne!(key(&none, a, Scope::Private), key(&none, b, Scope::Private));
        assert_ne!(key(&none, a, Scope::Private), key(&none, None, Scope::Private));
        assert_eq!(key(&none, a, Scope::Public), key(&none, b, Scope::Public));
        assert_ne!(key(&json!({"id": 1}), a, Scope::Private), key(&json!({"id": "1"}), a, Scope::Private));
    }

    #[test]
    fn a_key_is_the_prefix_and_a_digest_and_stays_the_same_over_releases() {
        let key = key(&json!({"b": [1, null], "a": {}}), Some("u"), Scope::Private);
        // Computed by another implementation, from the description of the bytes.
        let digest = "a97b4954561b282f205663708caa2ecb63d643bef14fae9817d10e99759f3c15";
        assert_eq!(key.as_str(), format!("response:{digest}"), "a change needs a new FORMAT");
    }
}
