//! What is told to the outside: webhooks, Slack and mails, as one service.
//!
//! Promises: each action has its own breaker, bulkhead, rate and retries, so that one whose target is away holds up no
//! other; no call outlives its timeout, no delivery its deadline; what a target refuses for good is not sent again, and
//! one that says when to come back is asked no earlier. What a rule tells of an event is delivered at least once, over
//! restarts, or kept as dead with the reason ([`worker`]).
//! Absent on purpose: exactly once. A webhook gets the event's id as `Idempotency-Key` and a mail has it in its
//! `Message-ID`; Slack knows no key, so that a message whose answer was lost is posted again.

mod email;
mod error;
mod http;
pub mod metrics;
mod rule;
mod store;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

pub use self::error::Error;
use crate::clock::Clock;
pub use crate::config::notifications::Action;
use crate::config::notifications::{Notifications, Retry, Strategy as StrategyName};
use crate::config::resilience::Thresholds;
use crate::config::url::ConnectionUrl;
use crate::error::Classify;
use crate::ids::EventId;
use crate::observability::trace::{self, Kind};
use crate::resilience::breaker;
use crate::resilience::dependency::{self, CallMetrics, Dependency};
use crate::resilience::limiter::bucket::Bucket;
use crate::resilience::limiter::{RateLimiter, Rule as Limit};
use crate::resilience::retry::{Failed, Policy, Strategy};

/// Retries of one action that need no calls before them.
const RETRY_RESERVE: u32 = 10;

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// The event that it tells of.
    pub id: EventId,
    /// What it is: `order_confirmation`.
    pub name: String,
    /// The event's name.
    pub event: String,
    /// For whom; an address where a mail is sent.
    pub recipient: String,
    /// In one line.
    pub subject: String,
    /// In full.
    pub body: String,
    /// The event itself.
    pub payload: Value,
}

impl Notification {
    /// The same for each repetition, and another for each other notification.
    fn key(&self) -> String {
        format!("{}.{}", self.id, self.name)
    }
}

/// Where the actions go, read from the environment.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Takes JSON.
    pub webhook: Option<ConnectionUrl>,
    /// An incoming webhook of Slack.
    pub slack: Option<ConnectionUrl>,
    /// A mail server.
    pub email: Option<ConnectionUrl>,
}

/// Sends. Clones share everything.
#[derive(Clone)]
pub struct Notifier {
    channels: Arc<[(Action, Channel)]>,
    delivery_timeout: Duration,
    policy: Policy,
}

/// One action.
struct Channel {
    dependency: Dependency,
    limiter: RateLimiter,
    timeout: Duration,
    target: Target,
}

enum Target {
    Webhook(http::Endpoint),
    Slack(http::Endpoint),
    Email(email::Mailer),
}

impl Notifier {
    /// A service with the actions that have a target.
    ///
    /// # Errors
    /// When a target cannot be used: TLS cannot be set up, or a URL is none of a mail server.
    pub fn new(
        table: &Notifications,
        targets: &Targets,
        clock: &Arc<dyn Clock>,
        calls: &CallMetrics,
    ) -> Result<Self, Error> {
        let client = http::client()?;
        let channel = |action: Action, target, timeout, breaker: Thresholds, rate| {
            let settings = dependency::Settings {
                breaker: breaker::Settings {
                    failure_threshold: breaker.failure_threshold,
                    window: breaker.window,
                    timeout: breaker.timeout,
                    success_threshold: breaker.success_threshold,
                    // Few calls: so many faults within the window are enough.
                    forgiving: false,
                },
                in_flight_max: table.in_flight_max,
                retry: policy(&table.retry),
                retry_reserve: RETRY_RESERVE,
            };
            let dependency = Dependency::new(action.name(), settings, clock.clone(), calls);
            let limiter = RateLimiter::with(Limit::Bucket(Bucket::new(rate, rate)), clock.clone());
            (action, Channel { dependency, limiter, timeout, target })
        };
        let mut channels = Vec::new();
        if let Some(url) = &targets.webhook {
            let target = Target::Webhook(http::Endpoint::new(&client, url, clock));
            let Notifications { webhook, webhook_max_per_sec: rate, .. } = table;
            channels.push(channel(Action::Webhook, target, webhook.timeout, webhook.breaker.plain(), *rate));
        }
        if let Some(url) = &targets.slack {
            let target = Target::Slack(http::Endpoint::new(&client, url, clock));
            let Notifications { slack, slack_max_per_sec: rate, .. } = table;
            channels.push(channel(Action::Slack, target, slack.timeout, slack.breaker.plain(), *rate));
        }
        if let Some(url) = &targets.email {
            let Notifications { email, email_max_per_sec: rate, .. } = table;
            let target = Target::Email(email::Mailer::new(url, &email.from)?);
            channels.push(channel(Action::Email, target, email.timeout, email.breaker.plain(), *rate));
        }
        let (delivery_timeout, policy) = (table.delivery_timeout, policy(&table.retry));
        Ok(Self { channels: channels.into(), delivery_timeout, policy })
    }

