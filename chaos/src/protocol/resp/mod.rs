//! Redis's protocol: which command runs on which key, and which reply is its.
//!
//! A command is failed by sending one in its place that no server knows, and putting the rule's error where the
//! server's was: replies stay in order, and a transaction under way is spoiled as it should be. Where the order of
//! replies is not that of the commands (RESP 2 subscriptions, MONITOR, replication), replies belong to nobody from
//! there on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::rule::{Action, Command, Judge, Rule, Seen, Side, Then};
use super::session::{Decision, End, Fate, Note, Scan, Session, readable};
use super::{Opaque, REQUESTS_MAX, Way};
use scan::Scanner;

mod command;
mod scan;

/// No server has such a command.
const UNKNOWN: &[u8] = b"*1\r\n$13\r\nchaos.refused\r\n";

#[derive(Debug, Default)]
pub(super) struct Resp {
    scanners: [Scanner; 2],
    replies: VecDeque<Mark>,
    /// Marks among the replies.
    marks: usize,
    /// Counted on this connection.
    commands: u64,
    answered: u64,
    /// RESP 3: what a subscription brings is marked as such.
    pushes: bool,
    /// HELLO 3 was sent, its reply has not come.
    hello: Option<u64>,
    /// A subscription was sent behind that HELLO: it brings pushes if the HELLO succeeds.
    subscribing: bool,
    /// Replies cannot be told from messages.
    unordered: bool,
    replies_off: bool,
    skip_next: bool,
}

/// What a rule wants of a reply.
#[derive(Debug, Clone)]
enum Mark {
    None,
    Drop(Arc<Rule>, Then),
    Fail(Arc<Rule>, Bytes, bool),
    Slow(Arc<Rule>, Duration),
}

impl Resp {
    pub fn new() -> Resp {
        Resp::default()
    }

    fn upstream(&mut self, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        let mut arguments = Vec::new();
        let command = command::read(head, &mut arguments);
        if command.name.is_empty() {
            // An empty line or array, which the server passes over.
            note.write(|| "nothing".into());
            return Decision::pass();
        }
        let key = command.key.map(|key| format!(" {}", readable(key))).unwrap_or_default();
        note.write(|| format!("{}{key}", readable(command.name)));
        let rule = match judge.idle() {
            true => None,
            false => judge.ask(Way::Upstream, &Seen::Redis { command: &command }),
        };
        let mut decision = Decision::pass();
        let mut mark = Mark::None;
        if let Some(rule) = rule {
            match &rule.action {
                Action::Reset => {
                    judge.acted(&rule, Way::Upstream);
                    return Decision { end: Some(End::Reset), ..Decision::drop(&rule) };
                }
                Action::Drop => {
                    judge.acted(&rule, Way::Upstream);
                    return Decision::drop(&rule);
                }
                Action::Delay { by, of: Side::Request } => {
                    judge.acted(&rule, Way::Upstream);
                    decision.hold = Some(*by);
                }
                Action::Delay { by, of: Side::Reply } => mark = Mark::Slow(rule.clone(), *by),
                Action::DropReply(then) => mark = Mark::Drop(rule.clone(), *then),
                // Without a reply that can be told there is nowhere to put an error.
                Action::Error(_) if self.replies_off || self.skip_next || self.unordered => {
                    judge.missed(&rule, Way::Upstream);
                }
                Action::Error(refusal) => {
                    mark = Mark::Fail(rule.clone(), refusal.bytes.clone(), refusal.closes);
                    let fate = Fate::Replace(Bytes::from_static(UNKNOWN));
                    decision = Decision { fate, rule: Some(rule.clone()), ..Decision::default() };
                    return self.expect(mark, decision, judge);
                }
                Action::Watch | Action::Duplicate => {}
            }
        }
        match self.follow(&command, &arguments) {
            Follow::OneReply => self.expect(mark, decision, judge),
            Follow::NoReply => {
                missed(&mark, judge);
                decision
            }
            Follow::Opaque(why) => {
                missed(&mark, judge);
                Decision { opaque: Some(why), ..decision }
            }
        }
    }

    fn expect(&mut self, mark: Mark, decision: Decision, judge: &mut Judge) -> Decision {
        self.commands += 1;
        if self.unordered {
            missed(&mark, judge);
            return decision;
        }
        self.marks += usize::from(!matches!(mark, Mark::None));
        self.replies.push_back(mark);
        match self.replies.len() > REQUESTS_MAX {
            true => Decision { opaque: Some(Opaque::Beyond("commands without replies")), ..decision },
            false => decision,
        }
    }

