//! The same work asked for by many at the same time is done once.
//!
//! Promises: who comes first works, who comes meanwhile waits and gets a clone of the result, whatever it is; nothing
//! is remembered afterwards. Whoever works may vanish, by a panic or because its caller left: then one of those who
//! wait works instead. There is a bound on how many works are shared; beyond it each caller works alone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Empty until the work is done; closed without a value when it never will be.
type Result<V> = watch::Receiver<Option<V>>;

/// The works in progress. Clones share them.
pub struct SingleFlight<K, V> {
    flights: Arc<Flights<K, V>>,
}

struct Flights<K, V> {
    by_key: Mutex<HashMap<K, Result<V>>>,
    most: usize,
}

impl<K, V> Clone for SingleFlight<K, V> {
    fn clone(&self) -> Self {
        Self { flights: self.flights.clone() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SingleFlight<K, V> {
    /// Shares `most` works at a time.
    pub fn new(most: usize) -> Self {
        Self { flights: Arc::new(Flights { by_key: Mutex::default(), most }) }
    }

    /// The result of `work`, or of the same work of somebody else that was in progress.
    pub async fn run<F: Future<Output = V>>(&self, key: K, work: impl FnOnce() -> F) -> V {
        loop {
            match self.flights.board(&key) {
                Seat::Leader(leader) => return leader.land(work().await),
                Seat::Alone => return work().await,
                Seat::Follower(mut result) => {
                    if let Ok(value) = result.wait_for(Option::is_some).await
                        && let Some(value) = value.clone()
                    {
                        return value;
                    }
                    // The leader vanished: the first of us to come back leads.
                }
            }
        }
    }

    /// Works in progress that may be shared.
    pub fn in_flight(&self) -> usize {
        self.flights.by_key.lock().len()
    }
}

enum Seat<'f, K: Hash + Eq, V> {
    Leader(Leader<'f, K, V>),
    Follower(Result<V>),
    Alone,
}

impl<K: Hash + Eq + Clone, V> Flights<K, V> {
    fn board(&self, key: &K) -> Seat<'_, K, V> {
        let mut by_key = self.by_key.lock();
        if let Some(result) = by_key.get(key) {
            return Seat::Follower(result.clone());
        }
        if by_key.len() >= self.most {
            return Seat::Alone;
        }
        let (sender, result) = watch::channel(None);
        by_key.insert(key.clone(), result);
        Seat::Leader(Leader { flights: self, key: key.clone(), sender })
    }
}

/// Clears its flight when it is dropped, and closes the channel after that.
struct Leader<'f, K: Hash + Eq, V> {
    flights: &'f Flights<K, V>,
    key: K,
    sender: watch::Sender<Option<V>>,
}

impl<K: Hash + Eq, V: Clone> Leader<'_, K, V> {
    fn land(self, value: V) -> V {
        self.sender.send_replace(Some(value.clone()));
        value
    }
}

impl<K: Hash + Eq, V> Drop for Leader<'_, K, V> {
    fn drop(&mut self) {
        self.flights.by_key.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures::FutureExt;
    use futures::future::join_all;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn flights() -> SingleFlight<&'static str, u32> {
        SingleFlight::new(10)
    }

    /// Takes a second and answers how often it was called before.
    async fn count(calls: &AtomicU32) -> u32 {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(SECOND).await;
        call
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_work_once_and_later_ones_work_again() {
        let (flights, calls) = (flights(), AtomicU32::new(0));
        let results = join_all((0..100).map(|_| flights.run("k", || count(&calls)))).await;
        assert_eq!(results, [0; 100]);
        assert_eq!(flights.run("k", || count(&calls)).await, 1);
        assert_eq!(flights.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_key_is_another_work() {
        let (flights, calls) = (flights(), AtomicU32::new(0));
        let mut results = join_all(["a", "b", "a"].map(|key| flights.run(key, || count(&calls)))).await;
        results.sort_unstable();
        assert_eq!(results, [0, 0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_leader_leaves_one_follower_works_and_the_others_still_wait() {
        let (flights, calls) = (flights(), AtomicU32::new(0));
        let impatient = tokio::time::timeout(SECOND / 2, flights.run("k", || count(&calls)));
        let patient = join_all((0..10).map(|_| flights.run("k", || count(&calls))));
        let (left, results) = tokio::join!(impatient, patient);
        assert!(left.is_err());
        assert_eq!(results, [1; 10]);
        assert_eq!(flights.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_the_leaders_own() {
        let flights = flights();
        let panics = AssertUnwindSafe(flights.run("k", async || {
            tokio::time::sleep(SECOND).await;
            panic!("a defect")
        }));
        let (left, result) = tokio::join!(panics.catch_unwind(), flights.run("k", async || 7));
        assert!(left.is_err());
        assert_eq!(result, 7);
        assert_eq!(flights.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_each_works_alone() {
        let (flights, calls) = (SingleFlight::<_, u32>::new(1), AtomicU32::new(0));
        let keys = ["a", "b", "b", "a"];
        join_all(keys.map(|key| flights.run(key, || count(&calls)))).await;
        assert_eq!(calls.into_inner(), 3, "a is shared, b is not");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Callers come and leave as they like: all who stay get a result that was computed while they waited, and
        /// no two works of one key run at a time.
        #[test]
        fn whoever_stays_gets_a_result_of_a_work_that_ran_meanwhile(
            callers in proptest::collection::vec((0..50_u64, 0..40_u64, 1..40_u64, 0..2_usize), 1..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time().start_paused(true).build().expect("a runtime");
            runtime.block_on(async {
                let flights = SingleFlight::<usize, Instant>::new(10);
                let running: [AtomicU32; 2] = Default::default();
                let calls = callers.iter().map(async |&(start, patience, takes, key)| {
                    tokio::time::sleep(Duration::from_millis(start)).await;
                    let came = Instant::now();
                    let work = || async {
                        let _running = Running::enter(&running[key]);
                        tokio::time::sleep(Duration::from_millis(takes)).await;
                        Instant::now()
                    };
                    let patience = Duration::from_millis(patience);
                    if let Ok(done) = tokio::time::timeout(patience, flights.run(key, work)).await {
                        assert!(done >= came && done <= came + patience);
                    }
                });
                join_all(calls).await;
                assert_eq!(flights.in_flight(), 0);
            });
        }
    }

    /// Alone until it is dropped.
    struct Running<'a>(&'a AtomicU32);

    impl<'a> Running<'a> {
        fn enter(running: &'a AtomicU32) -> Self {
            assert_eq!(running.fetch_add(1, Ordering::Relaxed), 0, "two works of one key");
            Self(running)
        }
    }

    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
