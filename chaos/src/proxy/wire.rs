//! What stands between the two links of a connection whose protocol is known: an [`Inspector`] and what it decided.
//!
//! Both links feed it, and a message of one way can have bytes made for the other, so what is decided waits here until the
//! link that it concerns takes it. Nothing waits longer than until that link is polled next, which the connection sees to.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::protocol::inspector::{Inspector, Output};
use crate::protocol::rule::{Report, Rule};
use crate::protocol::{Protocol, Way};
use crate::toxic::pipeline::Finish;

/// What a link has to do next, in this order.
#[derive(Debug)]
pub(super) enum Todo {
    Send(Bytes),
    /// Nothing that follows leaves before this instant.
    Hold(Instant),
    /// The stream ends here, although its sender goes on.
    End,
}

#[derive(Debug)]
struct State {
    inspector: Inspector,
    /// Version of the plan whose rules act; `None`: none yet.
    followed: Option<u64>,
    upstream: VecDeque<Todo>,
    downstream: VecDeque<Todo>,
    ending: Option<Finish>,
    reports: Vec<Report>,
    /// Kept for its memory.
    outputs: Vec<Output>,
}

#[derive(Debug)]
pub(super) struct Wire(Mutex<State>);

impl Wire {
    /// `seed` belongs to this connection alone.
    pub fn new(protocol: Protocol, seed: u64) -> Wire {
        Wire(Mutex::new(State {
            inspector: Inspector::new(protocol, &[], seed),
            followed: None,
            upstream: VecDeque::new(),
            downstream: VecDeque::new(),
            ending: None,
            reports: Vec::new(),
            outputs: Vec::new(),
        }))
    }

    /// Takes over the rules of the plan's `version`, unless it has them.
    pub fn follow(&self, version: u64, rules: &[Arc<Rule>]) {
        let mut state = self.0.lock();
        if state.followed != Some(version) {
            state.followed = Some(version);
            state.with(|inspector, outputs| inspector.set_rules(rules, outputs));
        }
    }

    /// Bytes came on `way`.
    pub fn feed(&self, way: Way, bytes: &[u8], now: Instant) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.0.lock().with(|inspector, outputs| inspector.feed(way, bytes, now, outputs));
    }

    /// The stream of `way` ended.
    pub fn end(&self, way: Way) {
        self.0.lock().with(|inspector, outputs| inspector.end(way, outputs));
    }

    pub fn next(&self, way: Way) -> Option<Todo> {
        self.0.lock().todo(way).pop_front()
    }

    pub fn waits(&self, way: Way) -> bool {
        !self.0.lock().todo(way).is_empty()
    }

    /// What rules did since the last call.
    pub fn reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.0.lock().reports)
    }

    /// How a rule ends the connection, once one does. `Close` waits for the downstream link to be through.
    pub fn ending(&self) -> Option<Finish> {
        self.0.lock().ending
    }
}

impl State {
    fn todo(&mut self, way: Way) -> &mut VecDeque<Todo> {
        match way {
            Way::Upstream => &mut self.upstream,
            Way::Downstream => &mut self.downstream,
        }
    }

    fn with(&mut self, act: impl FnOnce(&mut Inspector, &mut Vec<Output>)) {
        let mut outputs = std::mem::take(&mut self.outputs);
        act(&mut self.inspector, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Forward { way, bytes } | Output::Inject { way, bytes } => {
                    self.todo(way).push_back(Todo::Send(bytes));
                }
                Output::Hold { way, until } => self.todo(way).push_back(Todo::Hold(until)),
                Output::Reset => self.ending = Some(Finish::Reset),
                Output::Close => {
                    self.ending = Some(Finish::Close);
                    self.downstream.push_back(Todo::End);
                }
                Output::Report(report) => self.reports.push(report),
            }
        }
        self.outputs = outputs;
    }
}