    /// How waits between attempts grow.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How long one delivery takes at most.
    pub fn delivery_timeout(&self) -> Duration {
        self.delivery_timeout
    }

    /// Sends by one action, again where that may help, until the delivery's deadline.
    ///
    /// # Errors
    /// That of the last attempt. [`Error::calls`] says how many were made.
    pub async fn send(&self, action: Action, notification: &Notification) -> Result<(), Undelivered> {
        let channel = self.channels.iter().find(|(known, _)| *known == action);
        let Some((_, channel)) = channel else {
            return Err(Undelivered { calls: 0, error: Error::NotConfigured(action) });
        };
        let deadline = Instant::now() + self.delivery_timeout;
        channel.dependency.begin();
        let mut calls = 0;
        loop {
            let error = match channel.once(action, notification, deadline, &mut calls).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let failed = Failed {
                kind: error.kind(),
                attempt: calls.saturating_sub(1),
                // Told at least once is what is promised; keys make a repetition harmless where there are some.
                idempotent: true,
                retry_after: error.retry_after(),
                left: deadline.saturating_duration_since(Instant::now()),
            };
            // What was not even called waits for a later delivery.
            if error.was_not_called() {
                return Err(Undelivered { calls, error });
            }
            match channel.dependency.again(&failed) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(Undelivered { calls, error }),
            }
        }
    }
}

/// A notification that did not arrive, as far as is known.
#[derive(Debug, thiserror::Error)]
#[error("not delivered after {calls} calls")]
pub struct Undelivered {
    /// Calls that were made.
    pub calls: u32,
    /// Why the last one failed.
    #[source]
    pub error: Error,
}

impl Channel {
    async fn once(
        &self,
        action: Action,
        notification: &Notification,
        deadline: Instant,
        calls: &mut u32,
    ) -> Result<(), Error> {
        // Who gets its turn at the last moment would call a target that has no time to answer, and blame it for that.
        let patience = (deadline.saturating_duration_since(Instant::now()) / 2).min(PATIENCE);
        let turn = self.limiter.acquire_within(action.name(), 1, patience).await;
        turn.map_err(|limited| Error::Limited { action, retry_after: limited.retry_after })?;
        let entered = self.dependency.enter()?;
        *calls += 1;
        let limit = self.timeout.min(deadline.saturating_duration_since(Instant::now()));
        let sent = async {
            match &self.target {
                Target::Webhook(endpoint) => endpoint.webhook(notification).await,
                Target::Slack(endpoint) => endpoint.slack(notification).await,
                Target::Email(mailer) => mailer.mail(notification).await,
            }
        };
        let span = trace::span("action.execute", Kind::Client, || {
            let attempt = i64::from(*calls);
            vec![("action.name", action.name().into()), ("action.attempt", attempt.into())]
        });
        let result = match span.within(tokio::time::timeout(limit, sent)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { action, limit }),
        };
        if let Err(error) = &result {
            span.fail(error.kind().label());
        }
        drop(span);
        entered.ends(error::outcome(&result));
        result
    }
}

/// For how long a delivery waits for its turn under the action's rate at most; after that a later one follows.
const PATIENCE: Duration = Duration::from_secs(5);

fn policy(table: &Retry) -> Policy {
    let strategy = match table.strategy {
        StrategyName::Exponential => Strategy::Exponential(table.base),
        StrategyName::Linear => Strategy::Linear(table.base),
        StrategyName::Fixed => Strategy::Fixed(table.base),
    };
    Policy { strategy, longest: table.longest, attempts: table.attempts }
}
