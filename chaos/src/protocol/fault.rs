//! Wire faults by the names that scenario files have for them, and messages of the wire that start other faults.
//!
//! Tags stand outside (`inject.pg.drop-ack = { … }`), unknown keys are errors, and every value is checked when it is
//! read: what was read can be injected.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Protocol;
use super::pattern::{Glob, Pattern, Subject};
use super::postgres::message::error_response;
use super::rule::{Action, Commands, Match, Names, Refusal, Rule, Side, Then};
use super::text::{CommandNames, NatsError, RedisError, SqlState};
use super::trigger::{Every, Nth, Share, Trigger};

/// Delays are cut to this.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

/// A fault in the messages of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WireFault {
    Pg(PgFault),
    Redis(RedisFault),
    Nats(NatsFault),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PgFault {
    DropAck(PgDropAck),
    Error(PgError),
    Slow(PgSlow),
    Reset(PgReset),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RedisFault {
    Reply(RedisReply),
    DropReply(RedisDropReply),
    Slow(RedisSlow),
    Reset(RedisReset),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NatsFault {
    DropPuback(NatsDropPuback),
    Drop(NatsDrop),
    Duplicate(NatsDuplicate),
    Err(NatsErr),
    Slow(NatsSlow),
    Reset(NatsReset),
}

/// Each fault has, beside its own fields, those that say on which of the messages that match it acts.
macro_rules! fault {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_about])* pub $field: $type,)*
            /// Only the matches with these ordinals, counted over the link from 1 while the fault acts.
            #[serde(default, skip_serializing_if = "Nth::is_empty")]
            pub nth: Nth,
            /// Only every so-manieth match.
            #[serde(default)]
            pub every: Every,
            /// Only this part of the matches, drawn by seed.
            #[serde(default)]
            pub share: Share,
            /// Only once so many bytes went over the connection, both ways together.
            #[serde(default)]
            pub after_bytes: u64,
        }

        impl $name {
            fn trigger(&self) -> Trigger {
                Trigger {
                    nth: self.nth.clone(),
                    every: self.every,
                    share: self.share,
                    after_bytes: self.after_bytes,
                }
            }
        }
    };
}

fault! {
    /// The statement is executed, its reply swallowed, and then the connection ends: applied, and answered by an error.
    /// A statement that the server fails by itself is not touched and counts as missed.
    PgDropAck {
        #[serde(default = "Pattern::commit")]
        r#match: Pattern,
        #[serde(default)]
        then: Then,
    }
}

fault! {
    /// The statement is not executed and fails with this code. A transaction under way is aborted.
    PgError {
        sqlstate: SqlState,
        /// Empty: the server's own words for the code.
        #[serde(default)]
        message: String,
        /// The session ends with it, as with 57P01.
        #[serde(default)]
        fatal: bool,
        #[serde(default = "Pattern::any")]
        r#match: Pattern,
    }
}

fault! {
    /// The statement, or its reply, comes so much later; what follows waits behind it.
    PgSlow {
        #[serde(with = "humantime_serde")]
        delay: Duration,
        #[serde(default)]
        of: Side,
        #[serde(default = "Pattern::any")]
        r#match: Pattern,
    }
}

fault! {
    /// The connection is reset when the statement comes; the server does not see it.
    PgReset {
        #[serde(default = "Pattern::any")]
        r#match: Pattern,
    }
}

fault! {
    /// The command is not executed and answered with this error. Without `command`: those that the error is about, so
    /// READONLY and OOM strike commands that write and NOSCRIPT strikes EVALSHA.
    RedisReply {
        error: RedisError,
        #[serde(default, skip_serializing_if = "CommandNames::is_empty")]
        command: CommandNames,
        #[serde(default = "Glob::any")]
        key: Glob,
    }
}

fault! {
    /// The command is executed, its reply swallowed, and then the connection ends.
    RedisDropReply {
        #[serde(default, skip_serializing_if = "CommandNames::is_empty")]
        command: CommandNames,
        #[serde(default = "Glob::any")]
        key: Glob,
        #[serde(default)]
        then: Then,
    }
}

fault! {
    /// The command, or its reply, comes so much later; what follows waits behind it.
    RedisSlow {
        #[serde(with = "humantime_serde")]
        delay: Duration,
        #[serde(default)]
        of: Side,
        #[serde(default, skip_serializing_if = "CommandNames::is_empty")]
        command: CommandNames,
        #[serde(default = "Glob::any")]
        key: Glob,
    }
}

fault! {
    /// The connection is reset when the command comes; the server does not see it.
    RedisReset {
        #[serde(default, skip_serializing_if = "CommandNames::is_empty")]
        command: CommandNames,
        #[serde(default = "Glob::any")]
        key: Glob,
    }
}

