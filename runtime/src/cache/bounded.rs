//! A map that is bounded in entries and bytes and forgets what was not used for longest, nearly: the CLOCK algorithm.
//!
//! A hand goes round the entries. One that was read since it last came by is spared once; another one goes. A read
//! therefore only sets a flag. Pure: the time is an argument.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

/// What an entry costs besides its key and value: slot, index and their allocations.
pub(super) const OVERHEAD: usize = 160;

/// How much a map holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) entries: usize,
    /// Keys, values and [`OVERHEAD`].
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Bounded {
    bounds: Bounds,
    index: HashMap<Arc<str>, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    key: Arc<str>,
    value: Bytes,
    /// `None` lasts until it is pushed out.
    expires: Option<Instant>,
    used: bool,
}

impl Slot {
    fn cost(&self) -> usize {
        cost(&self.key, &self.value)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

fn cost(key: &str, value: &Bytes) -> usize {
    key.len().saturating_add(value.len()).saturating_add(OVERHEAD)
}

impl Bounded {
    pub(super) fn new(bounds: Bounds) -> Self {
        let (index, slots, free) = (HashMap::new(), Vec::new(), Vec::new());
        Self { bounds, index, slots, free, hand: 0, bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&mut self, key: &str, now: Instant) -> Option<Bytes> {
        let at = *self.index.get(key)?;
        let slot = self.slots[at].as_mut()?;
        if slot.is_over(now) {
            self.clear(at);
            return None;
        }
        slot.used = true;
        Some(slot.value.clone())
    }

    /// Keeps a value and answers how many live ones it pushed out. A value that no room can be made for is not kept,
    /// and neither is what the key had before.
    pub(super) fn set(&mut self, key: &str, value: Bytes, expires: Option<Instant>, now: Instant) -> u64 {
        self.remove(key);
        let cost = cost(key, &value);
        if cost > self.bounds.bytes || self.bounds.entries == 0 {
            return 0;
        }
        let mut evicted = 0;
        while self.len() >= self.bounds.entries || self.bytes + cost > self.bounds.bytes {
            evicted += u64::from(self.evict(now));
        }
        let key: Arc<str> = key.into();
        // Not `used` yet: what is never asked for again goes before what is.
        let slot = Some(Slot { key: key.clone(), value, expires, used: false });
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.index.insert(key, at);
        self.bytes += cost;
        evicted
    }

    pub(super) fn remove(&mut self, key: &str) -> bool {
        match self.index.get(key) {
            Some(&at) => {
                self.clear(at);
                true
            }
            None => false,
        }
    }

    /// Removes one entry, of which there must be some; answers whether it was still live.
    fn evict(&mut self, now: Instant) -> bool {
        loop {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            let Some(slot) = self.slots[at].as_mut() else { continue };
            let over = slot.is_over(now);
            if over || !std::mem::take(&mut slot.used) {
                self.clear(at);
                return !over;
            }
        }
    }

    fn clear(&mut self, at: usize) {
        if let Some(slot) = self.slots[at].take() {
            self.index.remove(&slot.key);
            self.bytes -= slot.cost();
            self.free.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 6] = ["a", "b", "c", "dd", "eee", "ffff"];

    #[derive(Debug, Clone)]
    enum Step {
        Get(usize),
        Set { key: usize, size: usize, ttl: Option<u64> },
        Remove(usize),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..KEYS.len();
        prop_oneof![
            4 => key.clone().prop_map(Step::Get),
            4 => (key.clone(), 0..300_usize, proptest::option::of(0..50_u64))
                .prop_map(|(key, size, ttl)| Step::Set { key, size, ttl }),
            1 => key.prop_map(Step::Remove),
            2 => (0..20_u64).prop_map(Step::Advance),
        ]
    }

    fn value(size: usize, byte: u8) -> Bytes {
        vec![byte; size].into()
    }

    proptest! {
        /// Against a map without bounds that remembers what each key must have if it has anything.
        #[test]
        fn never_over_its_bounds_and_never_anything_but_the_last_live_value(
            entries in 0..5_usize, bytes in 0..900_usize, steps in proptest::collection::vec(step(), 1..80),
        ) {
            let bounds = Bounds { entries, bytes };
            let mut map = Bounded::new(bounds);
            let mut model: HashMap<&str, (Bytes, Option<Instant>)> = HashMap::new();
            let mut now = Instant::now();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Get(key) => {
                        let live = model.get(KEYS[key]).filter(|(_, end)| end.is_none_or(|end| end > now));
                        if let Some(found) = map.get(KEYS[key], now) {
                            prop_assert_eq!(Some(&found), live.map(|(value, _)| value));
                        }
                    }
                    Step::Set { key, size, ttl } => {
                        let value = value(size, n as u8);
                        let expires = ttl.map(|ttl| now + Duration::from_millis(ttl));
                        let (before, fits) = (map.len(), cost(KEYS[key], &value) <= bytes && entries > 0);
                        let evicted = map.set(KEYS[key], value.clone(), expires, now);
                        prop_assert!(evicted <= before as u64);
                        prop_assert_eq!(map.index.contains_key(KEYS[key]), fits);
                        model.insert(KEYS[key], (value, expires));
                    }
                    Step::Remove(key) => {
                        map.remove(KEYS[key]);
                        model.remove(KEYS[key]);
                    }
                    Step::Advance(by) => now += Duration::from_millis(by),
                }
                let slots = map.slots.iter().flatten();
                prop_assert_eq!(map.bytes(), slots.clone().map(Slot::cost).sum::<usize>());
                prop_assert_eq!(map.len(), slots.count());
                prop_assert_eq!(map.len() + map.free.len(), map.slots.len());
                prop_assert!(map.len() <= entries && map.bytes() <= bytes && map.slots.len() <= entries);
            }
        }
    }

    fn full(entries: usize) -> (Bounded, Instant) {
        let (mut map, now) = (Bounded::new(Bounds { entries, bytes: usize::MAX }), Instant::now());
        for key in &KEYS[..entries] {
            assert_eq!(map.set(key, value(1, 0), None, now), 0);
        }
        (map, now)
    }

    #[test]
    fn what_is_read_outlives_what_is_not() {
        let (mut map, now) = full(3);
        map.get("a", now).expect("there");
        map.get("c", now).expect("there");
        assert_eq!(map.set("new", value(1, 0), None, now), 1);
        assert!(map.get("b", now).is_none(), "the one that nobody read");
        assert!(map.get("a", now).is_some() && map.get("c", now).is_some());
    }

    #[test]
    fn a_full_map_of_read_entries_still_makes_room() {
        let (mut map, now) = full(3);
        for key in &KEYS[..3] {
            map.get(key, now).expect("there");
        }
        assert_eq!(map.set("new", value(1, 0), None, now), 1);
        assert_eq!(map.len(), 3);
    }

    #[test]
    fn an_entry_whose_time_is_over_makes_room_without_counting_as_pushed_out() {
        let mut map = Bounded::new(Bounds { entries: 1, bytes: usize::MAX });
        let now = Instant::now();
        let end = now + Duration::from_secs(1);
        map.set("a", value(1, 0), Some(end), now);
        assert!(map.get("a", end - Duration::from_millis(1)).is_some());
        assert_eq!(map.set("b", value(1, 0), None, end), 0);
        assert!(map.get("a", now).is_none());
    }
}
