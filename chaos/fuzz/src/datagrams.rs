//! Datagrams of one way of a session under toxics, and the promises of what leaves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chaos::proxy::udp::budget::Budget;
use chaos::proxy::udp::pipeline::{Next, Pipeline};
use chaos::seed;
use tokio::time::Instant;

use crate::toxics::{Promise, Toxics, Way};

/// Room for what is kept back.
const ROOM: usize = 256 * 1024;
/// More waits in a row than any that makes sense.
const WAITS_MAX: u8 = 16;
/// The number of a datagram stands at its beginning.
const NUMBER: usize = 2;

/// A way, its time, and what came and left.
pub struct Datagrams {
    pipeline: Pipeline,
    budget: Arc<Budget>,
    now: Instant,
    came: Vec<Bytes>,
    /// How often each left.
    left: Vec<usize>,
}

impl Default for Datagrams {
    fn default() -> Datagrams {
        let rng = seed::stream(1, &["fuzz"]);
        Datagrams {
            pipeline: Pipeline::new(chaos::fault::Direction::Upstream, rng, Arc::default()),
            budget: Budget::new(ROOM),
            now: Instant::now(),
            came: Vec::new(),
            left: Vec::new(),
        }
    }
}

impl Datagrams {
    /// Sends what may leave now; when something may leave next.
    fn send(&mut self, promise: Promise) -> Option<Instant> {
        loop {
            match self.pipeline.next(self.now) {
                Next::Send(payload) => self.sent(&payload, promise),
                Next::Wait(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "a wait that is over");
                    assert!(at.is_none() || !self.pipeline.is_empty(), "a wait for nothing");
                    return at;
                }
            }
        }
    }

    fn sent(&mut self, payload: &Bytes, promise: Promise) {
        if !promise.intact {
            // Its number may be another one now; only how many there were still counts.
            self.left[0] += 1;
            return;
        }
        let number = usize::from(u16::from_be_bytes([payload[0], payload[1]]));
        assert_eq!(Some(payload), self.came.get(number), "other bytes leave than came");
        self.left[number] += 1;
        assert!(!promise.once || self.left[number] == 1, "datagram {number} leaves twice");
    }
}

impl Way for Datagrams {
    fn now(&self) -> Instant {
        self.now
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn receive(&mut self, size: usize) {
        let number = self.came.len().to_be_bytes();
        let mut payload = number[number.len() - NUMBER..].to_vec();
        payload.resize(NUMBER + size, number[number.len() - 1]);
        let payload = Bytes::from(payload);
        self.came.push(payload.clone());
        self.left.push(0);
        match self.budget.take(payload.len()) {
            Some(share) => self.pipeline.receive(payload, share, self.now),
            None => self.pipeline.overflowed(1, payload.len()),
        }
    }

    /// There is none.
    fn end(&mut self, _: u8) {}

    fn follow(&mut self, toxics: &Toxics) {
        self.pipeline.apply(&toxics.effects(), self.now);
        self.send(toxics.promise);
        let kept = self.pipeline.len();
        assert!(kept <= ROOM / 256, "{kept} datagrams are kept back");
    }

    fn wait(&mut self, times: u8, promise: Promise) {
        for _ in 0..times % WAITS_MAX {
            let Some(at) = self.send(promise) else { return };
            self.now = at;
        }
    }

    fn finish(&mut self, _: Promise) {
        assert!(self.pipeline.is_empty(), "kept back although nothing acts");
        let (done, left) = (self.pipeline.done(), self.left.iter().sum::<usize>() as u64);
        let came = self.came.len() as u64;
        assert_eq!(left, came + done.duplicated - done.lost, "of {came} came {left}: {done:?}");
        // The rest is what one datagram costs beside its bytes.
        let room = self.budget.take(ROOM - 256);
        assert!(room.is_some(), "room is taken although nothing is kept back");
    }
}