fault! {
    /// JetStream has stored the message and the publisher never hears of it.
    NatsDropPuback {
        #[serde(default = "Subject::any")]
        subject: Subject,
    }
}

fault! {
    /// A delivery is lost.
    NatsDrop {
        #[serde(default = "Subject::any")]
        subject: Subject,
    }
}

fault! {
    /// A delivery of at most 8 MiB comes twice.
    NatsDuplicate {
        #[serde(default = "Subject::any")]
        subject: Subject,
    }
}

fault! {
    /// A publish is refused with this error: the server does not see it.
    NatsErr {
        error: NatsError,
        #[serde(default = "Subject::any")]
        subject: Subject,
        /// The server ends the connection with it, as with most of its errors.
        #[serde(default)]
        closes: bool,
    }
}

fault! {
    /// A publish (`request`) or a delivery (`reply`) comes so much later; what follows waits behind it.
    NatsSlow {
        #[serde(with = "humantime_serde")]
        delay: Duration,
        #[serde(default)]
        of: Side,
        #[serde(default = "Subject::any")]
        subject: Subject,
    }
}

fault! {
    /// The connection is reset when a publish comes; the server does not see it.
    NatsReset {
        #[serde(default = "Subject::any")]
        subject: Subject,
    }
}

impl WireFault {
    /// The word for it in scenario files, histories and reports: `pg.drop-ack`.
    pub fn kind(&self) -> &'static str {
        match self {
            WireFault::Pg(PgFault::DropAck(_)) => "pg.drop-ack",
            WireFault::Pg(PgFault::Error(_)) => "pg.error",
            WireFault::Pg(PgFault::Slow(_)) => "pg.slow",
            WireFault::Pg(PgFault::Reset(_)) => "pg.reset",
            WireFault::Redis(RedisFault::Reply(_)) => "redis.reply",
            WireFault::Redis(RedisFault::DropReply(_)) => "redis.drop-reply",
            WireFault::Redis(RedisFault::Slow(_)) => "redis.slow",
            WireFault::Redis(RedisFault::Reset(_)) => "redis.reset",
            WireFault::Nats(NatsFault::DropPuback(_)) => "nats.drop-puback",
            WireFault::Nats(NatsFault::Drop(_)) => "nats.drop",
            WireFault::Nats(NatsFault::Duplicate(_)) => "nats.duplicate",
            WireFault::Nats(NatsFault::Err(_)) => "nats.err",
            WireFault::Nats(NatsFault::Slow(_)) => "nats.slow",
            WireFault::Nats(NatsFault::Reset(_)) => "nats.reset",
        }
    }

    pub fn protocol(&self) -> Protocol {
        match self {
            WireFault::Pg(_) => Protocol::Postgres,
            WireFault::Redis(_) => Protocol::Redis,
            WireFault::Nats(_) => Protocol::Nats,
        }
    }

    /// The rule that carries it out. `id` is unique among the rules of the link.
    pub fn rule(&self, id: u64) -> Arc<Rule> {
        let (matches, action, trigger) = match self {
            WireFault::Pg(fault) => fault.parts(),
            WireFault::Redis(fault) => fault.parts(),
            WireFault::Nats(fault) => fault.parts(),
        };
        Rule::new(id, self.protocol(), matches, trigger, action)
    }
}

type Parts = (Match, Action, Trigger);

fn delay(by: Duration, of: Side) -> Action {
    Action::Delay { by: by.min(DELAY_MAX), of }
}

