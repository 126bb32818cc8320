//! One way of one connection, without its sockets: bytes go in when they arrive and come out when their time has come.
//!
//! Pure: the caller passes the time and does the input and output. Bytes leave in the order in which they came, the
//! queue is bounded ([`Pipeline::wants_input`] is the back pressure), and effects may come, change and go at any time.
//! The order of work is fixed: swallow, lose, cut, corrupt, duplicate, delay, hold, limit, slice, pace; the end of the
//! stream comes last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::effect::{Effect, Kind, Marks, Touched};
use super::stage::Stage;
use crate::fault::Direction;

/// Queue of a way on which nothing has to wait, in bytes.
const QUEUE_PLAIN: usize = 128 * 1024;
/// Queue of a way whose bytes are kept back (held, paced, sliced).
const QUEUE_HELD: usize = 1024 * 1024;
/// Queue of a way with latency: 100 ms at 160 MB/s.
const QUEUE_DELAYED: usize = 16 * 1024 * 1024;
/// What a queued chunk costs beside its bytes.
const CHUNK_COST: usize = 96;

/// How a whole connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// FIN both ways.
    Close,
    /// RST both ways.
    Reset,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write so many bytes of [`Pipeline::head`], then call [`Pipeline::wrote`].
    Write(usize),
    /// Nothing until then, or until there is news.
    Wait(Option<Instant>),
    /// The stream has ended and all of it was written: pass the end on.
    Fin,
    /// End the connection; an effect that demands it is named by its record.
    End(Finish),
    /// The sender reset its connection and all that came before was written: pass the reset on.
    Broken,
    /// The sender has gone and the receiver is not to hear of it.
    Gone,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    arrived: Instant,
    delays: Vec<(u64, u64, Duration)>,
}

#[derive(Debug)]
pub struct Pipeline {
    way: Direction,
    rng: ChaCha8Rng,
    marks: Arc<Marks>,
    stages: Vec<Stage>,
    queue: VecDeque<Chunk>,
    queued: usize,
    end: Option<(Finish, Chunk)>,
    silenced: Option<Arc<Touched>>,
    /// Set when an effect that was removed takes the connection with it.
    forced: Option<Finish>,
    /// What comes from now on leaves no earlier.
    not_before: Option<Instant>,
}

impl Pipeline {
    /// `way` is `Upstream` or `Downstream`; `rng` belongs to this way of this connection alone.
    pub fn new(way: Direction, rng: ChaCha8Rng, marks: Arc<Marks>) -> Pipeline {
        Pipeline {
            way,
            rng,
            marks,
            stages: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            end: None,
            silenced: None,
            forced: None,
            not_before: None,
        }
    }

    /// Takes over the effects that act from now on.
    pub fn apply(&mut self, effects: &[Arc<Effect>], now: Instant) {
        let mut before = std::mem::take(&mut self.stages);
        let way = self.way;
        for effect in effects.iter().filter(|effect| effect.covers(way)) {
            let known = before.iter().position(|stage| stage.effect.id == effect.id);
            let stage = match known.map(|index| before.swap_remove(index)) {
                Some(mut stage) => {
                    if stage.effect.generation != effect.generation {
                        stage.update(effect.clone(), &mut self.rng, now);
                    }
                    stage
                }
                None => Stage::new(effect.clone(), &mut self.rng, now),
            };
            let begins = known.is_none() && stage.active;
            self.stages.push(stage);
            if begins {
                self.begin(now);
            }
        }
        let closes = |stage: &Stage| stage.active && matches!(stage.effect.kind, Kind::Timeout { .. });
        if before.iter().any(closes) {
            self.forced.get_or_insert(Finish::Close);
        }
    }

    /// What the newest effect does to bytes that wait already.
    fn begin(&mut self, now: Instant) {
        let waiting: usize = self.queue.iter().map(|chunk| chunk.bytes.len()).sum();
        let Some(stage) = self.stages.last_mut() else { return };
        match stage.effect.kind {
            Kind::Silence => {
                stage.mark(&self.marks);
                let touched = stage.effect.touched.clone();
                self.silence(touched);
            }
            Kind::Hold => {
                stage.mark(&self.marks);
                stage.effect.touched.add_delayed(waiting);
            }
            Kind::ResetPeer { .. } if self.end.is_some() => stage.triggered = Some(now),
            _ => {}
        }
    }

    /// From now on everything is swallowed, to the record of `touched`.
    pub fn silence(&mut self, touched: Arc<Touched>) {
        let waiting: usize = self.queue.drain(..).map(|chunk| chunk.bytes.len()).sum();
        touched.add_swallowed(waiting);
        self.queued = 0;
        self.silenced = Some(touched);
    }

