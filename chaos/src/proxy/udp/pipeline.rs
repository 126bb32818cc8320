//! One way of one session, without its sockets: datagrams go in when they arrive and come out when their time has come.
//!
//! Pure: the caller passes the time, the room and the random source. Without effects datagrams leave at once, in the
//! order of their arrival. What an effect loses or copies is decided when a datagram arrives, in the order of arrivals, so
//! the same seed and the same datagrams meet the same fate however late the caller is. The order of work is fixed: lose,
//! corrupt, duplicate, delay, reorder, pace. A datagram whose effect is changed or removed is not kept back by it any
//! more, and never lost by that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::budget::Share;
use crate::fault::Direction;
use crate::toxic::LONGEST;
use crate::toxic::effect::{Effect, Kind, Marks};
use crate::toxic::stage::Stage;

const MILLION: u32 = 1_000_000;

/// Which effect, and which of its generations.
type Version = (u64, u64);

#[derive(Debug)]
struct Datagram {
    payload: Bytes,
    _share: Share,
    arrived: Instant,
    delays: Vec<(Version, Duration)>,
    /// Effects that hold it back if they hold no other when it comes by.
    reorders: Vec<Version>,
}

/// A datagram that others are to pass.
#[derive(Debug)]
struct Held {
    datagram: Datagram,
    /// How many have to pass it yet.
    missing: u64,
    passed: bool,
    until: Instant,
}

/// An effect on this way.
#[derive(Debug)]
struct Acting {
    stage: Stage,
    held: Option<Held>,
    /// When the wire is free again, of an effect that paces.
    free_at: Instant,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Send(Bytes),
    /// Nothing until then, or until there is news.
    Wait(Option<Instant>),
}

/// What this way did to its datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

#[derive(Debug)]
pub struct Pipeline {
    way: Direction,
    rng: ChaCha8Rng,
    marks: Arc<Marks>,
    acting: Vec<Acting>,
    /// By when the delay is over, and in the order of arrival.
    delayed: BTreeMap<(Instant, u64), Datagram>,
    arrivals: u64,
    /// With the instant since when each waits for the wire.
    ready: VecDeque<(Instant, Datagram)>,
    done: Done,
}

impl Pipeline {
    /// `way` is `Upstream` or `Downstream`; `rng` belongs to this way of this session alone.
    pub fn new(way: Direction, rng: ChaCha8Rng, marks: Arc<Marks>) -> Pipeline {
        Pipeline {
            way,
            rng,
            marks,
            acting: Vec::new(),
            delayed: BTreeMap::new(),
            arrivals: 0,
            ready: VecDeque::new(),
            done: Done::default(),
        }
    }

    /// True when nothing is kept back.
    pub fn is_empty(&self) -> bool {
        self.delayed.is_empty()
            && self.ready.is_empty()
            && self.acting.iter().all(|acting| acting.held.is_none())
    }

    /// How many datagrams are kept back.
    pub fn len(&self) -> usize {
        let held = self.acting.iter().filter(|acting| acting.held.is_some()).count();
        self.delayed.len() + self.ready.len() + held
    }

    pub fn done(&self) -> Done {
        self.done
    }

    /// Takes over the effects that act from now on.
    pub fn apply(&mut self, effects: &[Arc<Effect>], now: Instant) {
        self.advance(now);
        let mut before = std::mem::take(&mut self.acting);
        // What was held goes on behind the effect that held it.
        let mut freed = Vec::new();
        for effect in effects.iter().filter(|effect| effect.covers(self.way)) {
            let known = before.iter().position(|acting| acting.stage.effect.id == effect.id);
            // Those in front of it have gone; their datagrams are freed where they stood.
            let gone = before.drain(..known.unwrap_or(0)).filter_map(|acting| acting.held);
            freed.extend(gone.map(|held| (self.acting.len(), held)));
            let acting = match known.map(|_| before.remove(0)) {
                Some(mut acting) if acting.stage.effect.generation != effect.generation => {
                    freed.extend(acting.held.take().map(|held| (self.acting.len() + 1, held)));
                    acting.stage.update(effect.clone(), &mut self.rng, now);
                    acting.free_at = now;
                    acting
                }
                Some(acting) => acting,
                None => {
                    Acting { stage: Stage::new(effect.clone(), &mut self.rng, now), held: None, free_at: now }
                }
            };
            self.acting.push(acting);
        }
        let rest = before.into_iter().filter_map(|acting| acting.held);
        freed.extend(rest.map(|held| (self.acting.len(), held)));
        for (index, held) in freed {
            self.pass(held.datagram, index, now);
        }
        self.count_delays_again();
    }

