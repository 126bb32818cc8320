//! Stands on one connection, sees the bytes of both ways and says what to do with them.
//!
//! Promises: what no rule concerns leaves as it came, in order, for every way of cutting it; a message that a rule acts
//! on is acted on as a whole; bytes are kept back only while a rule might concern the message they begin, and then at
//! most [`LOOK_BYTES_MAX`] of each way. Work is linear in the bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::lane::{Emitter, Lane};
use super::nats::Nats;
use super::postgres::Postgres;
use super::resp::Resp;
use super::rule::{Judge, Report, Rule};
use super::session::{Decision, End, Note, Scan, Session};
use super::{LOOK_BYTES_MAX, Opaque, Protocol, Way};
use crate::seed;

/// What the proxy has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send bytes that came on this way.
    Forward { way: Way, bytes: Bytes },
    /// Send bytes that a rule made, on this way and between the bytes before and after.
    Inject { way: Way, bytes: Bytes },
    /// What follows on this way, the end of its stream too, is not sent before this instant.
    Hold { way: Way, until: Instant },
    /// End the connection with RST on both sides. Nothing follows.
    Reset,
    /// End the connection with FIN on both sides once what is before this was sent. Nothing follows.
    Close,
    /// For the event stream.
    Report(Report),
}

/// A message that was seen, for those who want to read along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub way: Way,
    /// Where it begins in its way, in bytes.
    pub offset: u64,
    pub length: u64,
    /// What it is, in a line: `Query "COMMIT"`, `CommandComplete "COMMIT"`, `SET key`, `PUB orders.created`.
    pub what: String,
}

/// Both ways of one connection.
pub struct Inspector {
    protocol: Protocol,
    session: Box<dyn Session>,
    judge: Judge,
    lanes: [Lane; 2],
    opaque: Option<(Way, Opaque)>,
    ended: bool,
    trace: Option<Vec<Message>>,
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inspector { judge, opaque, ended, .. } = self;
        f.debug_struct("Inspector")
            .field("judge", judge)
            .field("opaque", opaque)
            .field("ended", ended)
            .finish()
    }
}

impl Inspector {
    /// For a connection of which nothing was sent yet. `rules` of other protocols are left out. `seed` belongs to this
    /// connection alone.
    pub fn new(protocol: Protocol, rules: &[Arc<Rule>], seed: u64) -> Inspector {
        let session: Box<dyn Session> = match protocol {
            Protocol::Postgres => Box::new(Postgres::new()),
            Protocol::Redis => Box::new(Resp::new()),
            Protocol::Nats => Box::new(Nats::new()),
        };
        let mut judge = Judge::new(seed::stream(seed, &["wire"]));
        judge.set_rules(of_protocol(protocol, rules));
        Inspector {
            protocol,
            session,
            judge,
            lanes: [Lane::default(), Lane::default()],
            opaque: None,
            ended: false,
            trace: None,
        }
    }

    /// The rules that act from now on. What a rule has begun, it goes through with.
    pub fn set_rules(&mut self, rules: &[Arc<Rule>], out: &mut Vec<Output>) {
        self.judge.set_rules(of_protocol(self.protocol, rules));
        if let Some((way, why)) = self.opaque {
            self.judge.blind(way, why);
        }
        self.report(out);
    }

