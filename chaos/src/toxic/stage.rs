//! What one effect remembers about one way of one connection. Pure: the time is passed in.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::effect::{Effect, Kind, Marks};
use super::slices::Slices;

/// Paced bytes go out in pieces worth at most this long, and at most so much unused time is made up for: together 10 ms, which
/// is the most that comes before its time.
const PIECE: Duration = Duration::from_millis(4);
const MADE_UP: Duration = Duration::from_millis(6);
/// Rates of single bytes and chunks count millionths.
const MILLION: u32 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Stage {
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
    /// When the bytes before a stall had passed.
    stalled: Option<Instant>,
    /// Bytes are kept back that have been counted as such.
    holds: bool,
}

impl Stage {
    pub fn new(effect: Arc<Effect>, rng: &mut ChaCha8Rng, now: Instant) -> Stage {
        let active = drawn(&effect, rng);
        let stalled = matches!(effect.kind, Kind::Stall { after: 0, .. }).then_some(now);
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
            stalled,
            holds: false,
        }
    }

    /// Takes over the effect's new values; what was counted against a limit stays counted.
    pub fn update(&mut self, effect: Arc<Effect>, rng: &mut ChaCha8Rng, now: Instant) {
        let passed = self.passed;
        let marked = self.marked;
        let stalled = self.stalled;
        *self = Stage { passed, marked, ..Stage::new(effect, rng, now) };
        self.stalled = match self.effect.kind {
            Kind::Stall { after, .. } if passed >= after => stalled.or(Some(now)),
            _ => None,
        };
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
        if !self.active {
            return None;
        }
        let (delay, jitter) = match &self.effect.kind {
            Kind::Latency { delay, jitter } => (*delay, *jitter),
            Kind::LatencyDrawn(distribution) => return Some(distribution.draw(rng)),
            _ => return None,
        };
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

    /// How many of `size` bytes that arrive now are passed on.
    pub fn cut(&mut self, size: usize) -> usize {
        match self.effect.kind {
            Kind::Truncate { bytes } if self.active => {
                let left = usize::try_from(bytes.saturating_sub(self.passed)).unwrap_or(usize::MAX);
                let passed = size.min(left);
                self.passed += passed as u64;
                passed
            }
            _ => size,
        }
    }

    /// Flips a bit in each byte that is drawn; how many those were.
    pub fn corrupt(&self, bytes: &mut [u8], rng: &mut ChaCha8Rng) -> usize {
        let Kind::Corrupt { rate_ppm } = self.effect.kind else { return 0 };
        if !self.active || rate_ppm == 0 {
            return 0;
        }
        let (mut at, mut flipped) = (0, 0);
        loop {
            at += misses(rate_ppm, rng);
            let Some(byte) = bytes.get_mut(at) else { return flipped };
            *byte ^= 1 << rng.random_range(0..8);
            flipped += 1;
            at += 1;
        }
    }

    /// True when a chunk that arrives now is to be passed on twice.
    pub fn duplicates(&self, rng: &mut ChaCha8Rng) -> bool {
        let Kind::Duplicate { rate_ppm } = self.effect.kind else { return false };
        self.active && rng.random_range(0..MILLION) < rate_ppm
    }

    /// How many of `size` waiting bytes may go out and when; `None` while nothing may.
    pub fn pace(
        &mut self,
        size: usize,
        rng: &mut ChaCha8Rng,
        now: Instant,
        marks: &Marks,
    ) -> Option<(usize, Instant)> {
        match self.effect.kind {
            _ if !self.active => Some((size, now)),
            Kind::Hold => None,
            Kind::Stall { after, .. } if self.passed < after => {
                let left = usize::try_from(after - self.passed).unwrap_or(usize::MAX);
                Some((size.min(left), now))
            }
            Kind::Stall { .. } | Kind::Flap { .. } => {
                let due = self.opens(now);
                let holds = due != Some(now);
                if holds && !self.holds {
                    self.effect.touched.add_delayed(size);
                    self.mark(marks);
                }
                self.holds = holds;
                due.map(|due| (size, due))
            }
            Kind::Bandwidth { bytes_per_second: 0 } | Kind::SharedBandwidth { bytes_per_second: 0 } => None,
            Kind::Bandwidth { bytes_per_second } => Some(self.bandwidth(size, bytes_per_second, now)),
            Kind::SharedBandwidth { bytes_per_second } => {
                Some(self.shared_bandwidth(size, bytes_per_second, now))
            }
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

    /// When bytes and the stream's end may pass that are there at `now`: `now` itself, later, or `None`: never.
    pub fn opens(&self, now: Instant) -> Option<Instant> {
        match self.effect.kind {
            _ if !self.active => Some(now),
            Kind::Hold => None,
            Kind::Stall { lasts, .. } => match self.stalled {
                Some(stalled) => lasts.map(|lasts| (stalled + lasts).max(now)),
                None => Some(now),
            },
            Kind::Flap { up, down } => Some(now + until_up(up, down, now - self.effect.common.since)),
            _ => Some(now),
        }
    }

    /// A piece leaves when its own time on the wire has passed, so the rate is never exceeded, not even at first.
    fn bandwidth(&mut self, size: usize, rate: u64, now: Instant) -> (usize, Instant) {
        let (piece, due) = *self.piece.get_or_insert_with(|| {
            let piece = size.min(at_once(rate));
            let from = now.checked_sub(MADE_UP).unwrap_or(now).max(self.paid_until);
            (piece, from + wire_time(piece, rate))
        });
        (piece.min(size), due)
    }

    /// The same, with the time on the wire taken from what all connections share, in the order in which they ask.
    fn shared_bandwidth(&mut self, size: usize, rate: u64, now: Instant) -> (usize, Instant) {
        let (piece, due) = *self.piece.get_or_insert_with(|| {
            let piece = size.min(at_once(rate));
            let earliest = now.checked_sub(MADE_UP).unwrap_or(now).max(self.effect.common.since);
            (piece, self.effect.common.reserve(self.effect.generation, earliest, wire_time(piece, rate)))
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
            Kind::SharedBandwidth { bytes_per_second } if bytes_per_second > 0 => {
                if let Some((piece, due)) = self.piece.take() {
                    // What was reserved and not used is used next.
                    self.piece = Some((piece.saturating_sub(count), due)).filter(|(left, _)| *left > 0);
                }
                self.effect.touched.add_delayed(count);
                self.mark(marks);
            }
            Kind::Stall { after, .. } => {
                self.passed += count as u64;
                if self.passed >= after {
                    self.stalled.get_or_insert(now);
                }
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

/// How many bytes in a row are not drawn, at a probability of `rate_ppm` millionths each; geometric.
fn misses(rate_ppm: u32, rng: &mut ChaCha8Rng) -> usize {
    let miss = 1.0 - f64::from(rate_ppm.min(MILLION)) / f64::from(MILLION);
    if miss <= 0.0 {
        return 0;
    }
    let above_zero = 1.0 - rng.random::<f64>();
    // Beyond any chunk, and without a quotient that is too large for the type.
    (above_zero.ln() / miss.ln()).min(f64::from(u32::MAX)) as usize
}

/// How long it takes, `passed` after an effect began, until its link is up.
fn until_up(up: Duration, down: Duration, passed: Duration) -> Duration {
    let turn = (up + down).as_nanos();
    if turn == 0 {
        return Duration::ZERO;
    }
    let into = passed.as_nanos() % turn;
    if into < up.as_nanos() {
        return Duration::ZERO;
    }
    Duration::from_nanos(u64::try_from(turn - into).unwrap_or(u64::MAX))
}

/// Bytes that leave at once at `rate` bytes a second.
fn at_once(rate: u64) -> usize {
    let bytes = u128::from(rate) * PIECE.as_millis() / 1_000;
    usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
}

/// Time that `bytes` take at `rate` bytes a second; at most a year.
fn wire_time(bytes: usize, rate: u64) -> Duration {
    let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(super::LONGEST)
}
