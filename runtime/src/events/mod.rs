//! Events of the stream, on their way to the subscriptions of this process.
//!
//! Promises: one consumer of the stream for all subscriptions, from the first that comes until a while after the last has
//! left; an event reaches each subscription that wants it in the order of the stream, and those of a time when NATS was
//! away follow when it is back. What waits for a subscription is bounded: one event more, and the subscription is marked
//! as slow and gets nothing more. Nothing here waits for a subscriber.
//! Absent on purpose: what happened before a subscription began, and events of a process that was not running.

pub mod metrics;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::metrics::SubscriptionMetrics;
use crate::error::chain;
use crate::storage::nats::{self, Follower, Message, Nats};

/// The stream is followed for this long without a subscription.
const IDLE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// An event, read once for all its subscriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The last part of its subject.
    pub name: String,
    /// Its place in the stream.
    pub sequence: u64,
    /// What it says.
    pub payload: Map<String, Value>,
}

/// Whether a subscription wants an event.
pub type Filter = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// Where events meet subscriptions. Clones share everything.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    nats: Nats,
    buffer: usize,
    metrics: SubscriptionMetrics,
    subscribers: Mutex<HashMap<String, Vec<Subscriber>>>,
    /// How many there are.
    count: watch::Sender<usize>,
    last_id: AtomicU64,
}

struct Subscriber {
    id: u64,
    filter: Filter,
    events: mpsc::Sender<Arc<Event>>,
    slow: CancellationToken,
}

/// The events of one subscription. Dropping it ends it.
pub struct Events {
    shared: Arc<Shared>,
    name: String,
    id: u64,
    events: mpsc::Receiver<Arc<Event>>,
    slow: CancellationToken,
}

impl Hub {
    /// A hub whose subscriptions hold `buffer` waiting events each.
    pub fn new(nats: Nats, buffer: usize, metrics: SubscriptionMetrics) -> Self {
        let shared = Shared {
            nats,
            buffer,
            metrics,
            subscribers: Mutex::default(),
            count: watch::Sender::new(0),
            last_id: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What is counted.
    pub fn metrics(&self) -> &SubscriptionMetrics {
        &self.shared.metrics
    }

    /// Subscribes to the events of this name that the filter lets through.
    pub fn subscribe(&self, name: &str, filter: Filter) -> Events {
        let shared = self.shared.clone();
        let (sender, events) = mpsc::channel(shared.buffer);
        let (id, slow) = (shared.last_id.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
        let subscriber = Subscriber { id, filter, events: sender, slow: slow.clone() };
        shared.subscribers.lock().entry(name.to_owned()).or_default().push(subscriber);
        shared.count.send_modify(|count| *count += 1);
        shared.metrics.active.inc();
        Events { shared, name: name.to_owned(), id, events, slow }
    }

    /// Follows the stream while there are subscriptions. Runs until `cancel`.
    pub async fn run(&self, cancel: CancellationToken) {
        self.run_until(&cancel).await;
        self.shared.metrics.following.set(0);
    }

    async fn run_until(&self, cancel: &CancellationToken) {
        let shared = &self.shared;
        let (mut last, mut pause) = (None, PAUSE);
        loop {
            let mut count = shared.count.subscribe();
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = count.wait_for(|count| *count > 0) => {}
            }
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = self.follow(&mut last, &mut pause) => ended,
            };
            shared.metrics.following.set(0);
            let Err(error) = ended else {
                // Nobody is left: who comes next wants what happens from then on.
                last = None;
                continue;
            };
            tracing::debug!(error = %chain(&error), last, "the stream is followed again soon");
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    /// Hands events out until nobody is left, or NATS is gone.
    async fn follow(&self, last: &mut Option<u64>, pause: &mut Duration) -> Result<(), nats::Error> {
        let mut follower: Follower = self.shared.nats.follow(*last).await?;
        self.shared.metrics.following.set(1);
        *pause = PAUSE;
        let mut idle = std::pin::pin!(self.idle());
        loop {
            tokio::select! {
                message = follower.next() => {
                    let message = message?;
                    *last = Some(message.sequence);
                    self.hand_out(message);
                }
                () = idle.as_mut() => return Ok(()),
            }
        }
    }

    /// Ends when there was no subscription for a while.
    async fn idle(&self) {
        let mut count = self.shared.count.subscribe();
        loop {
            let _ = count.wait_for(|count| *count == 0).await;
            tokio::select! {
                _ = count.wait_for(|count| *count > 0) => {}
                () = tokio::time::sleep(IDLE) => return,
            }
        }
    }

    fn hand_out(&self, message: Message) {
        let (shared, metrics) = (&self.shared, &self.shared.metrics);
        metrics.received.inc();
        let mut subscribers = shared.subscribers.lock();
        let Some(waiting) = subscribers.get_mut(&message.name) else { return };
        let Message { name, sequence, payload } = message;
        let payload = match serde_json::from_slice(&payload) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::warn!(%error, name, sequence, "an event is no JSON object");
                return;
            }
        };
        let event = Arc::new(Event { name, sequence, payload });
        waiting.retain(|subscriber| {
            if !(subscriber.filter)(&event) {
                return true;
            }
            match subscriber.events.try_send(event.clone()) {
                Ok(()) => {
                    metrics.matched.inc();
                    true
                }
                Err(_) => {
                    metrics.dropped.inc();
                    subscriber.slow.cancel();
                    false
                }
            }
        });
    }
}

impl Events {
    /// The next event; `None` when too many were waiting.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        tokio::select! {
            biased;
            () = self.slow.cancelled() => None,
            event = self.events.recv() => event,
        }
    }

    /// Cancelled when too many events were waiting.
    pub fn slow(&self) -> CancellationToken {
        self.slow.clone()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut subscribers = self.shared.subscribers.lock();
        if let Some(waiting) = subscribers.get_mut(&self.name) {
            waiting.retain(|subscriber| subscriber.id != self.id);
            if waiting.is_empty() {
                subscribers.remove(&self.name);
            }
        }
        drop(subscribers);
        self.shared.count.send_modify(|count| *count -= 1);
        self.shared.metrics.active.dec();
    }
}
