//! Rules: what a message must be, when to act on it, what to do. Judging is a pure function of what was seen, of the
//! count of matches and of a random stream; the proxy executes.
//!
//! A rule counts what it matched, on what it acted, and how often it could not see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::pattern::{Glob, Pattern, Subject};
use super::trigger::Trigger;
use super::{Opaque, Protocol, Way};

/// One rule of a link, shared by its connections.
#[derive(Debug)]
pub struct Rule {
    /// Chosen by the caller, unique among the rules of a link.
    pub id: u64,
    pub protocol: Protocol,
    pub matches: Match,
    pub trigger: Trigger,
    pub action: Action,
    pub counters: Counters,
}

impl Rule {
    pub fn new(id: u64, protocol: Protocol, matches: Match, trigger: Trigger, action: Action) -> Arc<Rule> {
        Arc::new(Rule { id, protocol, matches, trigger, action, counters: Counters::default() })
    }
}

/// What a message must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Match {
    /// A message of this name; with an empty subject pattern, whatever it concerns.
    Message { name: String, subject: Option<Subject> },
    /// A statement that is executed, by the simple or the extended protocol.
    Statement(Pattern),
    /// A Redis command.
    Command(Commands),
    /// A publish.
    Publish(Subject),
    /// The acknowledgement of a publish to this subject by JetStream.
    PubAck(Subject),
    /// A message that the server delivers, acknowledgements of publishes apart.
    Delivery(Subject),
}

/// Which Redis commands.
#[derive(Debug, Clone, PartialEq)]
pub struct Commands {
    pub names: Names,
    /// Glob of the first key; a command without a key matches `*` only.
    pub key: Glob,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Names {
    /// Every command but those that set a connection up.
    Any,
    /// Commands that change data, as a replica or a full instance refuses them.
    Writes,
    /// Upper case; two words for a subcommand.
    These(Vec<String>),
}

/// What to do with a message that matched when the trigger fires.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing but counting: a trigger for something else.
    Watch,
    /// Swallow the message.
    Drop,
    /// Swallow the message and reset the connection.
    Reset,
    /// Keep the request, or the first byte of its reply, back for so long; what follows waits behind it.
    Delay { by: Duration, of: Side },
    /// Let the request through, swallow the reply that says it was done, and then do this.
    DropReply(Then),
    /// The request is not executed and answered with this error.
    Error(Refusal),
    /// Deliver the message twice.
    Duplicate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    #[default]
    Request,
    Reply,
}

/// After a swallowed reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Reset the connection.
    #[default]
    Reset,
    /// Keep it open and swallow everything that the server sends on it from there on.
    Silence,
}

/// An error made by a rule, in its protocol's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub bytes: Bytes,
    /// The server would close the connection after it.
    pub closes: bool,
}

/// What one message turned out to be.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// `statement` is set for a message that executes one; the inner `None` says that its text is not known.
    Postgres {
        name: &'static str,
        statement: Option<Option<&'a [u8]>>,
    },
    Redis {
        command: &'a Command<'a>,
    },
    Nats {
        name: &'static str,
        subject: Option<&'a [u8]>,
    },
}

/// Name, subcommand and first key of a Redis command, as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Command<'a> {
    pub name: &'a [u8],
    pub sub: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Other,
    Write,
    /// AUTH, HELLO and the like.
    Setup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hit {
    Yes,
    No,
    Blind,
}

impl Match {
    fn hit(&self, seen: &Seen<'_>) -> Hit {
        let hit = match (self, seen) {
            (Match::Message { name, .. }, Seen::Postgres { name: seen, .. }) => name == seen,
            (Match::Message { name, subject }, Seen::Nats { name: seen, subject: on }) => {
                name == seen
                    && subject.as_ref().is_none_or(|wanted| on.is_some_and(|subject| wanted.matches(subject)))
            }
            (Match::Statement(pattern), Seen::Postgres { statement: Some(statement), .. }) => match statement
            {
                Some(text) => pattern.matches(text),
                None => return Hit::Blind,
            },
            (Match::Command(commands), Seen::Redis { command }) => commands.matches(command),
            (Match::Publish(wanted), Seen::Nats { name: "PUB" | "HPUB", subject: Some(subject) })
            | (Match::PubAck(wanted), Seen::Nats { name: "PubAck", subject: Some(subject) })
            | (Match::Delivery(wanted), Seen::Nats { name: "MSG" | "HMSG", subject: Some(subject) }) => {
                wanted.matches(subject)
            }
            _ => false,
        };
        if hit { Hit::Yes } else { Hit::No }
    }
}

