//! PostgreSQL's protocol, version 3: which statement runs, which reply is its, and how to fail it as the server would.
//!
//! A statement is failed by letting the server fail something in its place and putting the rule's error where the
//! server's was: the server then skips to Sync, aborts the transaction and reports its status by itself, so client and
//! server never disagree. A COMMIT that fails becomes a ROLLBACK, as the server's own would. Its acknowledgement counts
//! as swallowed when ReadyForQuery came: only then is an implicit transaction durable.

use std::sync::Arc;

use super::rule::{Action, Judge, Rule, Seen, Side, Then};
use super::session::{Decision, End, Fate, Note, Scan, Session, readable};
use super::{Opaque, REQUESTS_MAX, Way};
use message::Body;
use replies::{Expect, Mark, Replies, Request};
use scan::{Scanner, Shape};
use statements::{Names, TEXT_BYTES_MAX, Text};

pub(super) mod message;
mod replies;
mod scan;
mod statements;

#[derive(Debug, Default)]
pub(super) struct Postgres {
    scanners: [Scanner; 2],
    /// Requests for encryption that wait for their one byte.
    negotiating: usize,
    started: bool,
    cancelled: bool,
    statements: Names,
    portals: Names,
    replies: Replies,
    /// The reply that is being swallowed, up to ReadyForQuery.
    swallowing: Option<(Arc<Rule>, Then)>,
    /// What the client sends before its next Sync is not for the server.
    discarding: bool,
}

/// A message that executes a statement.
struct Executed<'a> {
    expect: Expect,
    text: Option<&'a [u8]>,
}

impl Postgres {
    pub fn new() -> Postgres {
        Postgres::default()
    }

