//! From the stream of events to the actions: at least once, over restarts, and given up after so many calls.
//!
//! A durable consumer of JetStream gives each event to one of all servers, and again until it is acknowledged; that
//! happens when every action of every rule is done with. What each action came to is in the database, so that an event
//! that comes again, or a second time, is sent by those alone that are not done. Of an action that fails, the next
//! delivery follows after a growing wait, or when the target says.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::metrics::{Ended, NotificationMetrics};
use super::store::{self, State};
use super::{Action, Notification, Notifier, Undelivered, rule};
use crate::config::notifications::Rule;
use crate::error::{Classify, ErrorKind, chain};
use crate::ids::EventId;
use crate::observability::trace::{self, Kind, Tracer};
use crate::storage::nats::{Delivery, Nats, Subscription};
use crate::storage::postgres::{self, Postgres};

/// What an acknowledgement takes at most, besides the delivery.
const MARGIN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(1);
const PRUNE_PERIOD: Duration = Duration::from_secs(3_600);
/// What was sent is remembered for longer than the stream gives an event again.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The worker.
#[derive(Clone)]
pub struct Worker {
    /// Where events come from.
    pub nats: Nats,
    /// Where their contents are, and what became of them.
    pub postgres: Postgres,
    /// What sends.
    pub notifier: Notifier,
    /// What is told.
    pub rules: Arc<[Rule]>,
    /// The consumer's name.
    pub consumer: String,
    /// Events under way at the same time.
    pub concurrency: usize,
    /// Calls for one action of one notification.
    pub max_attempts: u32,
    /// What counts them.
    pub metrics: NotificationMetrics,
    /// What is told of an event belongs to the trace in which it happened.
    pub tracer: Tracer,
}

