//! `[webhooks.<name>]`: who may tell us of events at `POST /webhooks/<name>`, by which secret they are believed, and what is
//! done about which event.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{DocumentOperations, OperationDefinition, OperationType};
use serde::{Deserialize, Serialize};

use super::check::{Checks, TableChecks};
use super::error::Problem;
use super::source::Environment;
use super::units;

/// By the names in their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Webhooks(pub BTreeMap<String, WebhookConfig>);

/// One sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub provider: Provider,
    /// Name of the environment variable that holds the secret by which the sender signs.
    pub secret_env: String,
    /// How far the time of a signature may be from ours, for providers that sign a time.
    #[serde(with = "units::duration", default = "tolerance")]
    pub tolerance: Duration,
    /// Roles of the caller `webhook:<name>`, as whom handlers run.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What is done about which event; others are kept and ignored.
    #[serde(default)]
    pub handlers: Vec<Handler>,
    /// How often a handler is tried; then its event is kept as dead.
    #[serde(default = "max_attempts")]
    pub max_attempts: u32,
    /// The first wait between two attempts is at most this; each further one doubles.
    #[serde(with = "units::duration", default = "retry_base")]
    pub retry_base: Duration,
    /// No wait is longer.
    #[serde(with = "units::duration", default = "retry_longest")]
    pub retry_longest: Duration,
    /// For how long an event that is done with is remembered, and by that known when it is sent again.
    #[serde(with = "units::duration", default = "remember")]
    pub remember: Duration,
}

/// Whose way to sign it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Stripe,
    GitHub,
    Shopify,
}

/// What is done about an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    /// The event's type: `payment_intent.succeeded` of Stripe, `push` or `pull_request.closed` of GitHub, `orders/paid` of
    /// Shopify.
    pub event: String,
    /// One mutation of the schema that is served.
    pub mutation: String,
    /// The mutation's variables: where each is in the event, as a JSON Pointer (RFC 6901), or [`EVENT_KEY`].
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

/// As the value of a variable: what is the same for each delivery of an event, and another for each other event.
pub const EVENT_KEY: &str = "event_key";

/// What a sender signs with. Neither `Debug` nor any message shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

const fn tolerance() -> Duration {
    Duration::from_secs(300)
}

const fn max_attempts() -> u32 {
    20
}

const fn retry_base() -> Duration {
    Duration::from_secs(1)
}

const fn retry_longest() -> Duration {
    Duration::from_secs(300)
}

