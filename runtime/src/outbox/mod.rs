//! Events that were written in the transaction of what they tell, on their way to JetStream.
//!
//! Promises: an event is marked published only after the stream's acknowledgement; until then it is sent again,
//! always with its row id as `Nats-Msg-Id`, so that repetitions are recognised. Rows are claimed by a lease: no
//! database connection is held while NATS is slow, and several relays share the work.
//! Absent on purpose: strict order (events of one batch travel at the same time), and deleting published rows.

pub mod error;
pub mod metrics;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::Error;
use self::metrics::OutboxMetrics;
use self::store::{Event, Pending};
use crate::error::{Classify, chain};
use crate::ids::EventId;
use crate::observability::trace::context::TraceContext;
use crate::observability::trace::{self, Attribute, Kind, Tracer};
use crate::resilience::breaker::State;
use crate::resilience::degradation::Component;
use crate::storage::nats::{self, Nats};
use crate::storage::postgres::Postgres;

/// Events on their way to the stream at the same time.
const CONCURRENCY: usize = 64;
/// A relay that dies leaves its events unsent for this long. Sending a batch takes less, or it is sent twice.
const LEASE: Duration = Duration::from_secs(10);
const ERROR_PAUSE_MAX: Duration = Duration::from_secs(1);
const MEASURE_PERIOD: Duration = Duration::from_secs(1);
/// Between two measurements so many times as long as one took, but no longer than the longest.
const MEASURE_SPARING: u32 = 10;
const MEASURE_PERIOD_MAX: Duration = Duration::from_secs(5);

/// What became of claimed events and is not in their rows, because the database failed just then. It is told before
/// anything new is claimed: otherwise they wait for their lease to end, and those that the stream has are sent twice.
#[derive(Debug, Default)]
struct Untold {
    published: Vec<EventId>,
    unsent: Vec<EventId>,
}

/// The worker that empties the outbox.
#[derive(Clone)]
pub struct Relay {
    /// Where the rows are.
    pub postgres: Postgres,
    /// Where the events go.
    pub nats: Nats,
    /// What counts them.
    pub metrics: OutboxMetrics,
    /// How long it waits after it found nothing.
    pub poll_interval: Duration,
    /// Rows claimed in one round.
    pub batch: u32,
    /// Told when the stream takes no events, and when it does again.
    pub degraded: Component,
    /// How much may wait.
    pub bounds: Bounds,
    /// Shut while more do.
    pub gate: Gate,
    /// Goes on with the traces of who wrote the events.
    pub tracer: Tracer,
}

/// What may wait for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Events.
    pub events_max: u64,
    /// Bytes of the database's disk.
    pub bytes_max: u64,
}

/// Whether an event may be added: the outbox lives in the database, and must not fill its disk while NATS is away. Open
/// at first. Clones share it.
///
/// It follows what waits, which is measured once a second, and less often where that takes long; so some more may come.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shut: Arc<AtomicBool>,
}

impl Gate {
    /// Whether no event may be added now.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    fn follow(&self, Pending { events, bytes }: Pending, Bounds { events_max, bytes_max }: Bounds) {
        let above = |found: i64, most: u64| u64::try_from(found).is_ok_and(|found| found > most);
        let shut = above(events, events_max) || above(bytes, bytes_max);
        if self.shut.swap(shut, Ordering::Relaxed) == shut {
            return;
        }
        if shut {
            tracing::error!(
                events,
                events_max,
                bytes,
                bytes_max,
                "the outbox is full: what would add an event is refused"
            );
        } else {
            tracing::info!(events, bytes, "the outbox takes events again");
        }
    }
}

