//! Open-loop pacing: a driver releases due arrivals as semaphore permits, users take them in order.
//!
//! The clock starts once, when everybody is ready; an arrival keeps its intended instant however late it is served, and
//! with `start_within` an arrival that waited longer is handed out only to be recorded as dropped. The pacer measures
//! its own wake-up lag, so that a run whose generator was the limit can be told from one whose server was.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::schedule::Schedule;

/// Longest sleep of the driver, so that a stop is seen soon.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// One arrival that is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// Index in the schedule, from 0.
    pub index: u64,
    /// When it was meant to start, counted from the start of the schedule.
    pub at: Duration,
    pub intended: Instant,
}

/// What a user is handed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ticket {
    Start(Arrival),
    /// Waited longer than `start_within`: to be recorded as failed, never sent.
    Drop(Arrival),
}

/// What the pacer saw; durations in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    pub released: u64,
    /// Arrivals that were taken from a queue: no user was waiting when they came due.
    pub backlogged: u64,
    pub wake_lag_p50_ms: f64,
    pub wake_lag_p99_ms: f64,
    pub wake_lag_max_ms: f64,
}

/// Hands out the arrivals of one schedule.
#[derive(Debug)]
pub struct Pacer {
    schedule: Schedule,
    start_within: Option<Duration>,
    permits: Semaphore,
    next: AtomicU64,
    released: AtomicU64,
    backlogged: AtomicU64,
    joined: AtomicUsize,
    in_flight: AtomicUsize,
    changed: Notify,
    over: AtomicBool,
    start: OnceLock<Instant>,
    wake_lag_us: Mutex<Histogram<u64>>,
}

impl Pacer {
    /// `start_within`: `None` queues for ever.
    pub fn new(schedule: Schedule, start_within: Option<Duration>) -> Self {
        Pacer {
            schedule,
            start_within,
            permits: Semaphore::new(0),
            next: AtomicU64::new(0),
            released: AtomicU64::new(0),
            backlogged: AtomicU64::new(0),
            joined: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            changed: Notify::new(),
            over: AtomicBool::new(false),
            start: OnceLock::new(),
            wake_lag_us: Mutex::new(crate::observe::latency::histogram()),
        }
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Counts a user that is ready, its connection up.
    pub fn join(&self) {
        self.joined.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until `users` have joined.
    pub async fn all_joined(&self, users: usize) {
        self.wait_until(|| self.joined.load(Ordering::SeqCst) >= users).await;
    }

    /// Waits until no arrival that was started is still being served.
    pub async fn all_served(&self) {
        self.wait_until(|| self.in_flight.load(Ordering::SeqCst) == 0).await;
    }

    /// True when no arrival will be handed out any more.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// The next arrival in order, or `None` when the schedule is over or was stopped. A started arrival is given back
    /// with [`Pacer::done`].
    pub async fn next(&self) -> Option<Ticket> {
        match self.permits.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.backlogged.fetch_add(1, Ordering::Relaxed);
            }
            Err(tokio::sync::TryAcquireError::Closed) => return None,
            Err(tokio::sync::TryAcquireError::NoPermits) => self.permits.acquire().await.ok()?.forget(),
        }
        let index = self.next.fetch_add(1, Ordering::SeqCst);
        if index >= self.released.load(Ordering::SeqCst) {
            // The run ended between the permit and here, and has already given this arrival back.
            return None;
        }
        let at = self.schedule.at(index);
        let start = *self.start.get().expect("permits are added only after the clock started");
        let arrival = Arrival { index, at, intended: start + at };
        let waited = Instant::now().saturating_duration_since(arrival.intended);
        if self.start_within.is_some_and(|limit| waited > limit) {
            return Some(Ticket::Drop(arrival));
        }
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Some(Ticket::Start(arrival))
    }

    /// Ends an arrival that was started.
    pub fn done(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Releases arrivals from `start` on until the schedule is over or `cancel` fires; then lets what was released be
    /// taken for at most `drain`, and closes. Returns the arrivals that nobody took, which after a cancel are not
    /// failures of anybody.
    pub async fn run(
        &self,
        start: Instant,
        drain: Duration,
        cancel: &CancellationToken,
        mut tick: impl FnMut(f64),
    ) -> Vec<Arrival> {
        let start = *self.start.get_or_init(|| start);
        // Biased by order: a cancel wins over further releases.
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.release(start, &mut tick) => self.drain(drain, cancel).await,
        }
        tick(0.0);
        self.over.store(true, Ordering::SeqCst);
        self.permits.close();
        let released = self.released.load(Ordering::SeqCst);
        // Whoever counts on from here finds nothing left: each arrival is either taken or given back.
        let taken = self.next.swap(released, Ordering::SeqCst);
        (taken..released)
            .map(|index| {
                let at = self.schedule.at(index);
                Arrival { index, at, intended: start + at }
            })
            .collect()
    }

    pub fn figures(&self) -> Figures {
        let lag = self.wake_lag_us.lock();
        let ms = |us: u64| us as f64 / 1_000.0;
        Figures {
            released: self.released.load(Ordering::SeqCst),
            backlogged: self.backlogged.load(Ordering::Relaxed),
            wake_lag_p50_ms: ms(lag.value_at_quantile(0.5)),
            wake_lag_p99_ms: ms(lag.value_at_quantile(0.99)),
            wake_lag_max_ms: ms(lag.max()),
        }
    }