    fn startup(&mut self, head: &[u8], note: &mut Note<'_>) -> Decision {
        let code = head.get(4..8).map_or(0, |code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        let name = match code {
            message::SSL => "SSLRequest",
            message::GSS => "GSSENCRequest",
            message::CANCEL => "CancelRequest",
            _ => "StartupMessage",
        };
        note.write(|| name.to_owned());
        match code {
            message::SSL | message::GSS if self.negotiating < 8 => self.negotiating += 1,
            message::SSL | message::GSS => {
                return Decision::opaque(Opaque::Malformed("no end of negotiating"));
            }
            message::CANCEL => self.cancelled = true,
            code if code >> 16 == 3 => {
                self.started = true;
                self.scanners[Way::Upstream.index()].shape = Shape::Typed;
                self.replies.push(Expect::Startup, Mark::None, false);
            }
            _ => return Decision::opaque(Opaque::Unsupported("a version that is not 3")),
        }
        Decision::pass()
    }

    fn upstream(&mut self, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        let kind = head[0];
        let name = message::name(Way::Upstream, kind).unwrap_or("unknown");
        if self.discarding && !matches!(kind, b'S' | b'X') {
            note.write(|| format!("{name} (discarded)"));
            return Decision { fate: Fate::Drop, ..Decision::default() };
        }
        let mut body = Body(&head[5..]);
        let mut known: Option<Text> = None;
        let mut executed = None;
        let expect = match kind {
            b'Q' => {
                executed = Some(Executed { expect: Expect::Query, text: Some(body.text()) });
                Expect::Query
            }
            b'P' => {
                self.parse(&mut body, note);
                Expect::Parse
            }
            b'B' => {
                self.bind(&mut body, note);
                Expect::Bind
            }
            b'E' => {
                known = body.string().and_then(|portal| self.portals.text(portal));
                Expect::Execute
            }
            b'C' => {
                self.close(&mut body);
                Expect::Close
            }
            b'D' => Expect::Describe,
            b'F' => Expect::Function,
            b'c' | b'f' => Expect::CopyEnd,
            b'S' => {
                self.discarding = false;
                Expect::Sync
            }
            _ => {
                note.write(|| name.to_owned());
                return self.other(name, judge);
            }
        };
        if kind == b'E' {
            executed = Some(Executed { expect: Expect::Execute, text: known.as_deref() });
        }
        let statement = executed.as_ref().map(|executed| executed.text);
        match &statement {
            Some(text) => note.write(|| match text {
                Some(text) => format!("{name} \"{}\"", readable(text)),
                None => format!("{name} (unknown)"),
            }),
            None if !matches!(kind, b'P' | b'B') => note.write(|| name.to_owned()),
            None => {}
        }
        let rule = match judge.idle() {
            true => None,
            false => judge.ask(Way::Upstream, &Seen::Postgres { name, statement }),
        };
        let decision = match (rule, executed) {
            (Some(rule), executed) => self.act(&rule, expect, executed, judge),
            (None, _) => {
                self.replies.push(expect, Mark::None, false);
                Decision::pass()
            }
        };
        match self.replies.len() > REQUESTS_MAX {
            true => Decision { opaque: Some(Opaque::Beyond("requests without replies")), ..decision },
            false => decision,
        }
    }

    /// Messages that the server does not answer.
    fn other(&mut self, name: &'static str, judge: &mut Judge) -> Decision {
        if judge.idle() {
            return Decision::pass();
        }
        let Some(rule) = judge.ask(Way::Upstream, &Seen::Postgres { name, statement: None }) else {
            return Decision::pass();
        };
        match rule.action {
            Action::Delay { by, .. } => {
                judge.acted(&rule, Way::Upstream);
                Decision { hold: Some(by), ..Decision::default() }
            }
            Action::Reset => reset(&rule, judge),
            _ => Decision::pass(),
        }
    }

    fn parse(&mut self, body: &mut Body<'_>, note: &mut Note<'_>) {
        let Some(name) = body.string() else { return };
        let text = body.text();
        note.write(|| format!("Parse \"{}\" as \"{}\"", readable(text), readable(name)));
        let kept = &text[..text.len().min(TEXT_BYTES_MAX)];
        self.statements.insert(name, Some(Arc::from(kept)));
    }

    fn bind(&mut self, body: &mut Body<'_>, note: &mut Note<'_>) {
        let Some(portal) = body.string() else { return };
        let text = body.string().and_then(|statement| {
            note.write(|| format!("Bind \"{}\" to \"{}\"", readable(portal), readable(statement)));
            self.statements.text(statement)
        });
        self.portals.insert(portal, text);
    }

    fn close(&mut self, body: &mut Body<'_>) {
        let Some((what, rest)) = body.0.split_first() else { return };
        let Some(name) = Body(rest).string() else { return };
        match what {
            b'S' => self.statements.remove(name),
            b'P' => self.portals.remove(name),
            _ => {}
        }
    }

    /// A rule acts on a request.
    fn act(
        &mut self,
        rule: &Arc<Rule>,
        expect: Expect,
        executed: Option<Executed<'_>>,
        judge: &mut Judge,
    ) -> Decision {
        let commit = executed.as_ref().and_then(|e| e.text).is_some_and(message::is_commit);
        let mut decision = Decision::pass();
        let mut mark = Mark::None;
        match (&rule.action, executed) {
            (Action::Reset, _) => return reset(rule, judge),
            (Action::Drop, _) => {
                judge.acted(rule, Way::Upstream);
                return Decision::drop(rule);
            }
            (Action::Delay { by, of: Side::Request }, _) => {
                judge.acted(rule, Way::Upstream);
                decision.hold = Some(*by);
            }
            (Action::Delay { by, of: Side::Reply }, _) => mark = Mark::Slow(rule.clone(), *by),
            (Action::DropReply(then), Some(_)) => mark = Mark::Ack(rule.clone(), *then),
            (Action::Error(_), Some(executed)) => return self.fail(rule, &executed, commit, judge),
            _ => {}
        }
        self.push(expect, mark, commit, judge);
        decision
    }

    /// A request goes to the server; what a rule wants of its reply is missed when there will be none.
    fn push(&mut self, expect: Expect, mark: Mark, commit: bool, judge: &mut Judge) {
        if !self.replies.push(expect, mark.clone(), commit) {
            missed(&mark, judge);
        }
    }

    /// Lets the server fail something else in the statement's place.
    fn fail(
        &mut self,
        rule: &Arc<Rule>,
        executed: &Executed<'_>,
        commit: bool,
        judge: &mut Judge,
    ) -> Decision {
        let (bytes, expect) = match (executed.expect, commit) {
            (Expect::Query, true) => (message::query("ROLLBACK"), Expect::Query),
            (Expect::Query, false) => (message::query("failed by chaos"), Expect::Query),
            (_, true) => {
                self.discarding = true;
                (message::query("ROLLBACK"), Expect::Rollback)
            }
            (_, false) => (message::execute_nothing(), Expect::Execute),
        };
        self.push(expect, Mark::Fail(rule.clone()), commit, judge);
        Decision { fate: Fate::Replace(bytes), rule: Some(rule.clone()), ..Decision::default() }
    }

    fn downstream(&mut self, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        let kind = head[0];
        let name = message::name(Way::Downstream, kind).unwrap_or("unknown");
        let body = &head[5..];
        let owner = self.replies.reply(kind, |skipped| missed(&skipped.mark, judge));
        note.write(|| describe(name, kind, body, owner.as_ref()));
        if kind == b'Z' && body.first() == Some(&b'I') && self.replies.len() == 0 {
            // Portals end with their transaction.
            self.portals.clear();
        }
        let asked = match judge.idle() {
            true => None,
            false => judge.ask(Way::Downstream, &Seen::Postgres { name, statement: None }),
        };
        if let Some(rule) = asked.filter(|rule| rule.action == Action::Reset) {
            return reset(&rule, judge);
        }
        if let Some((rule, then)) = self.swallowing.clone() {
            return self.swallow(kind, &rule, then, judge);
        }
        match owner {
            Some(owner) => self.answered(kind, body, &owner, judge),
            None => Decision::pass(),
        }
    }

    /// Part of a reply that is being swallowed.
    fn swallow(&mut self, kind: u8, rule: &Arc<Rule>, then: Then, judge: &mut Judge) -> Decision {
        match kind {
            b'N' | b'A' | b'S' => Decision::pass(),
            b'E' => {
                self.swallowing = None;
                judge.missed(rule, Way::Downstream);
                Decision::pass()
            }
            b'Z' => {
                self.swallowing = None;
                judge.acted(rule, Way::Downstream);
                let end = match then {
                    Then::Reset => End::Reset,
                    Then::Silence => End::Silence,
                };
                Decision { end: Some(end), ..Decision::drop(rule) }
            }
            _ => Decision::drop(rule),
        }
    }

    /// Part of the reply to `owner`.
    fn answered(&mut self, kind: u8, body: &[u8], owner: &Request, judge: &mut Judge) -> Decision {
        match &owner.mark {
            Mark::None if owner.expect == Expect::Rollback && kind == b'Z' => {
                Decision { fate: Fate::Drop, ..Decision::default() }
            }
            Mark::None => Decision::pass(),
            Mark::Slow(rule, by) => {
                self.replies.clear_mark(owner.id);
                judge.acted(rule, Way::Downstream);
                Decision { hold: Some(*by), ..Decision::default() }
            }
            Mark::Ack(rule, then) => self.acknowledged(kind, body, owner, rule, *then, judge),
            Mark::Fail(rule) => match (kind, &rule.action) {
                (b'E' | b'C', Action::Error(refusal)) => {
                    self.replies.clear_mark(owner.id);
                    judge.acted(rule, Way::Downstream);
                    Decision {
                        fate: Fate::Replace(refusal.bytes.clone()),
                        rule: Some(rule.clone()),
                        end: refusal.closes.then_some(End::Close),
                        ..Decision::default()
                    }
                }
                _ => Decision::pass(),
            },
        }
    }

    fn acknowledged(
        &mut self,
        kind: u8,
        body: &[u8],
        owner: &Request,
        rule: &Arc<Rule>,
        then: Then,
        judge: &mut Judge,
    ) -> Decision {
        let rolled_back = kind == b'C' && owner.commit && body.starts_with(b"ROLLBACK");
        match kind {
            b'E' | b'Z' => {}
            b'C' | b'I' | b's' if !rolled_back => {
                self.replies.clear_mark(owner.id);
                self.swallowing = Some((rule.clone(), then));
                return Decision::drop(rule);
            }
            b'G' | b'W' => return Decision::pass(),
            _ if !rolled_back => return Decision::drop(rule),
            _ => {}
        }
        self.replies.clear_mark(owner.id);
        judge.missed(rule, Way::Downstream);
        Decision::pass()
    }
}

/// Is there a message of this name?
pub(super) fn is_message(wanted: &str) -> bool {
    let of = |way| (0..=u8::MAX).filter_map(move |kind| message::name(way, kind));
    of(Way::Upstream).chain(of(Way::Downstream)).any(|name| name == wanted)
}

fn reset(rule: &Arc<Rule>, judge: &mut Judge) -> Decision {
    judge.acted(rule, Way::Upstream);
    Decision { end: Some(End::Reset), ..Decision::drop(rule) }
}

/// A request that the server does not get to.
fn missed(mark: &Mark, judge: &mut Judge) {
    match mark {
        Mark::None => {}
        Mark::Ack(rule, _) | Mark::Fail(rule) | Mark::Slow(rule, _) => judge.missed(rule, Way::Downstream),
    }
}

fn describe(name: &str, kind: u8, body: &[u8], owner: Option<&Request>) -> String {
    let detail = match kind {
        b'C' => format!(" \"{}\"", readable(Body(body).text())),
        b'E' => format!(" {}", readable(message::sqlstate(body).unwrap_or(b"?"))),
        b'Z' => format!(" {}", readable(body)),
        _ => String::new(),
    };
    match owner {
        Some(owner) => format!("{name}{detail} of #{}", owner.id),
        None => format!("{name}{detail}"),
    }
}

impl Session for Postgres {
    fn scan(&mut self, way: Way, bytes: &[u8]) -> Scan {
        if way == Way::Downstream && self.scanners[way.index()].at_boundary() {
            let shape = match (self.negotiating, self.started) {
                (0, true) => Shape::Typed,
                (0, false) => return Scan::Opaque(Opaque::Malformed("the server speaks first")),
                _ => Shape::Answer,
            };
            self.scanners[way.index()].shape = shape;
        }
        if way == Way::Upstream && self.cancelled {
            return Scan::Opaque(Opaque::Malformed("more after a request to cancel"));
        }
        self.scanners[way.index()].scan(way, bytes)
    }

    fn look(&self, way: Way) -> usize {
        self.scanners[way.index()].look(way)
    }

    fn busy(&self) -> bool {
        self.replies.marked() || self.swallowing.is_some() || self.discarding
    }

    fn meet(&mut self, way: Way, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        match way {
            Way::Upstream if !self.started => self.startup(head, note),
            Way::Upstream => self.upstream(head, judge, note),
            Way::Downstream if self.scanners[way.index()].shape == Shape::Answer => {
                self.negotiating -= 1;
                note.write(|| format!("answer {}", readable(head)));
                match head.first() {
                    Some(b'N') => Decision::pass(),
                    _ => Decision::opaque(Opaque::Encrypted),
                }
            }
            Way::Downstream => self.downstream(head, judge, note),
        }
    }
}
