//! What others tell us: a delivery is verified, kept, and then handled, by a mutation of the schema that is served.
//!
//! Promises: nothing is read, kept or done of what is not signed with the secret; what is acknowledged is kept, and is
//! handled over restarts until it is done, refused for good, or was tried too often, and then is kept as dead with the reason;
//! an event that comes again is known, and has one effect where the mutation takes the event's key as its
//! idempotency key ([`EVENT_KEY`](crate::config::webhooks::EVENT_KEY)).
//! Absent on purpose: an order of events, which no provider promises either.

mod error;
pub mod event;
mod handler;
pub mod metrics;
pub mod signature;
mod store;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

pub use self::error::Error;
use self::event::Event;
use self::handler::Outcome;
use self::metrics::{FAILED, OTHER, WebhookMetrics};
pub use self::signature::SignatureVerifier;
use self::signature::{GitHubVerifier, ShopifyVerifier, StripeVerifier};
pub use self::store::State;
use crate::clock::SystemClock;
use crate::config::webhooks::{self as config, Handler, Provider, Secret, WebhookConfig};
use crate::engine::loader::Served;
use crate::error::chain;
use crate::ids::WebhookEventId;
use crate::observability::trace::{self, Kind};
use crate::resilience::retry::{Policy, Strategy};
use crate::security::guard::Caller;
use crate::storage::postgres::Postgres;

/// For how long an event belongs to whoever took it, at least.
const LEASE_MIN: Duration = Duration::from_secs(10);

/// The webhooks. Clones share everything.
#[derive(Clone)]
pub struct Webhooks {
    inner: Arc<Inner>,
}

struct Inner {
    hooks: BTreeMap<String, Hook>,
    postgres: Postgres,
    served: Served,
    metrics: WebhookMetrics,
    /// For how long an event belongs to whoever took it; after that somebody else does.
    lease: Duration,
}

/// One sender.
struct Hook {
    provider: Provider,
    verifier: Box<dyn SignatureVerifier>,
    secret: Secret,
    handlers: Vec<Handler>,
    /// As whom mutations run.
    caller: Caller,
    policy: Policy,
    remember: Duration,
}

/// A delivery as it came.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The value of [`Headers::signature`].
    pub signature: Option<&'a str>,
    /// The value of [`Headers::kind`].
    pub kind: Option<&'a str>,
    /// Its bytes.
    pub body: &'a [u8],
}

/// Where a delivery has what is not in its body; names in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// The signature.
    pub signature: &'static str,
    /// The event's type.
    pub kind: Option<&'static str>,
}

/// A handler that the schema does not take.
#[derive(Debug, thiserror::Error)]
#[error("the schema does not take webhooks.{webhook}.handlers: the mutation of {event:?}: {problems}")]
pub struct Unfit {
    webhook: String,
    event: String,
    problems: String,
}

