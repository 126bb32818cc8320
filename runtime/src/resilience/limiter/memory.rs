//! What clients have taken, in this process: shards with a lock each, bounded in clients.
//!
//! Promises: the rules of one client are checked and taken under one lock; there are never more clients than the bound. When
//! room is needed the one goes who, of some that are looked at, has used the smallest share of its rules: it loses nothing
//! or little, and nobody gets rid of a limit by showing many names. Who used up a rule goes only after all who did not.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::Level;
use super::window::Counts;
use super::{Answer, Ask, Refused, Rule};

const SHARDS_MAX: usize = 64;
/// With fewer clients in a shard than this, chance would fill one while another is empty.
const SHARD_CLIENTS_MIN: usize = 64;
/// Clients that are looked at when one has to go.
const SAMPLE: usize = 16;
/// Of all of a rule.
const WHOLE: u64 = 1_000;

/// The store. Times are since a moment of the caller's choice.
#[derive(Debug)]
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    clients_max: usize,
    index: HashMap<Arc<str>, usize>,
    clients: Vec<Client>,
    hand: usize,
}

#[derive(Debug)]
struct Client {
    key: Arc<str>,
    used: Vec<(u16, Used)>,
    /// As it was when last asked; kept, because the rules are not known when somebody else needs the room.
    share: u64,
    /// When nothing of that is left.
    free_at: u64,
}

/// What was taken of a rule.
#[derive(Debug, Clone, Copy)]
enum Used {
    Bucket(Level),
    Window(Counts),
}

/// What a rule says of an ask.
struct Said {
    next: Result<(Used, u64), Refused>,
    used: u32,
    reset: Duration,
}

impl Memory {
    /// Remembers so many clients at most, one at least.
    pub fn new(clients_max: usize) -> Self {
        let shards = (clients_max / SHARD_CLIENTS_MIN).clamp(1, SHARDS_MAX);
        let clients_max = (clients_max / shards).max(1);
        let empty = || Shard { clients_max, index: HashMap::new(), clients: Vec::new(), hand: 0 };
        Self { shards: (0..shards).map(|_| Mutex::new(empty())).collect(), hasher: RandomState::new() }
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().clients.len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all that is asked, or nothing.
    pub fn take(&self, client: &str, asks: &[Ask], now: Duration) -> Answer {
        self.shard(client).lock().take(client, asks, nanos(now), true)
    }

    /// What [`take`](Self::take) would answer; nothing is taken.
    pub fn look(&self, client: &str, asks: &[Ask], now: Duration) -> Answer {
        self.shard(client).lock().take(client, asks, nanos(now), false)
    }

    /// Gives back what was taken at `when` and not used.
    pub fn give_back(&self, client: &str, asks: &[Ask], when: Duration) {
        self.shard(client).lock().give_back(client, asks, nanos(when));
    }

    fn shard(&self, client: &str) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(client) as usize % self.shards.len()]
    }
}

impl Shard {
    fn take(&mut self, key: &str, asks: &[Ask], now: u64, really: bool) -> Answer {
        let known = self.index.get(key).copied();
        let used = known.map_or(&[][..], |at| &self.clients[at].used[..]);
        let said: Vec<Said> = asks.iter().map(|ask| say(*ask, used_of(used, ask), now)).collect();
        if let Some(at) = said.iter().position(|said| said.next.is_err()) {
            let Said { next, used, reset } = &said[at];
            let remaining = asks[at].rule.limit().saturating_sub(*used);
            let refused = next.as_ref().err().copied().unwrap_or(Refused { retry_after: None });
            return Answer { at, remaining, reset: *reset, taken: Err(refused) };
        }
        let share = |at: usize| share(asks[at].rule, said[at].used);
        let at = (0..asks.len()).max_by_key(|&at| share(at)).unwrap_or(0);
        let answer = Answer {
            at,
            remaining: asks.get(at).map_or(u32::MAX, |ask| ask.rule.limit().saturating_sub(said[at].used)),
            reset: said.get(at).map_or(Duration::ZERO, |said| said.reset),
            taken: Ok(Duration::from_nanos(
                said.iter()
                    .filter_map(|said| said.next.as_ref().ok())
                    .map(|(_, wait)| *wait)
                    .max()
                    .unwrap_or(0),
            )),
        };
        if really && !asks.is_empty() {
            let most = share(at);
            let free_at = now + said.iter().map(|said| nanos(said.reset)).max().unwrap_or(0);
            let slot = known.unwrap_or_else(|| self.make(key, now));
            let client = &mut self.clients[slot];
            for (ask, said) in asks.iter().zip(&said) {
                if let Ok((next, _)) = said.next {
                    client.put(ask.id, next);
                }
            }
            // A look at only some of its rules does not make the client less worth remembering.
            client.share = if client.free_at > now { client.share.max(most) } else { most };
            client.free_at = client.free_at.max(free_at);
        }
        answer
    }

