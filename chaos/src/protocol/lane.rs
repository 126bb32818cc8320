//! One way of an inspected connection: the bytes that wait for the decision on their message, and what became of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::inspector::Output;
use super::rule::Rule;
use super::session::{Answer, Decision, Fate};
use super::{LOOK_BYTES_MAX, Way};

#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The beginning of the current message, while it is not decided.
    held: BytesMut,
    /// How many of the held bytes were sent already, because no rule was there to concern them.
    early: usize,
    decided: Option<Decision>,
    /// The message so far, when it is to be sent twice.
    copy: BytesMut,
    /// Bytes of rules that wait for the next boundary between messages.
    pub answers: VecDeque<Answer>,
    /// An answer was sent with which the connection ends.
    pub closing: bool,
    /// Where the current message began.
    pub offset: u64,
    /// Bytes of the current message that came so far.
    pub size: u64,
    /// What the current message is.
    pub note: String,
    /// Everything is swallowed, to the record of the rule.
    silent: Option<Option<Arc<Rule>>>,
}

impl Lane {
    pub fn decided(&self) -> bool {
        self.decided.is_some()
    }

    pub fn left_early(&self) -> bool {
        self.early > 0
    }

    pub fn held_bytes(&self) -> usize {
        self.held.len() - self.early
    }

    /// Takes the next bytes of an undecided message and says where its head is: in the input, or, when the range is
    /// empty, in what is held. The second range is what comes behind the head.
    pub fn head(
        &mut self,
        emitter: &Emitter<'_>,
        range: Range<usize>,
        deciding: bool,
    ) -> (Range<usize>, Range<usize>) {
        let room = range.start + range.len().min(LOOK_BYTES_MAX - self.held.len());
        if self.held.is_empty() && deciding {
            return (range.start..room, room..range.end);
        }
        self.held.extend_from_slice(&emitter.input[range.start..room]);
        (range.start..range.start, room..range.end)
    }

    pub fn head_bytes<'a>(&'a self, emitter: &'a Emitter<'_>, head: &Range<usize>) -> &'a [u8] {
        if head.is_empty() { &self.held } else { &emitter.input[head.clone()] }
    }

    /// Sends what is held without waiting for the decision, which can only be to let it pass.
    pub fn forward_early(&mut self, emitter: &mut Emitter<'_>) {
        let fresh = Bytes::copy_from_slice(&self.held[self.early..]);
        if self.early == 0 {
            self.send_answers(emitter);
        }
        self.early = self.held.len();
        self.forward(emitter, fresh);
    }

    /// The current message is decided: its head goes where it has to.
    pub fn begin(&mut self, emitter: &mut Emitter<'_>, head: Range<usize>, mut decision: Decision) {
        if self.early > 0 {
            decision.fate = Fate::Pass;
        } else {
            self.send_answers(emitter);
        }
        if let Fate::Replace(bytes) = &decision.fate {
            self.inject(emitter, bytes.clone());
        }
        self.decided = Some(decision);
        if head.is_empty() {
            let mut held = self.held.split().freeze();
            let _ = held.split_to(self.early);
            self.early = 0;
            self.apply_bytes(emitter, held);
        } else {
            self.apply(emitter, head);
        }
    }

    /// More bytes of a decided message.
    pub fn apply(&mut self, emitter: &mut Emitter<'_>, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.fate() {
            Fate::Pass if self.silent.is_none() => emitter.forward(range),
            _ => {
                let bytes = emitter.input.slice(range);
                self.apply_bytes(emitter, bytes);
            }
        }
    }

    fn apply_bytes(&mut self, emitter: &mut Emitter<'_>, bytes: Bytes) {
        match self.fate() {
            Fate::Pass => self.forward(emitter, bytes),
            Fate::Twice => {
                self.copy.extend_from_slice(&bytes);
                self.forward(emitter, bytes);
            }
            Fate::Drop | Fate::Replace(_) => {
                if let Some(rule) = self.decided.as_ref().and_then(|decision| decision.rule.as_ref()) {
                    rule.counters.add_swallowed(bytes.len());
                }
            }
        }
    }

    fn fate(&self) -> &Fate {
        self.decided.as_ref().map_or(&Fate::Pass, |decision| &decision.fate)
    }

    /// The current message has come completely; its decision is returned for what follows.
    pub fn finish(&mut self, emitter: &mut Emitter<'_>) -> Decision {
        if !self.copy.is_empty() {
            let copy = self.copy.split().freeze();
            self.inject(emitter, copy);
        }
        let decision = self.decided.take().unwrap_or_default();
        self.send_answers(emitter);
        decision
    }

    /// Sends the answers that wait, when no message is under way.
    pub fn send_answers(&mut self, emitter: &mut Emitter<'_>) {
        if self.decided.is_some() || self.early > 0 {
            return;
        }
        while let Some(Answer { bytes, closes }) = self.answers.pop_front() {
            self.closing |= closes;
            if self.silent.is_none() {
                emitter.push(Output::Inject { way: Way::Downstream, bytes });
            }
        }
    }

    /// Gives up on the current message: what is held goes out, and what follows passes.
    pub fn release(&mut self, emitter: &mut Emitter<'_>) {
        self.send_answers(emitter);
        self.answers.clear();
        let mut held = self.held.split().freeze();
        let _ = held.split_to(self.early);
        self.early = 0;
        self.decided = None;
        self.copy = BytesMut::new();
        self.forward(emitter, held);
    }

    /// Bytes of a way in which nothing is seen any more.
    pub fn pass(&mut self, emitter: &mut Emitter<'_>, range: Range<usize>) {
        match &self.silent {
            None => emitter.forward(range),
            Some(_) => {
                let bytes = emitter.input.slice(range);
                self.forward(emitter, bytes);
            }
        }
    }

    pub fn silence(&mut self, rule: Option<Arc<Rule>>) {
        self.silent = Some(rule);
    }

    fn forward(&mut self, emitter: &mut Emitter<'_>, bytes: Bytes) {
        match &self.silent {
            Some(rule) => {
                if let Some(rule) = rule {
                    rule.counters.add_swallowed(bytes.len());
                }
            }
            None if bytes.is_empty() => {}
            None => emitter.push(Output::Forward { way: emitter.way, bytes }),
        }
    }

    fn inject(&mut self, emitter: &mut Emitter<'_>, bytes: Bytes) {
        if self.silent.is_none() {
            emitter.push(Output::Inject { way: emitter.way, bytes });
        }
    }
}

/// Collects what to do, and joins neighbouring bytes of the input into one piece.
pub(super) struct Emitter<'a> {
    way: Way,
    input: Bytes,
    run: Range<usize>,
    out: &'a mut Vec<Output>,
}

impl<'a> Emitter<'a> {
    pub fn new(way: Way, input: Bytes, out: &'a mut Vec<Output>) -> Emitter<'a> {
        Emitter { way, input, run: 0..0, out }
    }

    /// For the other way, of which nothing came now.
    pub fn of(&mut self, way: Way) -> Emitter<'_> {
        Emitter { way, input: Bytes::new(), run: 0..0, out: self.out }
    }

    pub fn forward(&mut self, range: Range<usize>) {
        if self.run.end != range.start {
            self.flush();
            self.run.start = range.start;
        }
        self.run.end = range.end;
    }

    pub fn push(&mut self, output: Output) {
        self.flush();
        self.out.push(output);
    }

    pub fn flush(&mut self) {
        if !self.run.is_empty() {
            let bytes = self.input.slice(self.run.clone());
            self.out.push(Output::Forward { way: self.way, bytes });
        }
        self.run = self.run.end..self.run.end;
    }
}
