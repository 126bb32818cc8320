//! One direction of one connection: what stands between a [`Pipeline`] and the two [`Side`]s.
//!
//! Memory is taken when there are bytes and given back with them: an idle link holds none. Without effects bytes go
//! from socket to socket through one buffer for each thread. A link is polled, not spawned: both directions of a
//! connection are one task, and each socket wakes it through the slots that tokio keeps for one reader and one writer.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::side::Side;
use super::state::Shared;
use super::wire::{Todo, Wire};
use crate::fault::Direction;
use crate::protocol::Way;
use crate::toxic::effect::{Effect, Touched};
use crate::toxic::pipeline::{Finish, Pipeline, Step};

/// One for each thread, so its size costs nothing; docs/benchmarks.md has what larger reads bring.
const SCRATCH_BYTES: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This direction is over, the other goes on.
    Finished,
    /// An effect ends the connection, or a silenced client gave up.
    End(Finish),
    /// A peer reset the connection or does not take bytes any more.
    Broken,
}

/// Set by the downstream link when its client must not hear of anything any more.
#[derive(Debug, Default)]
pub(super) struct Silenced(Mutex<Option<Arc<Touched>>>);

pub(super) struct Link<'a> {
    way: Direction,
    client: IpAddr,
    pipeline: Pipeline,
    shared: &'a Shared,
    /// Version of the plan that the pipeline follows; `None`: none yet.
    followed: Option<u64>,
    received: &'a AtomicU64,
    written: &'a AtomicU64,
    silenced: &'a Silenced,
    wire: Option<&'a Wire>,
    alarm: Alarm,
    /// The stream ended, and its sender did not say that it is complete.
    cut: bool,
    /// Written on this way of this connection.
    bytes: u64,
}

/// What reading once came to.
enum Moved {
    /// Something happened; look again.
    Something,
    /// Nothing to read.
    Nothing,
    /// The receiver takes no more bytes.
    Refused,
}