    async fn release(&self, start: Instant, tick: &mut impl FnMut(f64)) {
        let mut released = 0;
        while released < self.schedule.total() {
            let due = start + self.schedule.at(released);
            let now = Instant::now();
            if due > now {
                tokio::time::sleep_until(due.min(now + LONGEST_SLEEP)).await;
            }
            let elapsed = Instant::now().saturating_duration_since(start);
            tick(self.schedule.rate_at(elapsed));
            let by_now = self.schedule.due_by(elapsed);
            if by_now > released {
                let lag = elapsed.saturating_sub(self.schedule.at(released));
                self.wake_lag_us.lock().saturating_record(lag.as_micros() as u64);
                // Published before the permits, so that `released` is never below what was taken.
                self.released.store(by_now, Ordering::SeqCst);
                self.permits.add_permits((by_now - released) as usize);
                released = by_now;
            }
        }
    }

    async fn drain(&self, limit: Duration, cancel: &CancellationToken) {
        let deadline = Instant::now() + limit;
        // Not the permits: one that was handed to a waiting user is lost when the semaphore closes before it wakes.
        let taken = || self.next.load(Ordering::SeqCst) >= self.released.load(Ordering::SeqCst);
        while !taken() && Instant::now() < deadline && !cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            // Registered before the condition is read, so that no change is missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::schedule::Segment;
    use std::sync::Arc;

    fn constant(rate: f64, duration: Duration) -> Schedule {
        Schedule::new(&[Segment { from: rate, to: rate, duration }])
    }

    async fn serve(pacer: Arc<Pacer>, hold: Duration) -> (Vec<Duration>, u64) {
        let (mut lags, mut dropped) = (Vec::new(), 0);
        while let Some(ticket) = pacer.next().await {
            match ticket {
                Ticket::Start(arrival) => {
                    lags.push(arrival.intended.elapsed());
                    tokio::time::sleep(hold).await;
                    pacer.done();
                }
                Ticket::Drop(_) => dropped += 1,
            }
        }
        (lags, dropped)
    }

    #[tokio::test(start_paused = true)]
    async fn every_arrival_is_handed_out_once_and_on_time() {
        let pacer = Arc::new(Pacer::new(constant(100.0, Duration::from_secs(2)), None));
        let users: Vec<_> =
            (0..4).map(|_| tokio::spawn(serve(pacer.clone(), Duration::from_millis(5)))).collect();
        let left = pacer.run(Instant::now(), Duration::from_secs(1), &CancellationToken::new(), |_| {}).await;
        assert!(left.is_empty());
        let mut served = 0;
        for user in users {
            let (lags, dropped) = user.await.expect("user");
            assert_eq!(dropped, 0);
            assert!(lags.iter().all(|lag| *lag <= Duration::from_millis(3)), "{lags:?}");
            served += lags.len();
        }
        assert_eq!(served, 200);
        assert_eq!(pacer.figures().released, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_user_gets_every_arrival_late_when_it_queues_for_ever() {
        let pacer = Arc::new(Pacer::new(constant(10.0, Duration::from_secs(2)), None));
        let user = tokio::spawn(serve(pacer.clone(), Duration::from_millis(200)));
        let left =
            pacer.run(Instant::now(), Duration::from_secs(10), &CancellationToken::new(), |_| {}).await;
        assert!(left.is_empty());
        let (lags, _) = user.await.expect("user");
        assert_eq!(lags.len(), 20);
        assert!(lags[19] > Duration::from_millis(1_800), "latency counts from the intended start: {lags:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn arrivals_that_wait_longer_than_start_within_are_dropped() {
        let pacer =
            Arc::new(Pacer::new(constant(100.0, Duration::from_secs(2)), Some(Duration::from_millis(100))));
        let user = tokio::spawn(serve(pacer.clone(), Duration::from_millis(500)));
        let left = pacer.run(Instant::now(), Duration::from_secs(5), &CancellationToken::new(), |_| {}).await;
        let (lags, dropped) = user.await.expect("user");
        assert_eq!(lags.len() as u64 + dropped + left.len() as u64, 200);
        assert!(dropped > 150, "{dropped} dropped");
        assert!(lags.iter().all(|lag| *lag <= Duration::from_millis(101)));
    }

    #[tokio::test(start_paused = true)]
    async fn cancel_stops_at_once_and_wakes_waiting_users() {
        let pacer = Arc::new(Pacer::new(constant(1.0, Duration::from_secs(3_600)), None));
        let cancel = CancellationToken::new();
        let user = tokio::spawn(serve(pacer.clone(), Duration::ZERO));
        let stopper = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            stopper.cancel();
        });
        let began = Instant::now();
        pacer.run(began, Duration::from_secs(60), &cancel, |_| {}).await;
        assert!(began.elapsed() <= Duration::from_millis(5_200), "{:?}", began.elapsed());
        assert_eq!(user.await.expect("user").0.len(), 5);
        assert!(pacer.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_within_the_drain_is_returned() {
        let pacer = Pacer::new(constant(10.0, Duration::from_secs(1)), None);
        let left =
            pacer.run(Instant::now(), Duration::from_millis(50), &CancellationToken::new(), |_| {}).await;
        assert_eq!(left.iter().map(|arrival| arrival.index).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}