impl PgFault {
    fn parts(&self) -> Parts {
        match self {
            PgFault::DropAck(f) => {
                (Match::Statement(f.r#match.clone()), Action::DropReply(f.then), f.trigger())
            }
            PgFault::Error(f) => {
                let severity = if f.fatal { "FATAL" } else { "ERROR" };
                let message = if f.message.is_empty() { f.sqlstate.message() } else { &f.message };
                let bytes = error_response(severity, f.sqlstate.as_str(), &message.replace('\0', " "));
                let refusal = Refusal { bytes, closes: f.fatal };
                (Match::Statement(f.r#match.clone()), Action::Error(refusal), f.trigger())
            }
            PgFault::Slow(f) => (Match::Statement(f.r#match.clone()), delay(f.delay, f.of), f.trigger()),
            PgFault::Reset(f) => (Match::Statement(f.r#match.clone()), Action::Reset, f.trigger()),
        }
    }
}

impl RedisFault {
    fn parts(&self) -> Parts {
        let commands = |names: Names, key: &Glob| Match::Command(Commands { names, key: key.clone() });
        let named = |given: &CommandNames| given.names_or(Names::Any);
        match self {
            RedisFault::Reply(f) => {
                let refusal =
                    Refusal { bytes: Bytes::from(format!("-{}\r\n", f.error.message())), closes: false };
                let names = f.command.names_or(f.error.strikes());
                (commands(names, &f.key), Action::Error(refusal), f.trigger())
            }
            RedisFault::DropReply(f) => {
                (commands(named(&f.command), &f.key), Action::DropReply(f.then), f.trigger())
            }
            RedisFault::Slow(f) => (commands(named(&f.command), &f.key), delay(f.delay, f.of), f.trigger()),
            RedisFault::Reset(f) => (commands(named(&f.command), &f.key), Action::Reset, f.trigger()),
        }
    }
}

impl NatsFault {
    fn parts(&self) -> Parts {
        match self {
            NatsFault::DropPuback(f) => (Match::PubAck(f.subject.clone()), Action::Drop, f.trigger()),
            NatsFault::Drop(f) => (Match::Delivery(f.subject.clone()), Action::Drop, f.trigger()),
            NatsFault::Duplicate(f) => (Match::Delivery(f.subject.clone()), Action::Duplicate, f.trigger()),
            NatsFault::Err(f) => {
                let bytes = Bytes::from(format!("-ERR '{}'\r\n", f.error.as_str()));
                let refusal = Refusal { bytes, closes: f.closes };
                (Match::Publish(f.subject.clone()), Action::Error(refusal), f.trigger())
            }
            NatsFault::Slow(f) => {
                let matches = match f.of {
                    Side::Request => Match::Publish(f.subject.clone()),
                    Side::Reply => Match::Delivery(f.subject.clone()),
                };
                (matches, delay(f.delay, f.of), f.trigger())
            }
            NatsFault::Reset(f) => (Match::Publish(f.subject.clone()), Action::Reset, f.trigger()),
        }
    }
}

/// A message that a proxy sees: `pg:COMMIT`, `pg:Execute`, `pg:queries`, `redis:EVALSHA`, `redis:commands`,
/// `nats:PUB orders.>`, `nats:PubAck`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WireEvent {
    written: String,
    protocol: Protocol,
    matches: Match,
}

impl WireEvent {
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Counts such messages; the ones with the ordinals in `nth` (none: all) count as acted on and are reported.
    pub fn watch(&self, id: u64, nth: Nth) -> Arc<Rule> {
        let trigger = Trigger { nth, ..Trigger::always() };
        Rule::new(id, self.protocol, self.matches.clone(), trigger, Action::Watch)
    }
}

impl FromStr for WireEvent {
    type Err = String;

    fn from_str(text: &str) -> Result<WireEvent, String> {
        let (protocol, what) = text
            .split_once(':')
            .and_then(|(name, what)| {
                Some((Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)?, what.trim()))
            })
            .ok_or_else(|| {
                format!("`{text}` names no message; write `pg:`, `redis:` or `nats:` and what it is")
            })?;
        let wrong = |error: super::pattern::PatternError| format!("`{text}`: {error}");
        let matches = match (protocol, what.split_once(' ')) {
            (_, None) if what.is_empty() => return Err(format!("`{text}` names no message after the colon")),
            (Protocol::Postgres, None) if what == "queries" => Match::Statement(Pattern::any()),
            (Protocol::Postgres, None) if super::postgres::is_message(what) => {
                Match::Message { name: what.to_owned(), subject: None }
            }
            (Protocol::Postgres, _) => Match::Statement(Pattern::keyword(what).map_err(wrong)?),
            (Protocol::Redis, None) if what == "commands" => {
                Match::Command(Commands { names: Names::Any, key: Glob::any() })
            }
            (Protocol::Redis, _) => {
                let names = CommandNames::try_from(what.to_owned())?.names_or(Names::Any);
                Match::Command(Commands { names, key: Glob::any() })
            }
            (Protocol::Nats, parts) => {
                let (verb, subject) =
                    parts.map_or((what, None), |(verb, subject)| (verb, Some(subject.trim())));
                if !super::nats::is_message(verb) {
                    return Err(format!("`{text}`: NATS has no message `{verb}`"));
                }
                let subject = subject.map(str::parse).transpose().map_err(wrong)?;
                Match::Message { name: verb.to_owned(), subject }
            }
        };
        Ok(WireEvent { written: text.to_owned(), protocol, matches })
    }
}

impl TryFrom<String> for WireEvent {
    type Error = String;

    fn try_from(text: String) -> Result<WireEvent, String> {
        text.parse()
    }
}

impl From<WireEvent> for String {
    fn from(event: WireEvent) -> String {
        event.written
    }
}

impl fmt::Display for WireEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}