    /// Records each message from now on, for [`Inspector::messages`].
    pub fn read_along(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The messages that ended since the last call.
    pub fn messages(&mut self) -> Vec<Message> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Why nothing can be seen on this connection any more.
    pub fn opaque(&self) -> Option<Opaque> {
        self.opaque.map(|(_, why)| why)
    }

    /// Bytes kept back on both ways.
    pub fn held_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::held_bytes).sum()
    }

    /// Bytes came on `way` at `now`. What to do is appended to `out`.
    pub fn feed(&mut self, way: Way, bytes: Bytes, now: Instant, out: &mut Vec<Output>) {
        if bytes.is_empty() || self.ended {
            return;
        }
        let mut emitter = Emitter::new(way, bytes.clone(), out);
        let mut at = 0;
        while at < bytes.len() && !self.ended {
            // What was decided on a message holds to its end, although nothing can be seen behind it.
            if self.opaque.is_some() && !self.lanes[way.index()].decided() {
                self.lanes[way.index()].pass(&mut emitter, at..bytes.len());
                break;
            }
            match self.session.scan(way, &bytes[at..]) {
                Scan::Opaque(why) => self.turn_opaque(way, why, &mut emitter),
                Scan::More => {
                    self.piece(way, at..bytes.len(), false, now, &mut emitter);
                    at = bytes.len();
                }
                Scan::End(count) => {
                    self.piece(way, at..at + count, true, now, &mut emitter);
                    at += count;
                }
            }
        }
        emitter.flush();
        self.report(out);
    }

    /// The stream of `way` has ended: what was kept back of an incomplete message goes out.
    pub fn end(&mut self, way: Way, out: &mut Vec<Output>) {
        if self.ended {
            return;
        }
        let mut emitter = Emitter::new(way, Bytes::new(), out);
        self.lanes[way.index()].release(&mut emitter);
        emitter.flush();
    }

    /// Part of a message, which `ends` with it.
    fn piece(
        &mut self,
        way: Way,
        range: std::ops::Range<usize>,
        ends: bool,
        now: Instant,
        emitter: &mut Emitter<'_>,
    ) {
        let other = &self.lanes[way.other().index()];
        let theirs = other.offset + other.size;
        let lane = &mut self.lanes[way.index()];
        lane.size += range.len() as u64;
        let rest = if lane.decided() {
            range
        } else {
            let look = self.session.look(way).min(LOOK_BYTES_MAX);
            let (head, rest) = lane.head(emitter, range, ends || lane.size >= look as u64);
            if !ends && lane.size < look as u64 {
                // Without rules nothing can come of waiting.
                if self.judge.idle() && !self.session.busy() {
                    lane.forward_early(emitter);
                }
                return;
            }
            let mut line = String::new();
            let mut note = Note(self.trace.as_ref().map(|_| &mut line));
            // What has left in part is not acted on, even if a rule came meanwhile.
            self.judge.deaf = lane.left_early();
            self.judge.bytes = lane.offset + theirs;
            let bytes = lane.head_bytes(emitter, &head);
            let decision = self.session.meet(way, bytes, &mut self.judge, &mut note);
            lane.note = line;
            self.decide(way, head, decision, now, emitter);
            rest
        };
        self.lanes[way.index()].apply(emitter, rest);
        if ends {
            self.finish(way, emitter);
        }
    }

    fn decide(
        &mut self,
        way: Way,
        head: std::ops::Range<usize>,
        decision: Decision,
        now: Instant,
        emitter: &mut Emitter<'_>,
    ) {
        if let Some(by) = decision.hold {
            emitter.push(Output::Hold { way, until: now + by });
        }
        if let Some(answer) = decision.answer.clone() {
            self.lanes[Way::Downstream.index()].answers.push_back(answer);
            // The other way may stand between two messages already.
            if way == Way::Upstream {
                self.lanes[Way::Downstream.index()].send_answers(emitter);
            }
        }
        self.lanes[way.index()].begin(emitter, head, decision);
        self.close_if_told(emitter);
    }

    /// An answer that closes is the last that the client hears, although what it answers may not have come to its end.
    fn close_if_told(&mut self, emitter: &mut Emitter<'_>) {
        if self.lanes[Way::Downstream.index()].closing {
            self.end_with(Output::Close, emitter);
        }
    }

    /// The current message of `way` is complete.
    fn finish(&mut self, way: Way, emitter: &mut Emitter<'_>) {
        let lane = &mut self.lanes[way.index()];
        let decision = lane.finish(emitter);
        if let Some(trace) = &mut self.trace {
            let what = std::mem::take(&mut lane.note);
            trace.push(Message { way, offset: lane.offset, length: lane.size, what });
        }
        lane.offset += lane.size;
        lane.size = 0;
        match decision.end {
            Some(End::Reset) => self.end_with(Output::Reset, emitter),
            Some(End::Close) => self.end_with(Output::Close, emitter),
            Some(End::Silence) => self.lanes[Way::Downstream.index()].silence(decision.rule.clone()),
            None => {}
        }
        if let Some(why) = decision.opaque {
            self.turn_opaque(way, why, emitter);
        }
        self.close_if_told(emitter);
    }

    fn end_with(&mut self, output: Output, emitter: &mut Emitter<'_>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for report in self.judge.reports.drain(..) {
            emitter.push(Output::Report(report));
        }
        emitter.push(output);
    }

    /// Nothing is kept back any more, on either way.
    fn turn_opaque(&mut self, way: Way, why: Opaque, emitter: &mut Emitter<'_>) {
        if self.opaque.is_none() {
            self.opaque = Some((way, why));
            self.judge.blind(way, why);
        }
        self.lanes[way.index()].release(emitter);
        let other = &mut self.lanes[way.other().index()];
        if !other.decided() {
            let mut theirs = emitter.of(way.other());
            other.release(&mut theirs);
            theirs.flush();
        }
    }

    fn report(&mut self, out: &mut Vec<Output>) {
        out.extend(self.judge.reports.drain(..).map(Output::Report));
    }
}

fn of_protocol(protocol: Protocol, rules: &[Arc<Rule>]) -> Arc<[Arc<Rule>]> {
    rules.iter().filter(|rule| rule.protocol == protocol).cloned().collect()
}