    pub fn silenced(&self) -> bool {
        self.silenced.is_some()
    }

    /// The record of the effect that silenced this way.
    pub fn silenced_by(&self) -> Option<Arc<Touched>> {
        self.silenced.clone()
    }

    /// True when bytes may be passed on without asking further.
    pub fn transparent(&self) -> bool {
        self.stages.is_empty()
            && self.queue.is_empty()
            && self.silenced.is_none()
            && self.end.is_none()
            && self.forced.is_none()
    }

    /// False while the queue is full or the stream has ended.
    pub fn wants_input(&self) -> bool {
        self.end.is_none() && self.queued < self.queue_bytes_max()
    }

    fn queue_bytes_max(&self) -> usize {
        let bound = |stage: &Stage| match stage.effect.kind {
            Kind::Latency { .. } | Kind::LatencyDrawn(_) => QUEUE_DELAYED,
            _ => QUEUE_HELD,
        };
        self.stages.iter().filter(|stage| stage.active).map(bound).max().unwrap_or(QUEUE_PLAIN)
    }

    /// What arrives from now on, the end of the stream too, leaves no earlier than `until`.
    pub fn hold_until(&mut self, until: Instant) {
        self.not_before = Some(self.not_before.map_or(until, |at| at.max(until)));
    }

    /// When something that comes at `now` counts as arrived.
    fn arrival(&self, now: Instant) -> Instant {
        self.not_before.map_or(now, |at| at.max(now))
    }

    /// Bytes arrived.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        if let Some(touched) = &self.silenced {
            touched.add_swallowed(bytes.len());
            return;
        }
        if self.swallow(bytes.len(), now) || self.lose(bytes.len()) {
            return;
        }
        let passed = self.cut(bytes.len());
        if passed == 0 {
            return;
        }
        let (bytes, copies) = self.damage(&bytes[..passed]);
        for _ in 0..copies {
            self.enqueue(bytes.clone(), now);
        }
    }

    fn enqueue(&mut self, bytes: Bytes, now: Instant) {
        let delays = self.delays(bytes.len());
        for stage in &mut self.stages {
            if stage.active && stage.effect.kind == Kind::Hold {
                stage.effect.touched.add_delayed(bytes.len());
            }
        }
        self.queued += bytes.len() + CHUNK_COST;
        self.queue.push_back(Chunk { bytes, arrived: self.arrival(now), delays });
    }

    /// The stream ended, orderly or with an error.
    pub fn receive_end(&mut self, finish: Finish, now: Instant) {
        self.swallow(0, now);
        let delays = self.delays(0);
        self.end = Some((finish, Chunk { bytes: Bytes::new(), arrived: self.arrival(now), delays }));
    }

    fn swallow(&mut self, size: usize, now: Instant) -> bool {
        let mut swallowed = false;
        for stage in self.stages.iter_mut().filter(|stage| stage.swallows()) {
            swallowed = true;
            stage.last_chunk = now;
            stage.triggered.get_or_insert(now);
            stage.effect.touched.add_swallowed(size);
            stage.mark(&self.marks);
        }
        swallowed
    }

    fn lose(&mut self, size: usize) -> bool {
        for stage in &mut self.stages {
            if stage.loses(&mut self.rng) {
                stage.effect.touched.add_swallowed(size);
                stage.mark(&self.marks);
                return true;
            }
        }
        false
    }

    /// How many of `size` bytes that arrived are passed on.
    fn cut(&mut self, size: usize) -> usize {
        let mut passed = size;
        for stage in &mut self.stages {
            let left = stage.cut(passed);
            if left < passed {
                stage.effect.touched.add_swallowed(passed - left);
                stage.mark(&self.marks);
            }
            passed = left;
        }
        passed
    }

    /// The bytes as they are passed on, and how often.
    fn damage(&mut self, bytes: &[u8]) -> (Bytes, usize) {
        let mut bytes = BytesMut::from(bytes);
        let mut copies = 1;
        for stage in &mut self.stages {
            let flipped = stage.corrupt(&mut bytes, &mut self.rng);
            if flipped > 0 {
                stage.effect.touched.add_corrupted(flipped);
                stage.mark(&self.marks);
            }
            if stage.duplicates(&mut self.rng) {
                stage.effect.touched.add_duplicated(bytes.len());
                stage.mark(&self.marks);
                copies += 1;
            }
        }
        (bytes.freeze(), copies)
    }

    fn delays(&mut self, size: usize) -> Vec<(u64, u64, Duration)> {
        let mut delays = Vec::new();
        for stage in &mut self.stages {
            if let Some(delay) = stage.draw_delay(&mut self.rng) {
                delays.push((stage.effect.id, stage.effect.generation, delay));
                stage.effect.touched.add_delayed(size);
                stage.mark(&self.marks);
            }
        }
        delays
    }

    /// The bytes whose turn is next.
    pub fn head(&self) -> &[u8] {
        self.queue.front().map_or(&[], |chunk| &chunk.bytes)
    }

    /// What to do at `now`.
    pub fn step(&mut self, now: Instant) -> Step {
        if let Some(finish) = self.forced {
            return Step::End(finish);
        }
        if self.silenced.is_some() {
            return if self.end.is_some() { Step::Gone } else { Step::Wait(None) };
        }
        let mut wake = None;
        for stage in self.stages.iter().filter(|stage| stage.active) {
            match finish_due(stage, self.end.is_some()) {
                Some((finish, at)) if at <= now => return finish_by(stage, finish),
                Some((_, at)) => wake = earliest(wake, at),
                None => {}
            }
        }
        if self.stages.iter().any(Stage::swallows) && self.queue.is_empty() {
            return Step::Wait(wake);
        }
        match self.output(now) {
            Step::Wait(at) => Step::Wait(at.map_or(wake, |at| earliest(wake, at))),
            step => step,
        }
    }

    fn output(&mut self, now: Instant) -> Step {
        let Some(chunk) = self.queue.front() else { return self.ending(now) };
        let ready = ready_at(&self.stages, chunk);
        if ready > now {
            return Step::Wait(Some(ready));
        }
        let mut size = chunk.bytes.len();
        let mut at = now;
        for stage in &mut self.stages {
            let Some((allowed, due)) = stage.pace(size, &mut self.rng, now, &self.marks) else {
                return Step::Wait(None);
            };
            if allowed == 0 {
                return finish_by(stage, Finish::Close);
            }
            size = allowed;
            at = at.max(due);
        }
        if at > now { Step::Wait(Some(at)) } else { Step::Write(size) }
    }

    fn ending(&self, now: Instant) -> Step {
        let Some((finish, chunk)) = &self.end else { return Step::Wait(None) };
        let mut at = ready_at(&self.stages, chunk);
        for stage in &self.stages {
            let Some(opens) = stage.opens(now) else { return Step::Wait(None) };
            at = at.max(opens);
        }
        for stage in self.stages.iter().filter(|stage| stage.active) {
            if let Kind::SlowClose { delay } = stage.effect.kind {
                at = at.max(chunk.arrived + delay);
            }
        }
        match finish {
            _ if at > now => Step::Wait(Some(at)),
            Finish::Close => Step::Fin,
            Finish::Reset => Step::Broken,
        }
    }

    /// `count` bytes of the head were written.
    pub fn wrote(&mut self, count: usize, now: Instant) {
        for stage in &mut self.stages {
            stage.wrote(count, now, &self.marks);
        }
        let Some(chunk) = self.queue.front_mut() else { return };
        chunk.bytes.advance(count);
        self.queued -= count;
        if chunk.bytes.is_empty() {
            self.queued -= CHUNK_COST;
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            // A way that was once busy gives its memory back.
            self.queue.shrink_to(16);
        }
    }
}