/// A delivery that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its event.
    pub id: WebhookEventId,
    /// What became of that so far.
    pub state: State,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("hooks", &self.inner.hooks.keys()).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// The webhooks of the configuration. One without a secret is not among them; the configuration sees to it that
    /// there is none. `statement` is what one statement may take, the wait for its connection included.
    pub fn new(
        table: &config::Webhooks,
        secrets: &BTreeMap<String, Secret>,
        (postgres, statement): (&Postgres, Duration),
        served: &Served,
        metrics: WebhookMetrics,
    ) -> Self {
        let hook = |(name, webhook): (&String, &WebhookConfig)| {
            let secret = secrets.get(name)?.clone();
            Some((name.clone(), Hook::new(name, webhook, secret)))
        };
        let hooks = table.0.iter().filter_map(hook).collect();
        let (postgres, served) = (postgres.clone(), served.clone());
        // A mutation is one statement, or two where its key was used before; another says what came of it.
        let lease = (4 * statement).max(LEASE_MIN);
        Self { inner: Arc::new(Inner { hooks, postgres, served, metrics, lease }) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inner.hooks.is_empty()
    }

    /// Whether the schema takes what handlers do. Nothing is said while there is none.
    ///
    /// # Errors
    /// The first handler whose mutation it does not take.
    pub async fn check(&self) -> Result<(), Unfit> {
        let Some(engine) = self.inner.served.current() else { return Ok(()) };
        for (name, hook) in &self.inner.hooks {
            for handler in &hook.handlers {
                engine.check(&handler.mutation).await.map_err(|problems| Unfit {
                    webhook: name.clone(),
                    event: handler.event.clone(),
                    problems,
                })?;
            }
        }
        Ok(())
    }

    /// Where deliveries of this webhook have what is not in their bodies; `None` when there is no such webhook.
    pub fn headers(&self, name: &str) -> Option<Headers> {
        let provider = self.inner.hooks.get(name)?.provider;
        Some(Headers { signature: event::signature_header(provider), kind: event::type_header(provider) })
    }

    /// Takes a delivery: verifies it, keeps its event, handles that if nobody has.
    ///
    /// # Errors
    /// Why it is not taken. Unless the database failed, nothing of it was kept.
    pub async fn receive(&self, name: &str, delivery: Delivery<'_>) -> Result<Taken, Error> {
        let Inner { hooks, metrics, .. } = &*self.inner;
        let hook = hooks.get(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let began = Instant::now();
        let received = match hook.verify(name, delivery) {
            Ok((event, body)) => {
                metrics.count_received(hook.provider, hook.label(&event.kind), 1);
                self.keep(name, hook, &event, body).await
            }
            Err(error) => {
                if matches!(error, Error::Malformed(_)) {
                    metrics.count_received(hook.provider, OTHER, 1);
                }
                Err(error)
            }
        };
        if let Err(error) = &received
            && let Some(reason) = error.reason()
        {
            metrics.count_failure(hook.provider, reason);
            let provider = hook.provider.name();
            tracing::warn!(webhook = name, provider, reason, error = %chain(error), "webhook refused");
        }
        if !matches!(received, Err(Error::Unsigned(_) | Error::Signature(_) | Error::Time(_))) {
            metrics.took(hook.provider, began.elapsed().as_secs_f64());
        }
        received
    }

    async fn keep(&self, name: &str, hook: &Hook, event: &Event, body: &str) -> Result<Taken, Error> {
        let Inner { postgres, metrics, .. } = &*self.inner;
        let known = store::claim(postgres, (name, hook.provider), event, body, self.inner.lease).await?;
        let state = match known {
            None => self.handle(name, hook, event, 1).await,
            Some(state) => {
                metrics.count_duplicate(hook.provider);
                state
            }
        };
        Ok(Taken { id: event.id, state })
    }

    /// Attempt number `attempts` to handle an event that is ours, and what the event came to by it.
    async fn handle(&self, name: &str, hook: &Hook, event: &Event, attempts: i32) -> State {
        let Inner { postgres, metrics, .. } = &*self.inner;
        let span = trace::span("webhook.handle", Kind::Internal, || {
            vec![("webhook.name", name.to_owned().into()), ("webhook.event.type", event.kind.clone().into())]
        });
        let outcome = span.within(self.run(hook, event)).await;
        let (event_id, event_type) = (event.id, hook.label(&event.kind));
        let tried = u32::try_from(attempts).unwrap_or(u32::MAX);
        let (state, reason, wait) = match outcome {
            Outcome::Done => (State::Done, None, Duration::ZERO),
            Outcome::Ignored(reason) => (State::Ignored, Some(reason), Duration::ZERO),
            Outcome::Refused(reason) => (State::Dead, Some(reason), Duration::ZERO),
            Outcome::Failed { reason, .. } if tried >= hook.policy.attempts => {
                (State::Dead, Some(reason), Duration::ZERO)
            }
            Outcome::Failed { reason, retry_after } => {
                let wait = hook.policy.delay(tried.saturating_sub(1), &mut StdRng::from_os_rng());
                (State::Waiting, Some(reason), wait.max(retry_after.unwrap_or_default()))
            }
        };
        if matches!(state, State::Waiting | State::Dead) {
            span.fail(state.name());
            metrics.count_failure(hook.provider, FAILED);
        }
        drop(span);
        let told = reason.as_deref().unwrap_or_default();
        match state {
            State::Done => tracing::info!(webhook = name, event_type, %event_id, "webhook handled"),
            State::Ignored => {
                tracing::debug!(webhook = name, event_type, %event_id, reason = told, "webhook ignored");
            }
            State::Waiting => tracing::warn!(
                webhook = name, event_type, %event_id, attempts, reason = told, "webhook waits for another attempt"
            ),
            State::Dead => tracing::error!(
                webhook = name, event_type, %event_id, attempts, reason = told, "webhook given up"
            ),
        }
        let settled = store::settle(postgres, event.id, attempts, state, (reason.as_deref(), wait)).await;
        let state = match settled {
            Ok(()) => state,
            // The row says that somebody is at it. When the lease is over somebody is, with the same key.
            Err(error) => {
                tracing::warn!(webhook = name, %event_id, error = %chain(&error), "what a webhook came to is not kept");
                State::Waiting
            }
        };
        metrics.count_event(hook.provider, state);
        state
    }

    async fn run(&self, hook: &Hook, event: &Event) -> Outcome {
        let Some(handler) = hook.handler(&event.kind) else {
            return Outcome::Ignored("no handler".to_owned());
        };
        let request = match handler::request(handler, event) {
            Ok(request) => request,
            Err(lacks) => return Outcome::Ignored(lacks),
        };
        let Some(engine) = self.inner.served.current() else {
            return Outcome::Failed { reason: "no schema is served yet".to_owned(), retry_after: None };
        };
        handler::outcome(&engine.execute_as(&request, &hook.caller).await)
    }
}

impl Hook {
    fn new(name: &str, table: &WebhookConfig, secret: Secret) -> Self {
        let verifier: Box<dyn SignatureVerifier> = match table.provider {
            Provider::Stripe => Box::new(StripeVerifier::new(SystemClock, table.tolerance)),
            Provider::GitHub => Box::new(GitHubVerifier),
            Provider::Shopify => Box::new(ShopifyVerifier),
        };
        let policy = Policy {
            strategy: Strategy::Exponential(table.retry_base),
            longest: table.retry_longest,
            attempts: table.max_attempts,
        };
        Self {
            provider: table.provider,
            verifier,
            secret,
            handlers: table.handlers.clone(),
            caller: Caller::known(format!("webhook:{name}"), table.roles.iter().cloned()),
            policy,
            remember: table.remember,
        }
    }

    /// The event of a delivery that is signed, and its body as a text.
    fn verify<'a>(&self, name: &str, delivery: Delivery<'a>) -> Result<(Event, &'a str), Error> {
        let header = event::signature_header(self.provider);
        let signature = delivery.signature.ok_or(Error::Unsigned(header))?;
        if !self.verifier.verify(delivery.body, signature, self.secret.expose(), None)? {
            return Err(Error::Signature(header));
        }
        let body = std::str::from_utf8(delivery.body);
        let body = body.map_err(|_| Error::Malformed("the body is not UTF-8"))?;
        let event = event::read(name, self.provider, body, delivery.kind).map_err(Error::Malformed)?;
        Ok((event, body))
    }

    fn handler(&self, kind: &str) -> Option<&Handler> {
        self.handlers.iter().find(|handler| handler.event == kind)
    }

    /// The type, for who must not be told of any that a sender invents.
    fn label<'a>(&self, kind: &'a str) -> &'a str {
        if self.handler(kind).is_some() { kind } else { OTHER }
    }
}
