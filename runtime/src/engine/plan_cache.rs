//! Operations that were parsed and validated before, by their text: bounded by number and by bytes.
//!
//! Pure but for its lock. The oldest in use goes first; one text that is larger than the whole cache is not kept.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::plan::Plan;

/// Plans of one operation at most: one for each structure that its variables had.
const PLANS_MAX: usize = 64;

/// Bounds of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Operations.
    pub entries_max: usize,
    /// Bytes of their texts.
    pub bytes_max: usize,
}

/// What a look into the cache came to, and what had to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted(pub usize);

/// Values by text, least recently used first out.
pub struct TextCache<T: ?Sized> {
    bounds: Bounds,
    inner: Mutex<Inner<T>>,
}

struct Inner<T: ?Sized> {
    entries: HashMap<Arc<str>, Entry<T>>,
    bytes: usize,
    clock: u64,
}

struct Entry<T: ?Sized> {
    value: Arc<T>,
    used: u64,
    weight: usize,
}

impl<T: ?Sized> TextCache<T> {
    /// An empty cache.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, inner: Mutex::new(Inner { entries: HashMap::new(), bytes: 0, clock: 0 }) }
    }

    /// The value of this text.
    pub fn get(&self, text: &str) -> Option<Arc<T>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let entry = inner.entries.get_mut(text)?;
        entry.used = now;
        Some(entry.value.clone())
    }

    /// Keeps a value; answers how many had to go for it.
    pub fn insert(&self, text: &str, value: Arc<T>) -> Evicted {
        self.insert_weighing(text, value, text.len())
    }

    /// As [`insert`](Self::insert), of a value that has other bytes than its key.
    pub fn insert_weighing(&self, text: &str, value: Arc<T>, weight: usize) -> Evicted {
        if weight > self.bounds.bytes_max || self.bounds.entries_max == 0 {
            return Evicted(0);
        }
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let used = inner.clock;
        let key: Arc<str> = Arc::from(text);
        let replaced = inner.entries.insert(key, Entry { value, used, weight });
        inner.bytes += weight;
        inner.bytes -= replaced.map_or(0, |replaced| replaced.weight);
        let mut evicted = 0;
        while inner.entries.len() > self.bounds.entries_max || inner.bytes > self.bounds.bytes_max {
            // A scan, since this is rare and the cache is small; an order beside the map would cost each hit.
            let oldest =
                inner.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(text, _)| text.clone());
            let Some(oldest) = oldest else { break };
            inner.bytes -= inner.entries.remove(&oldest).map_or(0, |entry| entry.weight);
            evicted += 1;
        }
        Evicted(evicted)
    }

    /// How many there are, and how many bytes their texts have.
    pub fn size(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.entries.len(), inner.bytes)
    }
}

/// The plans of one operation by the structure of its variables.
#[derive(Default)]
pub struct Plans {
    inner: Mutex<Vec<(String, Arc<Plan>)>>,
}

impl Plans {
    /// The plan for this structure.
    pub fn get(&self, signature: &str) -> Option<Arc<Plan>> {
        let mut plans = self.inner.lock();
        let at = plans.iter().position(|(known, _)| known == signature)?;
        let plan = plans[at].1.clone();
        // The last used stays near the front, where it is found first and not cut off.
        if at > 0 {
            plans.swap(at, at / 2);
        }
        Some(plan)
    }

    /// Keeps a plan.
    pub fn insert(&self, signature: String, plan: Arc<Plan>) {
        let mut plans = self.inner.lock();
        if plans.iter().all(|(known, _)| *known != signature) {
            plans.truncate(PLANS_MAX - 1);
            plans.push((signature, plan));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_cache_keeps_its_bounds_and_answers_what_was_put_in(
            bounds in (0usize..6, 0usize..40),
            texts in proptest::collection::vec("[a-c]{0,12}", 0..60),
        ) {
            let cache = TextCache::new(Bounds { entries_max: bounds.0, bytes_max: bounds.1 });
            for text in &texts {
                cache.insert(text, Arc::new(text.clone()));
                let (entries, bytes) = cache.size();
                prop_assert!(entries <= bounds.0 && bytes <= bounds.1);
                if let Some(found) = cache.get(text) {
                    prop_assert_eq!(&*found, text);
                }
            }
        }
    }

    #[test]
    fn the_one_that_was_used_longest_ago_goes() {
        let cache = TextCache::new(Bounds { entries_max: 2, bytes_max: 100 });
        for text in ["a", "b"] {
            cache.insert(text, Arc::new(()));
        }
        assert!(cache.get("a").is_some());
        assert_eq!(cache.insert("c", Arc::new(())), Evicted(1));
        assert!(cache.get("b").is_none() && cache.get("a").is_some() && cache.get("c").is_some());
    }
}
