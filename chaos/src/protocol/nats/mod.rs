//! NATS's protocol: who publishes what, what is delivered, and which delivery is JetStream's acknowledgement of a publish.
//!
//! An acknowledgement is a message to the reply subject of a publish, with a body as JetStream writes it; what another
//! client answers to a request is not one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::rule::{Action, Judge, Rule, Seen, Side};
use super::session::{Answer, Decision, End, Fate, Note, Scan, Session, readable};
use super::{Opaque, REQUESTS_MAX, Way};
use scan::{Scanner, Verb};

mod scan;

/// A delivery that is sent twice has to be kept once; longer ones are left alone. Bytes.
const COPY_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// So much of a delivery's body is read to see whether it is an acknowledgement, in bytes.
const BODY_BYTES: usize = 512;
/// Longest subject that is remembered, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Nats {
    scanners: [Scanner; 2],
    waiting: Publishes,
}

/// Publishes that wait for an answer: reply subject → subject. The oldest is forgotten first.
#[derive(Debug, Default)]
struct Publishes {
    subjects: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    order: VecDeque<Arc<[u8]>>,
}

impl Publishes {
    fn insert(&mut self, reply: &[u8], subject: &[u8]) {
        if reply.len() > SUBJECT_BYTES_MAX || subject.len() > SUBJECT_BYTES_MAX {
            return;
        }
        let reply: Arc<[u8]> = reply.into();
        if self.subjects.insert(reply.clone(), subject.into()).is_none() {
            self.order.push_back(reply);
        }
        // Answered ones leave their place in the order behind.
        while self.order.len() > REQUESTS_MAX / 4 {
            if let Some(oldest) = self.order.pop_front() {
                self.subjects.remove(&oldest);
            }
        }
    }

    fn take(&mut self, reply: &[u8]) -> Option<Arc<[u8]>> {
        let subject = self.subjects.remove(reply)?;
        // Answers mostly come in order, so that the front is usually the one, or was answered before.
        while self.order.front().is_some_and(|oldest| !self.subjects.contains_key(oldest)) {
            self.order.pop_front();
        }
        Some(subject)
    }
}

/// A control line in its words.
struct Line<'a> {
    text: &'a [u8],
    words: Vec<&'a [u8]>,
    body: &'a [u8],
    /// Length of the whole message, when it is known.
    total: Option<u64>,
}

impl<'a> Line<'a> {
    fn read(head: &'a [u8], total: Option<u64>) -> Line<'a> {
        let end = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1);
        let (line, body) = head.split_at(end);
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        // INFO and CONNECT have words without end; the longest other line has six.
        let words = words.take(6).collect();
        Line { text: line, words, body, total }
    }

    fn subject(&self) -> Option<&'a [u8]> {
        self.words.get(1).copied()
    }

    /// The reply subject, when `without` is how many words the line has without one.
    fn reply(&self, at: usize, without: usize) -> Option<&'a [u8]> {
        (self.words.len() > without).then(|| self.words.get(at).copied())?
    }
}

/// JetStream's own words: `{"stream":"ORDERS", "seq":7}`, `{"error":{…},"stream":"ORDERS","seq":0}`. Answers of its API
/// name their type, which an acknowledgement does not.
fn is_acknowledgement(body: &[u8]) -> bool {
    let body = &body[..body.len().min(BODY_BYTES)];
    let has = |word: &[u8]| body.windows(word.len()).any(|window| window == word);
    body.first() == Some(&b'{')
        && (has(b"\"stream\"") && has(b"\"seq\"") || has(b"\"err_code\""))
        && !has(b"\"io.nats.jetstream.api")
}

impl Nats {
    pub fn new() -> Nats {
        Nats::default()
    }