/// When an effect ends the connection by itself.
fn finish_due(stage: &Stage, ended: bool) -> Option<(Finish, Instant)> {
    match stage.effect.kind {
        Kind::Timeout { .. } if ended => Some((Finish::Close, stage.last_chunk)),
        Kind::Timeout { after: Some(after) } => Some((Finish::Close, stage.last_chunk + after)),
        Kind::ResetPeer { after } => stage.triggered.map(|at| (Finish::Reset, at + after)),
        Kind::LimitData { bytes } if bytes > 0 && stage.passed >= bytes => {
            Some((Finish::Close, stage.last_chunk))
        }
        _ => None,
    }
}

fn finish_by(stage: &Stage, finish: Finish) -> Step {
    if finish == Finish::Reset {
        stage.effect.touched.add_reset();
    }
    Step::End(finish)
}

/// Delays of effects that were removed or changed since do not count any more: their bytes leave at once.
fn ready_at(stages: &[Stage], chunk: &Chunk) -> Instant {
    let acts = |id: u64, generation: u64| {
        stages.iter().any(|stage| stage.effect.id == id && stage.effect.generation == generation)
    };
    let total: Duration = chunk
        .delays
        .iter()
        .filter(|(id, generation, _)| acts(*id, *generation))
        .map(|(_, _, delay)| *delay)
        .sum();
    chunk.arrived + total.min(super::LONGEST)
}

fn earliest(a: Option<Instant>, b: Instant) -> Option<Instant> {
    Some(a.map_or(b, |a| a.min(b)))
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
