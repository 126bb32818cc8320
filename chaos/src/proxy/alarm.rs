//! Wakes tasks at an instant, to a fraction of a millisecond.
//!
//! tokio's timers go by a wheel of 1 ms and round up, which is an error of 1 % on a latency of 100 ms. One thread for the
//! process sleeps until the next instant that anybody asked for and wakes exactly those whose time has come; it starts
//! with the first alarm, and sleeps without end while there is none. An alarm that is dropped leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

static CLOCK: LazyLock<Arc<Clock>> = LazyLock::new(Clock::start);

/// When, and the number that tells alarms of one instant apart.
type Key = (Instant, u64);

#[derive(Debug, Default)]
struct Waiting {
    by_time: BTreeMap<Key, Waker>,
    next: u64,
}

#[derive(Debug, Default)]
struct Clock {
    waiting: Mutex<Waiting>,
    earlier: Condvar,
}

impl Clock {
    fn start() -> Arc<Clock> {
        let clock = Arc::<Clock>::default();
        let own = clock.clone();
        std::thread::Builder::new()
            .name("chaos-alarm".into())
            .spawn(move || own.run())
            .expect("a machine that cannot start one more thread cannot run a proxy");
        clock
    }

    fn run(&self) -> ! {
        let mut waiting = self.waiting.lock();
        loop {
            let now = Instant::now();
            let later = waiting.by_time.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut waiting.by_time, later);
            if !due.is_empty() {
                // Waking runs foreign code, which may set the next alarm.
                parking_lot::MutexGuard::unlocked(&mut waiting, || due.into_values().for_each(Waker::wake));
                continue;
            }
            match waiting.by_time.keys().next().copied() {
                Some((at, _)) => drop(self.earlier.wait_until(&mut waiting, at)),
                None => self.earlier.wait(&mut waiting),
            }
        }
    }

    fn set(&self, at: Instant, waker: Waker) -> Key {
        let mut waiting = self.waiting.lock();
        let key = (at, waiting.next);
        waiting.next += 1;
        waiting.by_time.insert(key, waker);
        if waiting.by_time.keys().next() == Some(&key) {
            self.earlier.notify_one();
        }
        key
    }

    fn clear(&self, key: Key) {
        self.waiting.lock().by_time.remove(&key);
    }
}

/// One task's alarm; it has one time at a time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    set: Option<(Key, Waker)>,
}

impl Alarm {
    /// Ready when `at` has come; until then the task is woken at that instant, and at no other that was asked for before.
    pub fn poll(&mut self, context: &Context<'_>, at: Instant) -> Poll<()> {
        if at <= Instant::now() {
            self.clear();
            return Poll::Ready(());
        }
        let is_set = self
            .set
            .as_ref()
            .is_some_and(|((then, _), waker)| *then == at && waker.will_wake(context.waker()));
        if !is_set {
            self.clear();
            let waker = context.waker().clone();
            self.set = Some((CLOCK.set(at, waker.clone()), waker));
        }
        Poll::Pending
    }

    /// Forgets the time.
    pub fn clear(&mut self) {
        if let Some((key, _)) = self.set.take() {
            CLOCK.clear(key);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn until(at: Instant) {
        let mut alarm = Alarm::default();
        poll_fn(|context| alarm.poll(context, at)).await;
    }

    #[tokio::test]
    async fn nobody_is_woken_before_the_time_whatever_the_order_of_asking() {
        let start = Instant::now();
        let late = tokio::spawn(until(start + Duration::from_millis(30)));
        let soon = tokio::spawn(until(start + Duration::from_millis(10)));
        soon.await.expect("the earlier alarm");
        assert!(start.elapsed() >= Duration::from_millis(10));
        late.await.expect("the later alarm");
        assert!(start.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_time_that_has_passed_is_ready_at_once() {
        until(Instant::now()).await;
    }

    #[tokio::test]
    async fn a_changed_time_replaces_the_one_before_and_a_dropped_alarm_leaves_nothing() {
        let far = Instant::now() + Duration::from_secs(3_600);
        let mut alarm = Alarm::default();
        let first = poll_fn(|context| Poll::Ready(alarm.poll(context, far))).await;
        assert!(first.is_pending());
        let ((_, number), _) = alarm.set.clone().expect("it is set");
        let nearer = far - Duration::from_secs(1);
        assert!(poll_fn(|context| Poll::Ready(alarm.poll(context, nearer))).await.is_pending());
        let key = alarm.set.as_ref().expect("it is set").0;
        let holds = |key: &Key| CLOCK.waiting.lock().by_time.contains_key(key);
        assert!(!holds(&(far, number)) && holds(&key));
        drop(alarm);
        assert!(!holds(&key));
    }
}