const fn remember() -> Duration {
    Duration::from_secs(30 * 24 * 3_600)
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stripe, Self::GitHub, Self::Shopify];

    /// As the configuration, metrics and logs call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::GitHub => "github",
            Self::Shopify => "shopify",
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A secret of this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The secret itself: for a signature, not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Webhooks {
    pub(super) fn check(&self, checks: &mut Checks) {
        for (name, webhook) in &self.0 {
            let named = (1..=64).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
            let allowed = "a name of 1 to 64 of the characters a-z 0-9 _ -";
            checks.table("webhooks").require("<name>", format!("{name:?}"), named, allowed);
            webhook.check(&mut checks.table(format!("webhooks.{name}")));
        }
    }

    /// The secrets, by the names of their webhooks.
    pub(super) fn secrets(
        &self,
        environment: &Environment,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<String, Secret> {
        let mut secrets = BTreeMap::new();
        for (name, webhook) in &self.0 {
            let (variable, provider) = (webhook.secret_env.as_str(), webhook.provider.name());
            let allowed = format!("the secret that {provider} signs with, for webhooks.{name}");
            match environment.get(variable) {
                None => problems.push(Problem::variable(variable, "is not set", &allowed)),
                Some(text) if text.trim() != text => {
                    let what = "begins or ends with a space or a line break (its value is not shown)";
                    problems.push(Problem::variable(variable, what, &allowed));
                }
                Some(text) => drop(secrets.insert(name.clone(), Secret::new(text))),
            }
        }
        secrets
    }
}

impl WebhookConfig {
    fn check(&self, table: &mut TableChecks<'_>) {
        table.variable_name("secret_env", &self.secret_env);
        table.duration("tolerance", self.tolerance, "1s", "1h");
        table.count("max_attempts", self.max_attempts.into(), 1..=1_000);
        table.duration("retry_base", self.retry_base, "1ms", "5m");
        table.duration("retry_longest", self.retry_longest, "1ms", "5m");
        table.duration("remember", self.remember, "1h", "3650d");
        let mut events = BTreeSet::new();
        for handler in &self.handlers {
            let event = &handler.event;
            let known = (1..=200).contains(&event.len()) && events.insert(event);
            table.require("handlers", format!("event {event:?}"), known, "each event once, and none empty");
            if let Err((what, allowed)) = handler.operation() {
                table.require("handlers", format!("{what} of {event:?}"), false, &allowed);
            }
        }
    }
}

impl Handler {
    /// What is wrong with the mutation or its variables, and what is allowed.
    fn operation(&self) -> Result<(), (String, String)> {
        let document = parse_query(&self.mutation);
        let document = document.map_err(|error| {
            (format!("mutation {:?}", self.mutation), format!("one mutation in GraphQL; {error}"))
        })?;
        let definition = match &document.operations {
            DocumentOperations::Single(operation) => Some(&operation.node),
            DocumentOperations::Multiple(operations) => match operations.len() {
                1 => operations.values().next().map(|operation| &operation.node),
                _ => None,
            },
        };
        let definition = definition.filter(|operation| operation.ty == OperationType::Mutation);
        let Some(definition) = definition else {
            return Err((format!("mutation {:?}", self.mutation), "one mutation".to_owned()));
        };
        self.fits(definition)
    }

    fn fits(&self, definition: &OperationDefinition) -> Result<(), (String, String)> {
        let declared: BTreeMap<&str, bool> = definition
            .variable_definitions
            .iter()
            .map(|variable| {
                let (variable, ty) = (&variable.node, &variable.node.var_type.node);
                (variable.name.node.as_str(), !ty.nullable && variable.default_value.is_none())
            })
            .collect();
        for (name, source) in &self.variables {
            if !declared.contains_key(name.as_str()) {
                let allowed: Vec<&str> = declared.keys().copied().collect();
                return Err((
                    format!("variable {name:?}"),
                    format!("variables of the mutation: {}", allowed.join(", ")),
                ));
            }
            if source != EVENT_KEY && !is_pointer(source) {
                let allowed = format!("a JSON Pointer such as \"/data/object/id\", or \"{EVENT_KEY}\"");
                return Err((format!("variable {name} = {source:?}"), allowed));
            }
        }
        match declared.iter().find(|(name, needed)| **needed && !self.variables.contains_key(**name)) {
            Some((name, _)) => {
                Err((format!("variables without {name:?}"), "a value for each that must have one".to_owned()))
            }
            None => Ok(()),
        }
    }
}

/// Whether it is a pointer of RFC 6901, section 3, to something within the document.
fn is_pointer(text: &str) -> bool {
    text.starts_with('/') && text.split('~').skip(1).all(|escaped| escaped.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(mutation: &str, variables: &[(&str, &str)]) -> Handler {
        let variables = variables.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect();
        Handler { event: "paid".to_owned(), mutation: mutation.to_owned(), variables }
    }

    #[test]
    fn a_handler_is_one_mutation_with_what_it_needs() {
        let pay = "mutation($id: ID!, $key: String, $n: Int! = 1) { pay(id: $id, key: $key, n: $n) { id } }";
        assert_eq!(handler(pay, &[("id", "/data/id"), ("key", EVENT_KEY)]).operation(), Ok(()));
        assert_eq!(handler(pay, &[("id", "/a~1b/~0")]).operation(), Ok(()));
        for (mutation, variables, told) in [
            ("{ a", &[][..], "mutation"),
            ("{ a }", &[], "mutation"),
            ("mutation A { a } mutation B { b }", &[], "mutation"),
            (pay, &[], "variables without \"id\""),
            (pay, &[("id", "/id"), ("other", "/other")], "variable \"other\""),
            (pay, &[("id", "id")], "variable id = \"id\""),
            (pay, &[("id", "/a~2")], "variable id = \"/a~2\""),
        ] {
            let problem = handler(mutation, variables).operation().expect_err(mutation);
            assert!(problem.0.starts_with(told), "{problem:?}");
        }
    }

    #[test]
    fn a_secret_is_in_no_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("whsec_1")), "Secret(…)");
    }
}
