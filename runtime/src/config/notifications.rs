//! `[notifications]`: what is told to the outside, by which ways, and how often it is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checks;
use super::resilience::Breaker;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notifications {
    pub enabled: bool,
    /// Name of the durable consumer in JetStream, which remembers what was told.
    pub consumer: String,
    /// Events that are told of at the same time.
    pub concurrency: u32,
    /// Calls of one action at the same time.
    pub in_flight_max: u32,
    /// Calls for one action of one notification; then it is given up and kept as dead.
    pub max_attempts: u32,
    /// One delivery by one action, its retries included; a later one follows.
    #[serde(with = "units::duration")]
    pub delivery_timeout: Duration,
    pub webhook_max_per_sec: u32,
    pub slack_max_per_sec: u32,
    pub email_max_per_sec: u32,
    pub retry: Retry,
    pub webhook: Webhook,
    pub slack: Slack,
    pub email: Email,
    /// What is told of which events.
    pub rules: Vec<Rule>,
}

/// How waits between attempts grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    pub strategy: Strategy,
    /// The first wait is at most this.
    #[serde(with = "units::duration")]
    pub base: Duration,
    /// None is longer.
    #[serde(with = "units::duration")]
    pub longest: Duration,
    /// Calls in one delivery.
    pub attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Doubles.
    #[default]
    Exponential,
    /// Grows by the base.
    Linear,
    /// Is the base.
    Fixed,
}

/// An endpoint that takes JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// Name of the environment variable that holds the URL; empty: there is none.
    pub url_env: String,
    /// One call.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    pub breaker: Breaker<5, 30, 1>,
}

/// An incoming webhook of Slack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slack {
    /// Name of the environment variable that holds the URL, which is a secret; empty: there is none.
    pub url_env: String,
    /// One call.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    pub breaker: Breaker<3, 30, 1>,
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Email {
    /// Name of the environment variable that holds the URL: `smtps://user:password@host`, or `smtp://host` without TLS
    /// and password; empty: there is none.
    pub url_env: String,
    /// The sender: `Shop <shop@example.com>`.
    pub from: String,
    /// One mail.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    pub breaker: Breaker<2, 30, 1>,
}

/// What is told of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The notification: `order_confirmation`.
    pub name: String,
    /// The last part of the event's subject: `status_changed`.
    pub event: String,
    /// Fields of the event and what they must be, as text.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    /// A function of the database that takes the event as `jsonb` and answers one row `(recipient, subject, body)` of
    /// texts, or none when there is nothing to tell.
    pub function: String,
    pub actions: Vec<Action>,
}

/// A way to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Webhook,
    Slack,
    Email,
}

const TIMEOUT: Duration = Duration::from_secs(5);

impl Default for Notifications {
    fn default() -> Self {
        Self {
            enabled: false,
            consumer: "notifications".to_owned(),
            concurrency: 32,
            in_flight_max: 64,
            max_attempts: 20,
            delivery_timeout: Duration::from_secs(30),
            webhook_max_per_sec: 50,
            slack_max_per_sec: 10,
            email_max_per_sec: 5,
            retry: Retry::default(),
            webhook: Webhook::default(),
            slack: Slack::default(),
            email: Email::default(),
            rules: Vec::new(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        let (base, longest) = (Duration::from_millis(100), Duration::from_secs(300));
        Self { strategy: Strategy::default(), base, longest, attempts: 3 }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        Self { url_env: String::new(), timeout: TIMEOUT, breaker: Breaker::default() }
    }
}

impl Default for Slack {
    fn default() -> Self {
        Self { url_env: String::new(), timeout: TIMEOUT, breaker: Breaker::default() }
    }
}

impl Default for Email {
    fn default() -> Self {
        let from = "FraiseQL <noreply@localhost>".to_owned();
        Self { url_env: String::new(), from, timeout: 2 * TIMEOUT, breaker: Breaker::default() }
    }
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Webhook, Self::Slack, Self::Email];

    /// As the configuration, metrics and logs call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Email => "email",
        }
    }
}

impl Notifications {
    /// The variable with the action's URL; `None` when it has none.
    pub fn url_env(&self, action: Action) -> Option<&str> {
        let name = match action {
            Action::Webhook => &self.webhook.url_env,
            Action::Slack => &self.slack.url_env,
            Action::Email => &self.email.url_env,
        };
        (!name.is_empty()).then_some(name.as_str())
    }

    pub(super) fn check(&self, checks: &mut Checks) {
        let mut table = checks.table("notifications");
        let token = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        };
        const TOKEN: &str = "1 to 64 of the characters A-Z a-z 0-9 _ -";
        table.require("consumer", &self.consumer, token(&self.consumer), TOKEN);
        table.count("concurrency", self.concurrency.into(), 1..=10_000);
        table.count("in_flight_max", self.in_flight_max.into(), 1..=10_000);
        table.count("max_attempts", self.max_attempts.into(), 1..=1_000);
        table.duration("delivery_timeout", self.delivery_timeout, "1s", "10m");
        table.count("webhook_max_per_sec", self.webhook_max_per_sec.into(), 1..=1_000_000);
        table.count("slack_max_per_sec", self.slack_max_per_sec.into(), 1..=1_000_000);
        table.count("email_max_per_sec", self.email_max_per_sec.into(), 1..=1_000_000);
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            let name = format!("{:?}", rule.name);
            table.require(
                "rules",
                &name,
                token(&rule.name) && names.insert(&rule.name),
                "each name once, of letters, digits, _ and -",
            );
            table.require("rules", format!("event {:?} of {name}", rule.event), token(&rule.event), TOKEN);
            let function = is_function(&rule.function);
            table.require(
                "rules",
                format!("function {:?} of {name}", rule.function),
                function,
                "a function's name, with its schema before a dot or without",
            );
            table.require(
                "rules",
                format!("{name} without actions"),
                !rule.actions.is_empty(),
                "one action at least",
            );
            for action in &rule.actions {
                let has = !self.enabled || self.url_env(*action).is_some();
                table.require(
                    "rules",
                    format!("{} of {name}", action.name()),
                    has,
                    "an action whose url_env is set",
                );
            }
        }
        let some = !self.enabled || !self.rules.is_empty();
        table.require("rules", "none", some, "one rule at least while notifications are enabled");
        let mut table = checks.table("notifications.retry");
        table.duration("base", self.retry.base, "1ms", "5m");
        table.duration("longest", self.retry.longest, "1ms", "5m");
        table.count("attempts", self.retry.attempts.into(), 1..=100);
        let mut table = checks.table("notifications.webhook");
        table.duration("timeout", self.webhook.timeout, "1ms", "5m");
        let mut table = checks.table("notifications.slack");
        table.duration("timeout", self.slack.timeout, "1ms", "5m");
        let mut table = checks.table("notifications.email");
        table.duration("timeout", self.email.timeout, "1ms", "5m");
        let from = self.email.from.parse::<lettre::message::Mailbox>().is_ok();
        table.require("from", &self.email.from, from, "an address, with a name before it or without");
        self.webhook.breaker.check(&mut checks.table("notifications.webhook.breaker"));
        self.slack.breaker.check(&mut checks.table("notifications.slack.breaker"));
        self.email.breaker.check(&mut checks.table("notifications.email.breaker"));
    }
}

/// A name that needs no quotes in SQL.
fn is_function(name: &str) -> bool {
    let word = |word: &str| {
        (1..=63).contains(&word.len())
            && !word.starts_with(|first: char| first.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    match name.split_once('.') {
        Some((schema, name)) => word(schema) && word(name),
        None => word(name),
    }
}