impl Commands {
    fn matches(&self, command: &Command<'_>) -> bool {
        let named = match &self.names {
            Names::Any => command.kind != Kind::Setup,
            Names::Writes => command.kind == Kind::Write,
            Names::These(names) => names.iter().any(|name| {
                let (first, second) =
                    name.split_once(' ').map_or((name.as_str(), None), |(a, b)| (a, Some(b)));
                command.name.eq_ignore_ascii_case(first.as_bytes())
                    && second.is_none_or(|second| {
                        command.sub.is_some_and(|sub| sub.eq_ignore_ascii_case(second.as_bytes()))
                    })
            }),
        };
        named && (self.key.is_any() || command.key.is_some_and(|key| self.key.matches(key)))
    }
}

/// Evidence under collection: counters that only grow.
#[derive(Debug, Default)]
pub struct Counters {
    matched: AtomicU64,
    acted: AtomicU64,
    missed: AtomicU64,
    blind: AtomicU64,
    swallowed: AtomicU64,
}

/// What a rule did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Messages that the rule was about.
    pub matched: u64,
    /// Messages on which it acted, completely.
    pub acted: u64,
    /// Messages on which it began to act and could not go through with it: the server failed them by itself.
    pub missed: u64,
    /// Connections, and messages on visible ones, that the rule could not see.
    pub blind: u64,
    pub swallowed_bytes: u64,
}

impl Counters {
    pub fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            matched: read(&self.matched),
            acted: read(&self.acted),
            missed: read(&self.missed),
            blind: read(&self.blind),
            swallowed_bytes: read(&self.swallowed),
        }
    }

    /// A connection that nobody inspects, for example because it was open before the link knew its protocol.
    pub fn add_blind(&self) {
        self.blind.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_swallowed(&self, bytes: usize) {
        self.swallowed.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// One thing that a rule did on a connection, for the event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub rule: u64,
    pub way: Way,
    pub did: Did,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Acted,
    /// Began to act, but the server failed the request by itself.
    Missed,
    Blind(Opaque),
}

/// The rules of a link as one connection asks them.
#[derive(Debug)]
pub(super) struct Judge {
    rules: Arc<[Arc<Rule>]>,
    rng: ChaCha8Rng,
    /// Bytes that went over the connection before the message that is being met, both ways together.
    pub bytes: u64,
    pub reports: Vec<Report>,
    /// Set while a message is met that no rule may act on.
    pub deaf: bool,
    /// Rules that have counted this connection as one they cannot see.
    blinded: Vec<u64>,
}

impl Judge {
    pub fn new(rng: ChaCha8Rng) -> Judge {
        Judge { rules: Arc::new([]), rng, bytes: 0, reports: Vec::new(), deaf: false, blinded: Vec::new() }
    }

    pub fn set_rules(&mut self, rules: Arc<[Arc<Rule>]>) {
        self.blinded.retain(|id| rules.iter().any(|rule| rule.id == *id));
        self.rules = rules;
    }

    pub fn idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// Counts the message with every rule that it concerns, and names the first that acts on it.
    pub fn ask(&mut self, way: Way, seen: &Seen<'_>) -> Option<Arc<Rule>> {
        let mut acts = None;
        if self.deaf {
            return None;
        }
        for rule in self.rules.iter() {
            if self.bytes < rule.trigger.after_bytes {
                continue;
            }
            match rule.matches.hit(seen) {
                Hit::No => continue,
                Hit::Blind => {
                    rule.counters.blind.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Hit::Yes => {}
            }
            let ordinal = rule.counters.matched.fetch_add(1, Ordering::Relaxed) + 1;
            if !rule.trigger.fires(ordinal, &mut self.rng) {
                continue;
            }
            match rule.action {
                Action::Watch => {
                    rule.counters.acted.fetch_add(1, Ordering::Relaxed);
                    self.reports.push(Report { rule: rule.id, way, did: Did::Acted });
                }
                _ if acts.is_none() => acts = Some(rule.clone()),
                _ => {}
            }
        }
        acts
    }

    pub fn acted(&mut self, rule: &Rule, way: Way) {
        rule.counters.acted.fetch_add(1, Ordering::Relaxed);
        self.reports.push(Report { rule: rule.id, way, did: Did::Acted });
    }

    pub fn missed(&mut self, rule: &Rule, way: Way) {
        rule.counters.missed.fetch_add(1, Ordering::Relaxed);
        self.reports.push(Report { rule: rule.id, way, did: Did::Missed });
    }

    /// Nothing can be seen on this connection: each rule counts it once.
    pub fn blind(&mut self, way: Way, why: Opaque) {
        for rule in self.rules.iter().filter(|rule| !self.blinded.contains(&rule.id)) {
            rule.counters.add_blind();
            self.reports.push(Report { rule: rule.id, way, did: Did::Blind(why) });
        }
        self.blinded = self.rules.iter().map(|rule| rule.id).collect();
    }
}
