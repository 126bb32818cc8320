//! The bytes of one way of a connection under toxics, and the promises of what leaves.

use std::sync::Arc;
use std::time::Duration;

use chaos::seed;
use chaos::toxic::pipeline::{Finish, Pipeline, Step};
use tokio::time::Instant;

use crate::toxics::{Promise, Toxics, Way};

/// What one way may keep back, whatever acts, beside what came last.
const KEPT_MAX: usize = 16 * 1024 * 1024 + 60_000;
/// More waits in a row than any that makes sense.
const WAITS_MAX: u8 = 16;

/// A way, its time, and what came and left.
pub struct Stream {
    pipeline: Pipeline,
    now: Instant,
    came: Vec<u8>,
    left: Vec<u8>,
    /// The sender's end came.
    ending: bool,
    ended: Option<Step>,
}

impl Default for Stream {
    fn default() -> Stream {
        let rng = seed::stream(1, &["fuzz"]);
        Stream {
            pipeline: Pipeline::new(chaos::fault::Direction::Upstream, rng, Arc::default()),
            now: Instant::now(),
            came: Vec::new(),
            left: Vec::new(),
            ending: false,
            ended: None,
        }
    }
}

impl Stream {
    /// Writes what may leave now; when something may leave next.
    fn write(&mut self) -> Option<Instant> {
        while self.ended.is_none() {
            match self.pipeline.step(self.now) {
                Step::Write(count) => {
                    let head = self.pipeline.head();
                    assert!(
                        count > 0 && count <= head.len(),
                        "{count} of {} bytes are to be written",
                        head.len()
                    );
                    self.left.extend_from_slice(&head[..count]);
                    self.pipeline.wrote(count, self.now);
                }
                Step::Wait(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "a wait that is over");
                    return at;
                }
                step => {
                    assert!(self.ending || matches!(step, Step::End(_)), "{step:?} before the sender's end");
                    self.ended = Some(step);
                }
            }
        }
        None
    }

    fn check(&self, promise: Promise) {
        let (came, left) = (self.came.len(), self.left.len());
        if promise.once {
            assert!(left <= came, "{came} bytes became {left}");
        }
        if promise.once && promise.all && promise.intact {
            assert!(self.left == self.came[..left], "other bytes leave than came");
            assert!(came - left <= KEPT_MAX, "{} bytes are kept back", came - left);
        }
    }
}

impl Way for Stream {
    fn now(&self) -> Instant {
        self.now
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn receive(&mut self, size: usize) {
        if self.ending || self.ended.is_some() || !self.pipeline.wants_input() {
            return;
        }
        // No two places nearby look alike.
        let bytes: Vec<u8> = (self.came.len()..self.came.len() + size).map(|at| (at % 251) as u8).collect();
        self.pipeline.receive(&bytes, self.now);
        self.came.extend(bytes);
    }

    fn end(&mut self, how: u8) {
        if !self.ending {
            self.ending = true;
            let finish = if how.is_multiple_of(2) { Finish::Close } else { Finish::Reset };
            self.pipeline.receive_end(finish, self.now);
        }
    }

    fn follow(&mut self, toxics: &Toxics) {
        self.pipeline.apply(&toxics.effects(), self.now);
        self.write();
        self.check(toxics.promise);
    }

    fn wait(&mut self, times: u8, _: Promise) {
        for _ in 0..times % WAITS_MAX {
            let Some(at) = self.write() else { return };
            self.now = at;
        }
    }

    fn finish(&mut self, promise: Promise) {
        self.check(promise);
        if promise.all && promise.once && !matches!(self.ended, Some(Step::End(_))) {
            assert_eq!(self.left.len(), self.came.len(), "kept back although nothing acts");
            assert!(self.ending == self.ended.is_some(), "the end is kept back although nothing acts");
        }
        if promise.all {
            let ended = self.ended;
            assert!(!matches!(ended, Some(Step::End(_) | Step::Gone)), "{ended:?} although nothing ends it");
        }
    }
}