    fn upstream(&mut self, verb: Verb, line: &Line<'_>, judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        let subject = match verb {
            Verb::Pub | Verb::Hpub | Verb::Sub => line.subject(),
            _ => None,
        };
        describe(note, verb, subject);
        let decision = judged(Way::Upstream, verb.name(), verb, subject, line, judge);
        let reply = match verb {
            Verb::Pub => line.reply(2, 3),
            Verb::Hpub => line.reply(2, 4),
            _ => None,
        };
        if let (Some(reply), Some(subject), Fate::Pass) = (reply, subject, &decision.fate) {
            self.waiting.insert(reply, subject);
        }
        decision
    }

    fn downstream(
        &mut self,
        verb: Verb,
        line: &Line<'_>,
        judge: &mut Judge,
        note: &mut Note<'_>,
    ) -> Decision {
        match verb {
            Verb::Info => {
                note.write(|| "INFO".into());
                let decision = judged(Way::Downstream, verb.name(), verb, None, line, judge);
                let text: Vec<u8> = line.text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                let word = b"\"tls_required\":true";
                let encrypts = text.windows(word.len()).any(|window| window == word);
                let opaque = encrypts.then_some(Opaque::Encrypted);
                Decision { opaque, ..decision }
            }
            Verb::Msg | Verb::Hmsg => {
                let answers = line.subject().and_then(|subject| self.waiting.take(subject));
                match answers.filter(|_| verb == Verb::Msg && is_acknowledgement(line.body)) {
                    Some(subject) => {
                        note.write(|| format!("PubAck {}", readable(&subject)));
                        judged(Way::Downstream, "PubAck", verb, Some(&subject), line, judge)
                    }
                    None => {
                        describe(note, verb, line.subject());
                        judged(Way::Downstream, verb.name(), verb, line.subject(), line, judge)
                    }
                }
            }
            verb => {
                describe(note, verb, None);
                judged(Way::Downstream, verb.name(), verb, None, line, judge)
            }
        }
    }
}

fn judged(
    way: Way,
    name: &'static str,
    verb: Verb,
    subject: Option<&[u8]>,
    line: &Line<'_>,
    judge: &mut Judge,
) -> Decision {
    if judge.idle() {
        return Decision::pass();
    }
    match judge.ask(way, &Seen::Nats { name, subject }) {
        Some(rule) => act(&rule, way, verb, line, judge),
        None => Decision::pass(),
    }
}

/// Is there a message of this name? An acknowledgement of a publish has its own.
pub(super) fn is_message(name: &str) -> bool {
    name == "PubAck" || Verb::ALL.iter().any(|verb| verb.name() == name)
}

fn describe(note: &mut Note<'_>, verb: Verb, subject: Option<&[u8]>) {
    note.write(|| match subject {
        Some(subject) => format!("{} {}", verb.name(), readable(subject)),
        None => verb.name().to_owned(),
    });
}

fn act(rule: &Arc<Rule>, way: Way, verb: Verb, line: &Line<'_>, judge: &mut Judge) -> Decision {
    let decision = match &rule.action {
        Action::Reset => Decision { end: Some(End::Reset), ..Decision::drop(rule) },
        Action::Drop => Decision::drop(rule),
        Action::Delay { by, of: Side::Request | Side::Reply } => {
            Decision { hold: Some(*by), ..Decision::default() }
        }
        Action::Error(refusal) => Decision {
            answer: Some(Answer { bytes: refusal.bytes.clone(), closes: refusal.closes }),
            ..Decision::drop(rule)
        },
        Action::Duplicate
            if matches!(verb, Verb::Msg | Verb::Hmsg)
                && line.text.ends_with(b"\n")
                && line.total.is_some_and(|total| total <= COPY_BYTES_MAX) =>
        {
            Decision { fate: Fate::Twice, rule: Some(rule.clone()), ..Decision::default() }
        }
        Action::Duplicate | Action::DropReply(_) | Action::Watch => {
            judge.missed(rule, way);
            return Decision::pass();
        }
    };
    judge.acted(rule, way);
    decision
}

impl Session for Nats {
    fn scan(&mut self, way: Way, bytes: &[u8]) -> Scan {
        self.scanners[way.index()].scan(way, bytes)
    }

    fn look(&self, way: Way) -> usize {
        let behind = match way {
            Way::Upstream => 0,
            Way::Downstream => BODY_BYTES,
        };
        self.scanners[way.index()].look(behind)
    }

    fn busy(&self) -> bool {
        false
    }

    fn meet(&mut self, way: Way, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision {
        let line = Line::read(head, self.scanners[way.index()].total());
        let Some(verb) = line.words.first().and_then(|word| Verb::parse(way, word)) else {
            return Decision::pass();
        };
        match way {
            Way::Upstream => self.upstream(verb, &line, judge, note),
            Way::Downstream => self.downstream(verb, &line, judge, note),
        }
    }
}