    /// Delays of effects that were removed or changed do not count any more.
    fn count_delays_again(&mut self) {
        for ((_, order), datagram) in std::mem::take(&mut self.delayed) {
            self.delayed.insert((self.due(&datagram), order), datagram);
        }
    }

    fn due(&self, datagram: &Datagram) -> Instant {
        let acts = |version: &Version| self.acting.iter().any(|acting| acting.version() == *version);
        let delays = datagram.delays.iter().filter(|(version, _)| acts(version));
        datagram.arrived + delays.map(|(_, delay)| *delay).sum::<Duration>().min(LONGEST)
    }

    /// A datagram arrived; `share` is the room that it takes.
    pub fn receive(&mut self, payload: Bytes, share: Share, now: Instant) {
        if self.lose(payload.len()) {
            return;
        }
        let (payload, copies) = self.damage(payload);
        for _ in 0..copies {
            match share.again() {
                Some(share) => self.enqueue(payload.clone(), share, now),
                None => self.overflowed(1, payload.len()),
            }
        }
        self.enqueue(payload, share, now);
    }

    /// So many datagrams, of `bytes` together, found no room.
    pub fn overflowed(&mut self, datagrams: u64, bytes: usize) {
        self.done.lost += datagrams;
        let paces = |acting: &&mut Acting| {
            acting.stage.active && matches!(acting.stage.effect.kind, Kind::Bandwidth { .. })
        };
        // A wire that is too slow is why the queue is full.
        if let Some(acting) = self.acting.iter_mut().find(paces) {
            acting.stage.mark(&self.marks);
            acting.stage.effect.touched.add_lost_datagram(bytes);
            for _ in 1..datagrams {
                acting.stage.effect.touched.add_lost_datagram(0);
            }
        }
    }

    fn lose(&mut self, size: usize) -> bool {
        for Acting { stage, .. } in &mut self.acting {
            if stage.loses(&mut self.rng) {
                stage.effect.touched.add_lost_datagram(size);
                stage.mark(&self.marks);
                self.done.lost += 1;
                return true;
            }
        }
        false
    }

    /// The datagram as it is passed on, and how many times more than once.
    fn damage(&mut self, payload: Bytes) -> (Bytes, usize) {
        let (mut payload, mut copies) = (payload, 0);
        for Acting { stage, .. } in &mut self.acting {
            if matches!(stage.effect.kind, Kind::Corrupt { .. }) {
                let mut bytes = BytesMut::from(payload);
                let flipped = stage.corrupt(&mut bytes, &mut self.rng);
                payload = bytes.freeze();
                if flipped > 0 {
                    stage.effect.touched.add_corrupted(flipped);
                    stage.mark(&self.marks);
                }
            }
            if stage.duplicates(&mut self.rng) {
                stage.effect.touched.add_duplicated_datagram(payload.len());
                stage.mark(&self.marks);
                copies += 1;
            }
        }
        self.done.duplicated += copies as u64;
        (payload, copies)
    }

    fn enqueue(&mut self, payload: Bytes, share: Share, now: Instant) {
        let (mut delays, mut reorders) = (Vec::new(), Vec::new());
        for acting in &mut self.acting {
            if let Some(delay) = acting.stage.draw_delay(&mut self.rng) {
                delays.push((acting.version(), delay));
                acting.stage.effect.touched.add_delayed_datagram(payload.len());
                acting.stage.mark(&self.marks);
            }
            if let Some((rate_ppm, ..)) = acting.reorder()
                && self.rng.random_range(0..MILLION) < rate_ppm
            {
                reorders.push(acting.version());
            }
        }
        let datagram = Datagram { payload, _share: share, arrived: now, delays, reorders };
        let due = self.due(&datagram);
        self.delayed.insert((due, self.arrivals), datagram);
        self.arrivals += 1;
    }

    /// What to do at `now`; what is to be sent has left.
    pub fn next(&mut self, now: Instant) -> Next {
        self.advance(now);
        let Some((since, datagram)) = self.ready.front() else { return Next::Wait(self.next_event()) };
        let size = datagram.payload.len();
        let mut at = *since;
        for acting in &self.acting {
            match acting.pace() {
                Some(0) => return Next::Wait(self.next_event()),
                Some(rate) => at = at.max(acting.free_at) + wire_time(size, rate),
                None => {}
            }
        }
        if at > now {
            return Next::Wait(Some(self.next_event().map_or(at, |event| event.min(at))));
        }
        self.leave(now)
    }