impl Relay {
    /// Relays until `cancel`; a batch that was claimed is sent and marked first.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut failures = 0u32;
        let mut untold = Untold::default();
        loop {
            let pause = match self.round(&mut untold).await {
                Ok(events) => {
                    failures = 0;
                    if events == self.batch as usize { Duration::ZERO } else { self.poll_interval }
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "the outbox waits");
                    failures += 1;
                    (self.poll_interval * 2u32.pow(failures.min(5))).min(ERROR_PAUSE_MAX)
                }
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Keeps the gauges of waiting events up to date. Runs until `cancel`.
    pub async fn measure(&self, cancel: CancellationToken) {
        loop {
            let started = Instant::now();
            let pause = match store::pending(&self.postgres).await {
                Ok(pending) => {
                    self.metrics.pending.set(pending.events);
                    self.metrics.pending_bytes.set(pending.bytes);
                    self.gate.follow(pending, self.bounds);
                    until_next_measurement(started.elapsed())
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "could not measure the outbox");
                    MEASURE_PERIOD
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Claims, sends and marks one batch; answers how many events the stream took.
    async fn round(&self, untold: &mut Untold) -> Result<usize, Error> {
        self.tell(untold).await?;
        if !self.nats.is_connected() {
            self.degraded.degraded("nats is away");
            return Err(nats::Error::Disconnected.into());
        }
        // Of what would not be sent nothing is claimed; while one call at a time is tried, one event.
        let batch = match self.nats.breaker() {
            State::Closed => self.batch,
            State::HalfOpen => 1,
            State::Open => {
                self.degraded.degraded("nats does not take events");
                return Ok(0);
            }
        };
        let events = store::claim(&self.postgres, batch, LEASE).await?;
        if events.is_empty() {
            self.degraded.restored();
            return Ok(0);
        }
        let started = Instant::now();
        let (published, unsent, failure) = self.send(events).await;
        self.metrics.published.inc_by(published.len() as u64);
        let count = published.len();
        if let Some(error) = &failure {
            tracing::warn!(
                error = %chain(error),
                published = count,
                unsent = unsent.len(),
                elapsed_ms = started.elapsed().as_millis(),
                "events did not reach the stream and will be sent again"
            );
        }
        *untold = Untold { published, unsent };
        self.tell(untold).await?;
        let Some(error) = failure else {
            self.degraded.restored();
            return Ok(count);
        };
        self.degraded.degraded("nats does not take events");
        if matches!(error, nats::Error::Timeout) {
            self.nats.reconnect().await;
        }
        Err(error.into())
    }

    /// Brings the rows up to date.
    async fn tell(&self, untold: &mut Untold) -> Result<(), Error> {
        if !untold.published.is_empty() {
            store::mark_published(&self.postgres, &untold.published).await?;
            untold.published.clear();
        }
        if !untold.unsent.is_empty() {
            store::release(&self.postgres, &untold.unsent).await?;
            untold.unsent.clear();
        }
        Ok(())
    }

    /// Sends one event, as a part of the trace that wrote it.
    async fn publish(&self, event: Event) -> Result<(), nats::Error> {
        let (id, payload) = (event.id.to_string(), Bytes::from(event.payload));
        let given = event.traceparent.as_deref().and_then(|text| TraceContext::parse(text, None));
        let root = given.clone().and_then(|given| self.tracer.begin(Kind::Producer, Some(given)));
        // Readers of the event go on from here; where there are no traces, from whoever wrote it.
        let Some(root) = root else {
            return self.nats.publish(event.subject, &id, payload, given.as_ref()).await;
        };
        let subject = event.subject.clone();
        let work = async { self.nats.publish(event.subject, &id, payload, trace::current().as_ref()).await };
        let sent = root.within(work).await;
        if let Err(error) = &sent {
            root.fail(error.kind().label());
        }
        root.end(|| {
            let attributes: Vec<Attribute> = vec![
                ("messaging.system", "nats".into()),
                ("messaging.destination.name", subject.into()),
                ("messaging.message.id", id.clone().into()),
            ];
            ("outbox.publish".into(), attributes)
        });
        sent
    }

    /// Sends events side by side. After the first failure those not begun stay unsent: a silent server would cost
    /// a timeout for each.
    async fn send(&self, events: Vec<Event>) -> (Vec<EventId>, Vec<EventId>, Option<nats::Error>) {
        let failed = &AtomicBool::new(false);
        let results: Vec<_> = stream::iter(events)
            .map(|event| async move {
                let id = event.id;
                if failed.load(Ordering::Relaxed) {
                    return (id, Err(None));
                }
                let sent = self.publish(event).await;
                if sent.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                (id, sent.map_err(Some))
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let (mut published, mut unsent, mut failure) = (Vec::new(), Vec::new(), None);
        for (id, result) in results {
            match result {
                Ok(()) => published.push(id),
                Err(error) => {
                    unsent.push(id);
                    failure = failure.or(error);
                }
            }
        }
        (published, unsent, failure)
    }
}

/// A million events are read in a second or more: that must not be all that the database does, and what took long because
/// the database was away for a moment must not leave the gauges as they were for long.
fn until_next_measurement(took: Duration) -> Duration {
    (took * MEASURE_SPARING).clamp(MEASURE_PERIOD, MEASURE_PERIOD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_shut_while_more_wait_than_may() {
        let (gate, bounds) = (Gate::default(), Bounds { events_max: 3, bytes_max: 1000 });
        let waiting = [(0, 0), (3, 1000), (4, 1000), (100, 90_000), (3, 1001), (1, 1001), (3, 999)];
        let seen = waiting.map(|(events, bytes)| {
            gate.follow(Pending { events, bytes }, bounds);
            gate.is_shut()
        });
        assert_eq!(seen, [false, false, true, true, true, true, false]);
    }

    #[test]
    fn a_measurement_that_takes_long_is_made_less_often_but_never_seldom() {
        let pauses = [0, 20, 100, 250, 500, 5_000, 60_000]
            .map(|took| until_next_measurement(Duration::from_millis(took)).as_millis());
        assert_eq!(pauses, [1_000, 1_000, 1_000, 2_500, 5_000, 5_000, 5_000]);
    }
}
