//! `@cacheControl(maxAge:, scope:, staleIfError:)`: what the schema says about keeping an answer.
//!
//! Only the schema says so, never the text of an operation: a caller must not choose what is kept and who shares it.
//! An answer is kept for as long as the strictest of its fields allows.

use std::time::Duration;

use async_graphql::Value;
use async_graphql::parser::types::{ConstDirective, TypeSystemDefinition};

/// The directive's name, without `@`.
pub const DIRECTIVE: &str = "cacheControl";

/// Who may be given an answer that was computed for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The same user, in the same role and tenant. What is not said to be public is this.
    Private,
    /// Any user of the same role and tenant.
    Public,
}

/// How an answer, or a part of one, may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheControl {
    /// How long it is fresh. Zero: it is not kept.
    pub max_age: Duration,
    /// Who shares it.
    pub scope: Scope,
    /// How much longer it may stand in for a source that is away.
    pub stale_if_error: Duration,
}

impl CacheControl {
    /// For an answer with parts under both: the stricter of each.
    pub fn and(self, other: Self) -> Self {
        Self {
            max_age: self.max_age.min(other.max_age),
            scope: self.scope.min(other.scope),
            stale_if_error: self.stale_if_error.min(other.stale_if_error),
        }
    }
}

/// Why a directive of the schema is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is not a list of directives.
    #[error("not directives: {0}")]
    Syntax(String),
    /// The directive is there more than once.
    #[error("@cacheControl is there twice")]
    Repeated,
    /// There is no such argument, or it is there more than once.
    #[error("@cacheControl takes maxAge, scope and staleIfError, each once, not {0}")]
    Argument(String),
    /// Not whole seconds.
    #[error("{argument} of @cacheControl is whole seconds from 0 to 86400, not {value}")]
    Seconds {
        /// Which argument.
        argument: &'static str,
        /// What stands there.
        value: String,
    },
    /// Neither of the two.
    #[error("scope of @cacheControl is PUBLIC or PRIVATE, not {0}")]
    Scope(String),
}

/// Reads the directive.
#[derive(Debug, Clone, Copy)]
pub struct CacheControlParser {
    default_ttl: Duration,
}

impl CacheControlParser {
    /// `default_ttl` is the age of a directive without `maxAge`.
    pub fn new(default_ttl: Duration) -> Self {
        Self { default_ttl }
    }

    /// From directives as they are written in a schema, such as `@deprecated @cacheControl(maxAge: 60)`; `None` when
    /// `@cacheControl` is not among them.
    pub fn parse(&self, directives: &str) -> Result<Option<CacheControl>, ParseError> {
        let document = async_graphql::parser::parse_schema(format!("scalar Any {directives}"))
            .map_err(|error| ParseError::Syntax(error.to_string()))?;
        let [TypeSystemDefinition::Type(scalar)] = &document.definitions[..] else {
            return Err(ParseError::Syntax("there is more than directives".to_owned()));
        };
        let mut found = None;
        for directive in &scalar.node.directives {
            if directive.node.name.node == DIRECTIVE && found.replace(&directive.node).is_some() {
                return Err(ParseError::Repeated);
            }
        }
        found.map(|directive| self.read(directive)).transpose()
    }

    /// From one directive of a parsed schema, which must be `@cacheControl`.
    pub fn read(&self, directive: &ConstDirective) -> Result<CacheControl, ParseError> {
        let (mut max_age, mut scope, mut stale) = (None, None, None);
        for (name, value) in &directive.arguments {
            let value = &value.node;
            let repeated = match name.node.as_str() {
                "maxAge" => max_age.replace(seconds("maxAge", value)?).is_some(),
                "staleIfError" => stale.replace(seconds("staleIfError", value)?).is_some(),
                "scope" => scope.replace(read_scope(value)?).is_some(),
                _ => true,
            };
            if repeated {
                return Err(ParseError::Argument(name.node.to_string()));
            }
        }
        Ok(CacheControl {
            max_age: max_age.unwrap_or(self.default_ttl),
            scope: scope.unwrap_or(Scope::Private),
            stale_if_error: stale.unwrap_or(Duration::ZERO),
        })
    }
}

