//! One direction of one connection: the sockets' side of a [`Pipeline`].
//!
//! Memory is taken when there are bytes and given back with them: an idle link holds none. Without effects bytes go
//! from socket to socket through one buffer for each thread.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::state::{Plan, Shared};
use crate::fault::Direction;
use crate::toxic::effect::Touched;
use crate::toxic::pipeline::{Finish, Pipeline, Step};

const SCRATCH_BYTES: usize = 64 * 1024;

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
    pipeline: Pipeline,
    plan: watch::Receiver<Plan>,
    written: &'a AtomicU64,
    silenced: &'a Silenced,
}

impl<'a> Link<'a> {
    pub fn new(shared: &'a Shared, way: Direction, pipeline: Pipeline, silenced: &'a Silenced) -> Link<'a> {
        let mut plan = shared.plan.subscribe();
        plan.mark_changed();
        let written = match way {
            Direction::Upstream => &shared.totals.bytes_upstream,
            _ => &shared.totals.bytes_downstream,
        };
        Link { way, pipeline, plan, written, silenced }
    }

    /// Moves bytes from `from` to `to` until this direction is over.
    pub async fn run(mut self, from: &TcpStream, to: &TcpStream) -> Outcome {
        loop {
            self.follow_plan();
            let mut blocked = false;
            let mut wake = None;
            match self.pipeline.step(Instant::now()) {
                Step::Write(size) => match to.try_write(&self.pipeline.head()[..size]) {
                    Ok(count) => {
                        self.count(count);
                        self.pipeline.wrote(count, Instant::now());
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => blocked = true,
                    Err(_) => {
                        if let Some(outcome) = self.receiver_gone() {
                            return outcome;
                        }
                        continue;
                    }
                },
                Step::Wait(at) => wake = at,
                Step::Fin => return finish(to),
                Step::End(finish) => return Outcome::End(finish),
                Step::Broken => return Outcome::Broken,
                Step::Gone if self.way == Direction::Upstream => return Outcome::End(Finish::Close),
                Step::Gone => return Outcome::Finished,
            }
            tokio::select! {
                changed = self.plan.changed() => match changed {
                    // Waiting has marked the plan as seen, but nobody has followed it yet.
                    Ok(()) => self.plan.mark_changed(),
                    Err(_) => return Outcome::End(Finish::Close),
                },
                ready = from.readable(), if self.pipeline.wants_input() => {
                    if (ready.is_err() || !self.transfer(from, to)) && let Some(outcome) = self.receiver_gone() {
                        return outcome;
                    }
                }
                // An error of the socket shows in the write that follows.
                _ = to.writable(), if blocked => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn follow_plan(&mut self) {
        if !self.plan.has_changed().unwrap_or(false) {
            return;
        }
        let effects = self.plan.borrow_and_update().effects.clone();
        self.pipeline.apply(&effects, Instant::now());
        if self.way == Direction::Downstream
            && let Some(touched) = self.pipeline.silenced_by()
        {
            *self.silenced.0.lock() = Some(touched);
        }
    }

    /// Reads once, and writes at once where nothing stands between. False when the receiver has gone.
    fn transfer(&mut self, from: &TcpStream, to: &TcpStream) -> bool {
        self.follow_plan();
        SCRATCH.with_borrow_mut(|scratch| {
            let now = Instant::now();
            let count = match from.try_read(scratch) {
                Ok(0) => {
                    self.pipeline.receive_end(Finish::Close, now);
                    return true;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {
                    self.pipeline.receive_end(Finish::Reset, now);
                    return true;
                }
            };
            let mut sent = 0;
            if self.pipeline.transparent() {
                match to.try_write(&scratch[..count]) {
                    Ok(written) => sent = written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return false,
                }
                self.count(sent);
            }
            if sent < count {
                self.pipeline.receive(&scratch[sent..count], now);
            }
            true
        })
    }

    fn count(&self, bytes: usize) {
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

/// Passes the end of the stream on.
fn finish(to: &TcpStream) -> Outcome {
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Ok(()) => Outcome::Finished,
        // The receiver has closed already, so there is nobody to tell.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Outcome::Finished,
        Err(_) => Outcome::Broken,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