    fn leave(&mut self, now: Instant) -> Next {
        let Some((mut at, datagram)) = self.ready.pop_front() else { return Next::Wait(None) };
        let size = datagram.payload.len();
        for acting in &mut self.acting {
            if let Some(rate) = acting.pace() {
                at = at.max(acting.free_at) + wire_time(size, rate);
                acting.free_at = at;
                acting.stage.effect.touched.add_delayed_datagram(size);
                acting.stage.mark(&self.marks);
            }
            if acting.stage.active {
                acting.stage.effect.touched.add_forwarded(size);
            }
        }
        debug_assert!(at <= now, "it has waited for the wire");
        if self.ready.is_empty() {
            // A way that was once busy gives its memory back.
            self.ready.shrink_to(16);
        }
        Next::Send(datagram.payload)
    }

    /// When a delay or a hold is over next.
    fn next_event(&self) -> Option<Instant> {
        let delay = self.delayed.keys().next().map(|(due, _)| *due);
        let holds = self.acting.iter().filter_map(|acting| acting.held.as_ref().map(|held| held.until));
        delay.into_iter().chain(holds).min()
    }

    /// Lets the delays and holds end that are over at `now`, one after the other, each at its own time.
    fn advance(&mut self, now: Instant) {
        while let Some(at) = self.next_event().filter(|at| *at <= now) {
            let over = |acting: &Acting| acting.held.as_ref().is_some_and(|held| held.until == at);
            if let Some(index) = self.acting.iter().position(over)
                && let Some(held) = self.acting[index].held.take()
            {
                self.release(index, held, at);
            } else if let Some((_, datagram)) = self.delayed.pop_first() {
                self.pass(datagram, 0, at);
            }
        }
    }

    /// A datagram that was held behind effect `index` goes on.
    fn release(&mut self, index: usize, held: Held, at: Instant) {
        if held.passed {
            self.acting[index].stage.effect.touched.add_reordered_datagram();
            self.done.reordered += 1;
        }
        self.pass(held.datagram, index + 1, at);
    }

    /// A datagram comes by the effects from `first` on that reorder.
    fn pass(&mut self, mut datagram: Datagram, first: usize, at: Instant) {
        let mut passed = Vec::new();
        for index in first..self.acting.len() {
            let acting = &mut self.acting[index];
            let Some((_, gap, hold)) = acting.reorder() else { continue };
            if let Some(held) = &mut acting.held {
                held.passed = true;
                held.missing -= 1;
                if held.missing == 0 {
                    passed.extend(acting.held.take().map(|held| (index, held)));
                }
                continue;
            }
            let version = acting.version();
            if gap == 0 || hold.is_zero() || !datagram.reorders.contains(&version) {
                continue;
            }
            datagram.reorders.retain(|other| *other != version);
            acting.stage.effect.touched.add_delayed_datagram(datagram.payload.len());
            acting.stage.mark(&self.marks);
            acting.held = Some(Held { datagram, missing: gap, passed: false, until: at + hold });
            return self.release_all(passed, at);
        }
        self.ready.push_back((at, datagram));
        self.release_all(passed, at);
    }

    fn release_all(&mut self, passed: Vec<(usize, Held)>, at: Instant) {
        // The one that was held further on stands before the others.
        for (index, held) in passed.into_iter().rev() {
            self.release(index, held, at);
        }
    }
}

impl Acting {
    fn version(&self) -> Version {
        (self.stage.effect.id, self.stage.effect.generation)
    }

    /// Rate, gap and hold of an effect that reorders here.
    fn reorder(&self) -> Option<(u32, u64, Duration)> {
        match self.stage.effect.kind {
            Kind::Reorder { rate_ppm, gap, hold } if self.stage.active => Some((rate_ppm, gap, hold)),
            _ => None,
        }
    }

    /// Bytes a second of an effect that paces here.
    fn pace(&self) -> Option<u64> {
        match self.stage.effect.kind {
            Kind::Bandwidth { bytes_per_second } if self.stage.active => Some(bytes_per_second),
            _ => None,
        }
    }
}

/// Time that `bytes` take at `rate` bytes a second; at most a year.
fn wire_time(bytes: usize, rate: u64) -> Duration {
    let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(LONGEST)
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