    fn give_back(&mut self, key: &str, asks: &[Ask], when: u64) {
        let Some(&at) = self.index.get(key) else { return };
        for ask in asks {
            let found = self.clients[at].used.iter_mut().find(|(id, _)| *id == ask.id);
            match (found, ask.rule) {
                (Some((_, Used::Bucket(level))), Rule::Bucket(bucket)) => {
                    *level = bucket.give_back(*level, ask.tokens);
                }
                (Some((_, Used::Window(counts))), Rule::Window(window)) => {
                    *counts = window.give_back(*counts, ask.tokens, when);
                }
                _ => {}
            }
        }
    }

    /// A new client, in the place of another one where there are too many.
    fn make(&mut self, key: &str, now: u64) -> usize {
        let key: Arc<str> = key.into();
        let client = Client { key: key.clone(), used: Vec::with_capacity(2), share: 0, free_at: 0 };
        let at = if self.clients.len() < self.clients_max {
            self.clients.push(client);
            self.clients.len() - 1
        } else {
            let at = self.least_useful(now);
            let old = std::mem::replace(&mut self.clients[at], client);
            self.index.remove(&old.key);
            at
        };
        self.index.insert(key, at);
        at
    }

    /// Of the next few after the hand.
    fn least_useful(&mut self, now: u64) -> usize {
        let count = self.clients.len();
        let from = self.hand % count;
        let looked_at = (0..SAMPLE.min(count)).map(|step| (from + step) % count);
        let worth = |at: usize| {
            let client = &self.clients[at];
            if client.free_at <= now { (0, 0) } else { (client.share, client.free_at) }
        };
        let least = looked_at.min_by_key(|&at| worth(at)).unwrap_or(from);
        self.hand = (from + SAMPLE) % count;
        least
    }
}

impl Client {
    fn put(&mut self, id: u16, next: Used) {
        match self.used.iter_mut().find(|(known, _)| *known == id) {
            Some((_, used)) => *used = next,
            None => self.used.push((id, next)),
        }
    }
}

fn used_of(used: &[(u16, Used)], ask: &Ask) -> Option<Used> {
    used.iter().find(|(id, _)| *id == ask.id).map(|(_, used)| *used)
}

/// A state of the other kind is that of a rule which is no more.
fn say(ask: Ask, used: Option<Used>, now: u64) -> Said {
    match ask.rule {
        Rule::Bucket(bucket) => {
            let level = if let Some(Used::Bucket(level)) = used { level } else { Level::default() };
            let next = bucket.take(level, ask.tokens, now, nanos(ask.patience));
            let after = next.map_or(level, |(level, _)| level);
            Said {
                next: next.map(|(level, wait)| (Used::Bucket(level), wait)),
                used: bucket.missing(after, now),
                reset: bucket.full_in(after, now),
            }
        }
        Rule::Window(window) => {
            let counts = if let Some(Used::Window(counts)) = used { counts } else { Counts::default() };
            let next = window.take(counts, ask.tokens, now);
            let after = next.unwrap_or(counts);
            Said {
                next: next.map(|counts| (Used::Window(counts), 0)),
                used: window.used(after, now),
                reset: window.free_again_in(after, now),
            }
        }
    }
}