impl<'a> Link<'a> {
    pub fn new(
        shared: &'a Shared,
        way: Direction,
        client: IpAddr,
        pipeline: Pipeline,
        silenced: &'a Silenced,
        wire: Option<&'a Wire>,
    ) -> Link<'a> {
        let totals = &shared.totals;
        let (received, written) = match way {
            Direction::Upstream => (&totals.received_upstream, &totals.bytes_upstream),
            _ => (&totals.received_downstream, &totals.bytes_downstream),
        };
        Link {
            way,
            client,
            pipeline,
            shared,
            followed: None,
            received,
            written,
            silenced,
            wire,
            alarm: Alarm::default(),
            cut: false,
            bytes: 0,
        }
    }

    /// Moves bytes from `from` to `to`; ready when this direction is over.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut impl Side,
        to: &mut impl Side,
    ) -> Poll<Outcome> {
        // What the receiver would not take before may go now; that it is gone shows at the next write.
        let _ = to.poll_flush(context);
        loop {
            self.follow_plan();
            self.take_decided();
            if !self.pipeline.transparent() {
                match self.advance(context, to) {
                    // Neither the queue nor the clock has anything to do: there may be input.
                    None => {}
                    Some(Poll::Ready(outcome)) => return Poll::Ready(outcome),
                    Some(Poll::Pending) => continue,
                }
            }
            if !self.pipeline.wants_input() {
                return Poll::Pending;
            }
            match self.transfer(context, from, to) {
                Moved::Something => {}
                Moved::Nothing => return Poll::Pending,
                Moved::Refused => {
                    if let Some(outcome) = self.receiver_gone() {
                        return Poll::Ready(outcome);
                    }
                }
            }
        }
    }

    /// One step of the pipeline: `None` when it waits (for bytes, for the receiver or for a time that is set),
    /// `Pending` when there is a next step at once.
    fn advance(&mut self, context: &mut Context<'_>, to: &mut impl Side) -> Option<Poll<Outcome>> {
        let outcome = match self.pipeline.step(Instant::now()) {
            Step::Write(size) => {
                let written = to.poll_write(context, &self.pipeline.head()[..size]);
                match written {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(count)) => {
                        self.count(count);
                        self.pipeline.wrote(count, Instant::now());
                        return Some(Poll::Pending);
                    }
                    Poll::Ready(Err(_)) => match self.receiver_gone() {
                        Some(outcome) => outcome,
                        None => return Some(Poll::Pending),
                    },
                }
            }
            Step::Wait(at) => return self.wait(context, at),
            Step::Fin => match to.poll_finish(context, self.cut) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => Outcome::Finished,
                Poll::Ready(Err(_)) => Outcome::Broken,
            },
            Step::End(finish) => Outcome::End(finish),
            Step::Broken => Outcome::Broken,
            Step::Gone if self.way == Direction::Upstream => Outcome::End(Finish::Close),
            Step::Gone => Outcome::Finished,
        };
        Some(Poll::Ready(outcome))
    }

    /// Has the task woken at `at`; `Pending` when that is now.
    fn wait(&mut self, context: &Context<'_>, at: Option<Instant>) -> Option<Poll<Outcome>> {
        match at {
            Some(at) => self.alarm.poll(context, at.into_std()).is_ready().then_some(Poll::Pending),
            None => {
                self.alarm.clear();
                None
            }
        }
    }

    fn follow_plan(&mut self) {
        let looked = self
            .shared
            .followed
            .follow(&mut self.followed, |plan| (plan.effects.clone(), plan.rules.clone()));
        let Some((effects, rules)) = looked else { return };
        if let (Some(wire), Some(version)) = (self.wire, self.followed) {
            wire.follow(version, &rules);
        }
        let concerns = |effect: &Arc<Effect>| effect.clients.contain(self.client);
        if effects.iter().all(concerns) {
            self.pipeline.apply(&effects, Instant::now());
        } else {
            let effects: Vec<_> = effects.iter().filter(|effect| concerns(effect)).cloned().collect();
            self.pipeline.apply(&effects, Instant::now());
        }
        if self.way == Direction::Downstream
            && let Some(touched) = self.pipeline.silenced_by()
        {
            *self.silenced.0.lock() = Some(touched);
        }
    }

    /// Takes what was decided on messages, of whichever way they came.
    fn take_decided(&mut self) {
        let Some(wire) = self.wire else { return };
        while let Some(todo) = wire.next(self.wire_way()) {
            match todo {
                Todo::Send(bytes) => self.pipeline.receive(&bytes, Instant::now()),
                Todo::Hold(until) => self.pipeline.hold_until(until),
                Todo::End => self.pipeline.receive_end(Finish::Close, Instant::now()),
            }
        }
    }

    fn wire_way(&self) -> Way {
        if self.way == Direction::Upstream { Way::Upstream } else { Way::Downstream }
    }

    /// The sender's stream is over.
    fn receive_end(&mut self, finish: Finish) {
        if let Some(wire) = self.wire {
            wire.end(self.wire_way());
            self.take_decided();
        }
        self.pipeline.receive_end(finish, Instant::now());
    }

    /// Reads once, and writes at once where nothing stands between.
    fn transfer(&mut self, context: &mut Context<'_>, from: &mut impl Side, to: &mut impl Side) -> Moved {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match from.poll_read(context, &mut buffer) {
                Poll::Pending => return Moved::Nothing,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.receive_end(Finish::Reset);
                    return Moved::Something;
                }
            }
            // What was injected before these bytes came acts on them.
            self.follow_plan();
            let bytes = buffer.filled();
            self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if bytes.is_empty() {
                self.cut = from.was_cut();
                self.receive_end(Finish::Close);
                return Moved::Something;
            }
            if let Some(wire) = self.wire {
                wire.feed(self.wire_way(), bytes, Instant::now());
                return Moved::Something;
            }
            let mut sent = 0;
            if self.pipeline.transparent() {
                match to.poll_write(context, bytes) {
                    Poll::Ready(Ok(count)) => sent = count,
                    Poll::Pending => {}
                    Poll::Ready(Err(_)) => return Moved::Refused,
                }
                self.count(sent);
            }
            if sent < bytes.len() {
                self.pipeline.receive(&bytes[sent..], Instant::now());
            }
            Moved::Something
        })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The receiver takes no more bytes. A client behind a blackhole must not hear of it: what it sends vanishes.
    fn receiver_gone(&mut self) -> Option<Outcome> {
        let silenced = self.silenced.0.lock().clone();
        match silenced {
            Some(touched) if self.way == Direction::Upstream && !self.pipeline.silenced() => {
                self.pipeline.silence(touched);
                None
            }
            _ => Some(Outcome::Broken),
        }
    }
}
