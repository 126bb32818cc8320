//! What one effect remembers about one way of one connection. Pure: the time is passed in.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::effect::{Effect, Kind, Marks};
use super::slices::Slices;

/// Paced bytes go out in pieces worth at most this long, and at most this much unused time is made up for.
const BURST: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Stage {
    pub effect: Arc<Effect>,
    /// The draw against the effect's toxicity.
    pub active: bool,
    marked: bool,
    /// Last chunk that a timeout swallowed, or when the timeout began.
    pub last_chunk: Instant,
    /// First chunk or end that a reset met.
    pub triggered: Option<Instant>,
    /// Bytes counted against a limit.
    pub passed: u64,
    paid_until: Instant,
    /// Piece whose turn comes at the instant.
    piece: Option<(usize, Instant)>,
    slices: Slices,
    slice_left: usize,
    next_slice: Instant,
    /// The chunk before was dropped.
    lost: bool,
}

impl Stage {
    pub fn new(effect: Arc<Effect>, rng: &mut ChaCha8Rng, now: Instant) -> Stage {
        let active = drawn(&effect, rng);
        Stage {
            effect,
            active,
            marked: false,
            last_chunk: now,
            triggered: None,
            passed: 0,
            paid_until: now,
            piece: None,
            slices: Slices::default(),
            slice_left: 0,
            next_slice: now,
            lost: false,
        }
    }

    /// Takes over the effect's new values; what was counted against a limit stays counted.
    pub fn update(&mut self, effect: Arc<Effect>, rng: &mut ChaCha8Rng, now: Instant) {
        let passed = self.passed;
        let marked = self.marked;
        *self = Stage { passed, marked, ..Stage::new(effect, rng, now) };
    }

    pub fn mark(&mut self, marks: &Marks) {
        if !self.marked {
            self.marked = true;
            marks.mark(&self.effect);
        }
    }

    /// True when bytes that arrive are dropped here.
    pub fn swallows(&self) -> bool {
        self.active && matches!(self.effect.kind, Kind::Timeout { .. } | Kind::ResetPeer { .. })
    }

    /// Delay for bytes that arrive now; uniform within the jitter, never negative.
    pub fn draw_delay(&self, rng: &mut ChaCha8Rng) -> Option<Duration> {
        let Kind::Latency { delay, jitter } = self.effect.kind else { return None };
        if !self.active {
            return None;
        }
        if jitter.is_zero() {
            return Some(delay);
        }
        let jitter = jitter.as_secs_f64();
        let offset = rng.random_range(-jitter..jitter);
        Some(Duration::try_from_secs_f64(delay.as_secs_f64() + offset).unwrap_or(Duration::ZERO))
    }

    /// True when a chunk that arrives now is to be dropped.
    pub fn loses(&mut self, rng: &mut ChaCha8Rng) -> bool {
        let Kind::PacketLoss { rate, correlation } = self.effect.kind else { return false };
        if !self.active {
            return false;
        }
        let probability = if self.lost { rate + correlation } else { rate };
        self.lost = rng.random::<f64>() < probability;
        self.lost
    }

    /// How many of `size` waiting bytes may go out and when; `None` while nothing may.
    pub fn pace(&mut self, size: usize, rng: &mut ChaCha8Rng, now: Instant) -> Option<(usize, Instant)> {
        match self.effect.kind {
            _ if !self.active => Some((size, now)),
            Kind::Hold => None,
            Kind::Bandwidth { bytes_per_second: 0 } => None,
            Kind::Bandwidth { bytes_per_second } => Some(self.bandwidth(size, bytes_per_second, now)),
            Kind::Slicer { average, variation, .. } => {
                if self.slice_left == 0 {
                    self.slice_left = self.slices.next(size, average, variation, rng);
                }
                Some((size.min(self.slice_left), self.next_slice))
            }
            Kind::LimitData { bytes } => {
                let left = bytes.saturating_sub(self.passed);
                Some((size.min(usize::try_from(left).unwrap_or(usize::MAX)), now))
            }
            _ => Some((size, now)),
        }
    }

    /// A piece leaves when its own time on the wire has passed, so the rate is never exceeded, not even at first.
    fn bandwidth(&mut self, size: usize, rate: u64, now: Instant) -> (usize, Instant) {
        let (piece, due) = *self.piece.get_or_insert_with(|| {
            let burst = usize::try_from(rate / 100).unwrap_or(usize::MAX).max(1);
            let piece = size.min(burst);
            let from = now.checked_sub(BURST).unwrap_or(now).max(self.paid_until);
            (piece, from + wire_time(piece, rate))
        });
        (piece.min(size), due)
    }

    /// `count` bytes left the link.
    pub fn wrote(&mut self, count: usize, now: Instant, marks: &Marks) {
        if !self.active {
            return;
        }
        self.effect.touched.add_forwarded(count);
        match self.effect.kind {
            Kind::Bandwidth { bytes_per_second } if bytes_per_second > 0 => {
                if let Some((piece, due)) = self.piece.take() {
                    let unused = wire_time(piece.saturating_sub(count), bytes_per_second);
                    self.paid_until = due.checked_sub(unused).unwrap_or(due);
                }
                self.effect.touched.add_delayed(count);
                self.mark(marks);
            }
            Kind::Slicer { delay, .. } => {
                self.slice_left = self.slice_left.saturating_sub(count);
                if self.slice_left == 0 {
                    self.next_slice = now + delay;
                }
                self.effect.touched.add_delayed(count);
                self.mark(marks);
            }
            Kind::LimitData { bytes } => {
                self.passed += count as u64;
                if self.passed >= bytes {
                    self.mark(marks);
                }
            }
            _ => {}
        }
    }
}

fn drawn(effect: &Effect, rng: &mut ChaCha8Rng) -> bool {
    // The draw happens even when its outcome is certain, so that a changed toxicity does not shift later draws.
    let draw: f32 = rng.random();
    draw < effect.toxicity
}

/// Time that `bytes` take at `rate` bytes a second; at most a year.
fn wire_time(bytes: usize, rate: u64) -> Duration {
    let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(super::LONGEST)
}