/// Thousandths of the rule that are used.
fn share(rule: Rule, used: u32) -> u64 {
    u64::from(used) * WHOLE / u64::from(rule.limit().max(1))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resilience::limiter::bucket::Bucket;
    use crate::resilience::limiter::window::Window;

    const fn bucket(capacity: u32, rate: u32) -> Rule {
        Rule::Bucket(Bucket::new(capacity, rate))
    }

    fn minute(limit: u32) -> Rule {
        Rule::Window(Window::new(limit, Duration::from_secs(60)))
    }

    #[test]
    fn rules_are_taken_all_or_none() {
        let memory = Memory::new(100);
        let asks = [Ask::one(0, minute(5)), Ask::one(1, minute(2))];
        let ask = || memory.take("one", &asks, Duration::ZERO);
        assert_eq!((ask().taken, ask().taken), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        for _ in 0..10 {
            let refused = ask();
            assert_eq!((refused.at, refused.remaining), (1, 0));
            assert!(refused.taken.is_err());
        }
        let first = memory.look("one", &asks[..1], Duration::ZERO);
        assert_eq!(first.remaining, 2, "two were taken, and one more would be");
    }

    #[test]
    fn what_was_given_back_is_there_again() {
        let memory = Memory::new(100);
        let asks = [Ask::one(0, minute(1)), Ask::one(1, bucket(1, 1))];
        assert!(memory.take("one", &asks, Duration::ZERO).taken.is_ok());
        assert!(memory.take("one", &asks, Duration::ZERO).taken.is_err());
        memory.give_back("one", &asks, Duration::ZERO);
        assert!(memory.take("one", &asks, Duration::ZERO).taken.is_ok());
        memory.give_back("nobody", &asks, Duration::ZERO);
    }

    #[test]
    fn a_flood_of_names_does_not_free_who_used_up_its_limit() {
        let memory = Memory::new(200);
        let asks = [Ask::one(0, minute(3))];
        for _ in 0..3 {
            assert!(memory.take("culprit", &asks, Duration::ZERO).taken.is_ok());
        }
        for number in 0..50_000 {
            assert!(memory.take(&format!("mask-{number}"), &asks, Duration::from_secs(1)).taken.is_ok());
            assert!(memory.len() <= 200);
        }
        assert!(memory.take("culprit", &asks, Duration::from_secs(2)).taken.is_err());
    }

    #[test]
    fn who_has_all_of_it_again_goes_first() {
        let memory = Memory::new(2);
        let asks = [Ask::one(0, minute(1))];
        assert!(memory.take("old", &asks, Duration::ZERO).taken.is_ok());
        let later = Duration::from_secs(100);
        assert!(memory.take("new", &asks, later).taken.is_ok());
        assert!(memory.take("newest", &asks, later).taken.is_ok());
        for name in ["new", "newest"] {
            assert!(memory.take(name, &asks, later).taken.is_err(), "{name}");
        }
    }

    proptest! {
        /// Against a store of one client each, whatever others do, as long as there is room.
        #[test]
        fn clients_do_not_touch_each_other(
            steps in proptest::collection::vec((0..4_usize, 1..3_u32, 0..20_000_u64), 1..100),
        ) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let all = Memory::new(1_000);
            let alone: Vec<Memory> = NAMES.iter().map(|_| Memory::new(1)).collect();
            let mut now = Duration::ZERO;
            for (client, tokens, later) in steps {
                now += Duration::from_millis(later);
                let asks = [
                    Ask { tokens, ..Ask::one(0, minute(5)) },
                    Ask { tokens, patience: Duration::from_millis(later), ..Ask::one(1, bucket(4, 1)) },
                ];
                let answers = (all.take(NAMES[client], &asks, now), alone[client].take("x", &asks, now));
                prop_assert_eq!(answers.0, answers.1);
            }
        }

        #[test]
        fn never_more_clients_than_the_bound(bound in 0..300_usize, names in proptest::collection::vec(0..600_u32, 1..600)) {
            let memory = Memory::new(bound);
            for name in names {
                memory.take(&name.to_string(), &[Ask::one(0, minute(2))], Duration::ZERO);
                prop_assert!(memory.len() <= bound.max(1));
            }
        }
    }
}