fn seconds(argument: &'static str, value: &Value) -> Result<Duration, ParseError> {
    const DAY: u64 = 86_400;
    let seconds = match value {
        Value::Number(number) => number.as_u64().filter(|seconds| *seconds <= DAY),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(|| ParseError::Seconds { argument, value: value.to_string() })
}

fn read_scope(value: &Value) -> Result<Scope, ParseError> {
    match value {
        Value::Enum(name) if name == "PUBLIC" => Ok(Scope::Public),
        Value::Enum(name) if name == "PRIVATE" => Ok(Scope::Private),
        _ => Err(ParseError::Scope(value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Duration = Duration::from_secs(60);

    fn parse(text: &str) -> Result<Option<CacheControl>, ParseError> {
        CacheControlParser::new(DEFAULT).parse(text)
    }

    fn told(text: &str) -> String {
        parse(text).expect_err("this is wrong").to_string()
    }

    #[test]
    fn the_directive_is_read_with_its_defaults() {
        let all = "@key @cacheControl(maxAge: 30, scope: PUBLIC, staleIfError: 600) @deprecated";
        let (max_age, stale_if_error) = (Duration::from_secs(30), Duration::from_secs(600));
        assert_eq!(parse(all), Ok(Some(CacheControl { max_age, scope: Scope::Public, stale_if_error })));
        let bare = CacheControl { max_age: DEFAULT, scope: Scope::Private, stale_if_error: Duration::ZERO };
        assert_eq!(parse("@cacheControl"), Ok(Some(bare)));
        assert_eq!(parse("@deprecated"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_told_and_never_guessed() {
        assert_eq!(told("@cacheControl @cacheControl"), "@cacheControl is there twice");
        let argument = "@cacheControl takes maxAge, scope and staleIfError, each once, not";
        assert_eq!(told("@cacheControl(maxage: 3)"), format!("{argument} maxage"));
        assert_eq!(told("@cacheControl(maxAge: 3, maxAge: 4)"), format!("{argument} maxAge"));
        let seconds = "maxAge of @cacheControl is whole seconds from 0 to 86400, not";
        for wrong in ["-1", "1.5", "\"60\"", "null", "86401", "99999999999999999999999"] {
            assert!(told(&format!("@cacheControl(maxAge: {wrong})")).starts_with(seconds), "{wrong}");
        }
        for wrong in ["\"PUBLIC\"", "Public", "SHARED", "true"] {
            let told = told(&format!("@cacheControl(scope: {wrong})"));
            assert_eq!(told, format!("scope of @cacheControl is PUBLIC or PRIVATE, not {wrong}"));
        }
        assert!(matches!(parse("@cacheControl("), Err(ParseError::Syntax(_))));
        assert!(matches!(parse("@a scalar Other @cacheControl"), Err(ParseError::Syntax(_))));
    }

    fn control() -> impl Strategy<Value = CacheControl> {
        let scope = prop_oneof![Just(Scope::Private), Just(Scope::Public)];
        (0..100_u64, scope, 0..100_u64).prop_map(|(age, scope, stale)| CacheControl {
            max_age: Duration::from_secs(age),
            scope,
            stale_if_error: Duration::from_secs(stale),
        })
    }

    proptest! {
        #[test]
        fn an_answer_is_kept_as_its_strictest_part_allows_in_whatever_order(
            a in control(), b in control(), c in control(),
        ) {
            let both = a.and(b);
            for part in [a, b] {
                prop_assert!(both.max_age <= part.max_age && both.stale_if_error <= part.stale_if_error);
                prop_assert!(both.scope == Scope::Private || part.scope == Scope::Public);
            }
            prop_assert_eq!(both, b.and(a));
            prop_assert_eq!(both.and(c), a.and(b.and(c)));
            prop_assert_eq!(a.and(a), a);
        }
    }
}