impl Worker {
    /// Delivers until `cancel`; what was begun is ended.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut events: Vec<String> = self.rules.iter().map(|rule| rule.event.clone()).collect();
        events.sort();
        events.dedup();
        while !cancel.is_cancelled() {
            let within = self.notifier.delivery_timeout() + MARGIN;
            match self.nats.subscribe(&self.consumer, &events, within, self.concurrency).await {
                Ok(events) => {
                    self.metrics.followed.set(1);
                    self.consume(events, &cancel).await;
                    self.metrics.followed.set(0);
                }
                Err(error) => tracing::debug!(error = %chain(&error), "notifications wait for the stream"),
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Forgets what was sent long ago. Runs until `cancel`.
    pub async fn prune(&self, cancel: CancellationToken) {
        loop {
            if let Err(error) = store::prune(&self.postgres, REMEMBERED).await {
                tracing::debug!(error = %chain(&error), "could not forget old notifications");
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PRUNE_PERIOD) => {}
            }
        }
    }

    async fn consume(&self, mut events: Subscription, cancel: &CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                next = events.next(), if under_way.len() < self.concurrency => match next {
                    Ok(delivery) => under_way.push(self.handle(delivery)),
                    Err(error) => {
                        tracing::debug!(error = %chain(&error), "the stream of notifications ended");
                        break;
                    }
                },
            }
        }
        while under_way.next().await.is_some() {}
    }

    async fn handle(&self, delivery: Delivery) {
        let root = delivery.trace().and_then(|parent| self.tracer.begin(Kind::Consumer, Some(parent)));
        let told = match &root {
            Some(root) => root.within(self.tell_of(&delivery)).await,
            None => self.tell_of(&delivery).await,
        };
        if let Some(root) = root {
            let (event, deliveries) = (delivery.name.clone(), delivery.deliveries);
            root.end(|| {
                let deliveries = i64::try_from(deliveries).unwrap_or(i64::MAX);
                let attributes = vec![("event.name", event.into()), ("event.deliveries", deliveries.into())];
                ("notifications.event".into(), attributes)
            });
        }
        let answered = match told {
            None => delivery.done().await,
            Some(wait) => delivery.again_in(wait).await,
        };
        if let Err(error) = answered {
            tracing::debug!(error = %chain(&error), "an event was not acknowledged and will come again");
        }
    }

    /// Tells of an event; `None` when all is done, else when to come again.
    async fn tell_of(&self, delivery: &Delivery) -> Option<Duration> {
        let Some((id, payload)) = read(&delivery.payload) else {
            tracing::error!(event = delivery.name, "an event that cannot be read is not told");
            return None;
        };
        let mut wait = None;
        for rule in rule::of(&self.rules, &delivery.name, &payload) {
            let evaluated = trace::span("notifications.rule", Kind::Internal, || {
                vec![("rule.name", rule.name.clone().into()), ("rule.function", rule.function.clone().into())]
            });
            let next = match evaluated.within(self.tell(rule, id, &payload)).await {
                Ok(next) => next,
                Err(error) => {
                    evaluated.fail(error.kind().label());
                    match error.kind() {
                        ErrorKind::Internal => tracing::error!(
                            notification = rule.name, function = rule.function, error = %chain(&error),
                            "what a notification says could not be read"
                        ),
                        _ => tracing::debug!(error = %chain(&error), "a notification waits for the database"),
                    }
                    Some(self.delay(delivery.deliveries))
                }
            };
            wait = wait.max(next);
        }
        wait
    }

    async fn tell(
        &self,
        rule: &Rule,
        id: EventId,
        payload: &Value,
    ) -> Result<Option<Duration>, postgres::Error> {
        let ended = store::ended(&self.postgres, id, &rule.name).await?;
        let open =
            rule.actions.iter().copied().filter(|action| !ended.iter().any(|name| name == action.name()));
        let open: Vec<Action> = open.collect();
        if open.is_empty() {
            return Ok(None);
        }
        let Some((recipient, subject, body)) =
            store::content(&self.postgres, &rule.function, payload).await?
        else {
            return Ok(None);
        };
        let (name, event, payload) = (rule.name.clone(), rule.event.clone(), payload.clone());
        let notification = Notification { id, name, event, recipient, subject, body, payload };
        let results = join_all(open.into_iter().map(|action| self.deliver(action, &notification))).await;
        let mut wait = None;
        for result in results {
            wait = wait.max(result?);
        }
        Ok(wait)
    }

    async fn deliver(
        &self,
        action: Action,
        notification: &Notification,
    ) -> Result<Option<Duration>, postgres::Error> {
        let (id, name) = (notification.id, notification.name.as_str());
        let record = async |state, calls, error: Option<&str>| {
            store::record(&self.postgres, id, (name, action), state, calls, error).await
        };
        let Undelivered { calls, error } = match self.notifier.send(action, notification).await {
            Ok(()) => {
                self.metrics.count(action, Ended::Sent);
                record(State::Sent, 1, None).await?;
                tracing::info!(event_id = %id, notification = name, action = action.name(), "notification sent");
                return Ok(None);
            }
            Err(undelivered) => undelivered,
        };
        let reason = chain(&error);
        if !error.was_not_called() && !error.kind().is_retryable() {
            record(State::Dead, calls, Some(&reason)).await?;
            return Ok(self.give_up(action, notification, &reason));
        }
        // What was not called is no attempt: a target that is away for hours does not make notifications die.
        let attempts = if calls > 0 { record(State::Waiting, calls, Some(&reason)).await? } else { 0 };
        if attempts >= self.max_attempts {
            record(State::Dead, 0, Some(&reason)).await?;
            return Ok(self.give_up(action, notification, &reason));
        }
        self.metrics.count(action, if error.was_not_called() { Ended::Deferred } else { Ended::Failed });
        tracing::debug!(event_id = %id, notification = name, action = action.name(), reason, "notification waits");
        Ok(Some(error.retry_after().unwrap_or_default() + self.delay(attempts.into())))
    }

    fn give_up(&self, action: Action, notification: &Notification, reason: &str) -> Option<Duration> {
        self.metrics.count(action, Ended::Dead);
        let (event_id, name) = (notification.id, notification.name.as_str());
        tracing::error!(%event_id, notification = name, action = action.name(), reason, "notification given up");
        None
    }

    /// A growing wait with jitter, before attempt number `attempts`.
    fn delay(&self, attempts: u64) -> Duration {
        let attempt = u32::try_from(attempts).unwrap_or(u32::MAX);
        self.notifier.policy().delay(attempt, &mut StdRng::from_os_rng()).max(Duration::from_millis(1))
    }
}

/// An event's id and fields.
fn read(payload: &[u8]) -> Option<(EventId, Value)> {
    let payload: Value = serde_json::from_slice(payload).ok()?;
    let id = payload.get("event_id")?.as_str()?.parse().ok()?;
    Some((id, payload))
}