    /// From here on nobody can say whose a reply is.
    fn lose_order(&mut self, judge: &mut Judge) {
        self.unordered = true;
        self.replies.drain(..).for_each(|mark| missed(&mark, judge));
        self.marks = 0;
    }

    /// What the command does to the replies of this connection.
    fn follow(&mut self, command: &Command<'_>, arguments: &[&[u8]]) -> Follow {
        let is = |at: usize, word: &str| {
            arguments.get(at).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
        };
        let skipped = std::mem::take(&mut self.skip_next);
        match command.name.to_ascii_uppercase().as_slice() {
            b"CLIENT" if is(1, "REPLY") => match () {
                () if is(2, "OFF") => self.replies_off = true,
                () if is(2, "SKIP") => self.skip_next = !self.replies_off,
                () => {
                    self.replies_off = false;
                    return Follow::OneReply;
                }
            },
            b"RESET" => {
                self.replies_off = false;
                self.leave_three();
                return Follow::OneReply;
            }
            b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE" | b"PUNSUBSCRIBE"
            | b"SUNSUBSCRIBE" => {
                // In RESP 3 the answer is a push. HELLO's reply may still be under way.
                self.unordered |= !self.pushes && self.hello.is_none();
                self.subscribing |= self.hello.is_some();
            }
            b"MONITOR" => {
                self.unordered = true;
                return Follow::OneReply;
            }
            b"SYNC" | b"PSYNC" => return Follow::Opaque(Opaque::Unsupported("replication")),
            _ if self.replies_off || skipped => {}
            b"HELLO" if is(1, "3") => {
                self.hello = Some(self.commands);
                return Follow::OneReply;
            }
            b"HELLO" if is(1, "2") => {
                self.leave_three();
                return Follow::OneReply;
            }
            _ => return Follow::OneReply,
        }
        Follow::NoReply
    }

    /// Commands from here on are answered in RESP 2.
    fn leave_three(&mut self) {
        self.unordered |= self.subscribing;
        self.pushes = false;
        self.hello = None;
    }

    fn downstream(&mut self, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        let kind = head.first().copied().unwrap_or_default();
        if kind == b'>' {
            note.write(|| "push".into());
            return Decision::pass();
        }
        let Some(mark) = self.replies.pop_front() else {
            note.write(|| format!("{} of nobody", char::from(kind)));
            return Decision::pass();
        };
        let number = self.answered;
        self.answered += 1;
        note.write(|| format!("{} of #{}", char::from(kind), number + 1));
        self.marks -= usize::from(!matches!(mark, Mark::None));
        if self.hello == Some(number) {
            self.hello = None;
            // An error leaves the version as it was.
            self.pushes |= kind == b'%';
            if std::mem::take(&mut self.subscribing) && !self.pushes {
                self.lose_order(judge);
            }
        }
        match mark {
            Mark::None => Decision::pass(),
            Mark::Slow(rule, by) => {
                judge.acted(&rule, Way::Downstream);
                Decision { hold: Some(by), ..Decision::default() }
            }
            Mark::Drop(rule, then) => {
                judge.acted(&rule, Way::Downstream);
                let end = match then {
                    Then::Reset => End::Reset,
                    Then::Silence => End::Silence,
                };
                Decision { end: Some(end), ..Decision::drop(&rule) }
            }
            Mark::Fail(rule, error, closes) => {
                judge.acted(&rule, Way::Downstream);
                Decision {
                    fate: Fate::Replace(error),
                    end: closes.then_some(End::Close),
                    rule: Some(rule),
                    ..Decision::default()
                }
            }
        }
    }
}

enum Follow {
    OneReply,
    NoReply,
    Opaque(Opaque),
}

/// The command gets no reply of its own.
fn missed(mark: &Mark, judge: &mut Judge) {
    match mark {
        Mark::None => {}
        Mark::Drop(rule, _) | Mark::Fail(rule, ..) | Mark::Slow(rule, _) => {
            judge.missed(rule, Way::Upstream);
        }
    }
}

impl Session for Resp {
    fn scan(&mut self, way: Way, bytes: &[u8]) -> Scan {
        self.scanners[way.index()].scan(way, bytes)
    }

    fn look(&self, way: Way) -> usize {
        match way {
            Way::Upstream => usize::MAX,
            Way::Downstream => 1,
        }
    }

    fn busy(&self) -> bool {
        self.marks > 0
    }

    fn meet(&mut self, way: Way, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        match way {
            Way::Upstream => self.upstream(head, judge, note),
            Way::Downstream => self.downstream(head, judge, note),
        }
    }
}
