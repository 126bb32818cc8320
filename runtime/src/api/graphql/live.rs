//! What WebSockets and server-sent events share: who may connect, and the run of one operation as a sequence of results.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::request::Asked;
use super::{Api, errors};
use crate::api::middleware::gate::Denied;
use crate::config::graphql::Subscriptions;
use crate::engine::subscription::Subscription;
use crate::engine::{Answer, Engine, Request, Stage};
use crate::error::ErrorKind;
use crate::events::Hub;
use crate::events::metrics::{Ended, SubscriptionMetrics, Transport};
use crate::observability::metrics::Gauge;

/// What connections that stay open share.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) hub: Hub,
    pub(super) settings: Arc<Subscriptions>,
    permits: Arc<Semaphore>,
}

/// A connection that was let in.
pub(super) struct Admitted {
    open: Gauge,
    metrics: SubscriptionMetrics,
    ended: Option<Ended>,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    pub(super) fn new(hub: Hub, settings: Subscriptions) -> Self {
        let permits = Arc::new(Semaphore::new(settings.max_connections as usize));
        Self { hub, settings: Arc::new(settings), permits }
    }

    /// Lets a connection in, unless there are too many.
    pub(super) fn admit(&self, transport: Transport) -> Option<Admitted> {
        let metrics = self.hub.metrics();
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            metrics.count_end(Ended::refused);
            return None;
        };
        let open = metrics.connections(transport);
        open.inc();
        Some(Admitted { open, metrics: metrics.clone(), ended: None, _permit: permit })
    }
}

impl Admitted {
    /// Says why the connection ends; when nobody does, the caller has left.
    pub(super) fn ends(&mut self, reason: Ended) {
        self.ended.get_or_insert(reason);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.open.dec();
        self.metrics.count_end(self.ended.unwrap_or(Ended::client));
    }
}

/// A result of an operation on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// One of the results.
    Next(Bytes),
    /// The operation was refused and has no result: a whole answer with `errors`.
    Refused(Bytes),
    /// There is no more.
    Complete,
}

/// How the run of an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Everything was said, or nobody listens any more.
    Over,
    /// The caller takes its results too slowly.
    Slow,
    /// The server ends, and the subscription with it.
    Ending,
}

/// What an operation turned out to be.
enum Wanted {
    Events(Box<Subscription>),
    /// A query or a mutation.
    Answer(Request),
    /// It was refused, and this is what its caller reads.
    Nothing(Vec<u8>),
}

impl Api {
    /// Runs an operation; each result goes through `out` when there is room for it. Unless it was `counted` when its request came,
    /// it counts towards the limits of its caller, those that all replicas share when it has its place.
    pub(super) async fn run(
        &self,
        asked: Asked,
        counted: bool,
        out: mpsc::Sender<Outcome>,
        ending: &CancellationToken,
    ) -> Run {
        let Some(engine) = self.served.current() else {
            let code = ErrorKind::Unavailable.code();
            self.errors.count(code);
            return say(&out, refusal(errors("the schema is not loaded yet", code))).await;
        };
        let counted = if counted { Ok(None) } else { self.receive(&engine, &asked).await };
        let let_in = match counted {
            Ok(let_in) => let_in,
            Err(denied) => return say(&out, refusal(self.denied(&denied))).await,
        };
        let wanted = self.wanted(&engine, asked).await;
        // The connection holds no place: what it asks for does while it is answered.
        let entered = match (&wanted, &self.pass) {
            (Wanted::Answer(_), Some(pass)) => pass.enter().await.map(Some),
            _ => Ok(None),
        };
        let _place = match entered {
            Ok(place) => place,
            Err(denied) => return say(&out, refusal(self.denied(&denied))).await,
        };
        if let Some(let_in) = let_in
            && let Err(refused) = let_in.confirm().await
        {
            return say(&out, refusal(self.denied(&Denied::Limit(refused)))).await;
        }
        match wanted {
            Wanted::Events(subscription) => self.tell(*subscription, out, ending).await,
            Wanted::Answer(request) => {
                let Answer { body, stage, .. } = engine.execute_as(&request, &self.caller).await;
                match stage {
                    Stage::Refused | Stage::Unauthenticated | Stage::Forbidden => {
                        say(&out, refusal(body)).await
                    }
                    Stage::Executed => say(&out, vec![Outcome::Next(body.into()), Outcome::Complete]).await,
                }
            }
            Wanted::Nothing(body) => say(&out, refusal(body)).await,
        }
    }

    async fn wanted(&self, engine: &Engine, asked: Asked) -> Wanted {
        let request: Request = match asked.resolve(&self.persisted) {
            Ok(request) => request,
            Err(refused) => {
                self.errors.count(refused.code());
                return Wanted::Nothing(errors(&refused.to_string(), refused.code()));
            }
        };
        match engine.subscribe(&request, &self.caller).await {
            Ok(Some(subscription)) => Wanted::Events(Box::new(subscription)),
            Ok(None) => Wanted::Answer(request),
            Err(answer) => Wanted::Nothing(answer.body),
        }
    }

    /// Answers each event, until the caller leaves or lags.
    async fn tell(
        &self,
        subscription: Subscription,
        out: mpsc::Sender<Outcome>,
        ending: &CancellationToken,
    ) -> Run {
        let subscription = Arc::new(subscription);
        let wants = subscription.clone();
        let filter = Box::new(move |event: &crate::events::Event| wants.wants(&event.payload));
        let mut events = self.live.hub.subscribe(subscription.event(), filter);
        let slow = events.slow();
        loop {
            let told = async {
                let event = events.next().await?;
                let answer = subscription.answer(&event.payload).await;
                out.send(Outcome::Next(answer.body.into())).await.ok()
            };
            tokio::select! {
                biased;
                () = slow.cancelled() => return Run::Slow,
                () = ending.cancelled() => return Run::Ending,
                () = out.closed() => return Run::Over,
                told = told => match told {
                    Some(()) => {
                        self.live.hub.metrics().delivered.inc();
                    }
                    None if slow.is_cancelled() => return Run::Slow,
                    None => return Run::Over,
                },
            }
        }
    }
}

fn refusal(body: Vec<u8>) -> Vec<Outcome> {
    vec![Outcome::Refused(body.into())]
}

async fn say(out: &mpsc::Sender<Outcome>, outcomes: Vec<Outcome>) -> Run {
    for outcome in outcomes {
        if out.send(outcome).await.is_err() {
            break;
        }
    }
    Run::Over
}

/// Refuses a page of another site: a browser opens WebSockets anywhere without asking first.
pub(super) fn same_origin(headers: &HeaderMap) -> Result<(), StatusCode> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
    let authority = origin.as_ref().map(|origin| match origin.port() {
        Some(port) => format!("{}:{port}", origin.host_str().unwrap_or_default()),
        None => origin.host_str().unwrap_or_default().to_owned(),
    });
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let same = authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host));
    if same { Ok(()) } else { Err(StatusCode::FORBIDDEN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_site_is_refused() {
        let asked = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a host"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("an origin"));
            }
            same_origin(&headers).is_ok()
        };
        assert!(asked(None, "localhost:8000"), "no browser");
        assert!(asked(Some("http://localhost:8000"), "localhost:8000"));
        assert!(asked(Some("https://shop.example"), "shop.example"));
        for origin in ["http://evil.example", "http://localhost:9", "null", "http://localhost"] {
            assert!(!asked(Some(origin), "localhost:8000"), "{origin}");
        }
    }
}
