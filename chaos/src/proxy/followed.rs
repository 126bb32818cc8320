//! A plan, and the connections that follow it: whatever is changed, each of them comes to see it.
//!
//! `tests/proxy_schedules.rs` tries every schedule of these few lines and of [`Signal`]. That is why they stand alone, know
//! nothing of what a plan is, and take their primitives from `crate::sync`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::signal::Signal;
use crate::sync::{AtomicU64, Mutex, Ordering, Watch};

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Live<K> {
    pub signal: Arc<Signal<K>>,
    pub client: IpAddr,
}

/// `P` is the plan, `K` an order to end.
#[derive(Debug)]
pub(super) struct Followed<P, K> {
    /// Changes that no connection has to follow are made here; others by [`Followed::change`].
    pub plan: Watch<P>,
    /// Connections by their numbers, reached in that order. One is listed before it looks at the plan for the first time.
    pub live: Mutex<BTreeMap<u64, Live<K>>>,
    /// Counts the changes that connections follow.
    version: AtomicU64,
}

impl<P, K: Clone> Followed<P, K> {
    pub fn new(plan: P) -> Self {
        Followed { plan: Watch::new(plan), live: Mutex::new(BTreeMap::new()), version: AtomicU64::new(0) }
    }

    /// Changes the plan and has every connection look at it, unless `change` says that it left it as it was; returns what it
    /// says. Of several who want the same change one makes it.
    pub fn change(&self, change: impl FnOnce(&mut P) -> bool) -> bool {
        let changed = self.plan.send_if_modified(change);
        if changed {
            // After the plan: whoever sees the version sees the change. Before the waking: whoever is woken sees both.
            self.version.fetch_add(1, Ordering::Release);
            for live in self.live.lock().values() {
                live.signal.wake();
            }
        }
        changed
    }

    /// Grows with every change that connections follow.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What `look` takes from the plan when it may have changed since the version `followed`, which it then has. Called after
    /// [`Signal::poll_ended`].
    pub fn follow<T>(&self, followed: &mut Option<u64>, look: impl FnOnce(&P) -> T) -> Option<T> {
        let version = self.version();
        if *followed == Some(version) {
            return None;
        }
        // Before looking: what is changed from here on has another version.
        *followed = Some(version);
        Some(look(&self.plan.borrow()))
    }

    /// Orders the live connections that are chosen by number and client to end; their numbers.
    pub fn order_to_end(&self, kill: &K, chosen: impl Fn(u64, IpAddr) -> bool) -> Vec<u64> {
        let mut ending = Vec::new();
        for (number, live) in self.live.lock().iter() {
            if chosen(*number, live.client) {
                live.signal.end(kill.clone());
                ending.push(*number);
            }
        }
        ending
    }
}
