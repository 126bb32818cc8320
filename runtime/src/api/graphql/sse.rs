//! Operations as server-sent events: one operation a request, as the protocol graphql-sse says of distinct connections
//! (<https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>).
//!
//! Promises: as over a WebSocket; a caller that is too slow gets the event `error` when it reads on, and is cut when it
//! does not. When the server ends the stream ends without `complete`, so that clients connect again.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::live::{Admitted, Outcome, Run};
use super::request::{Asked, Media};
use super::{Api, errors, send};
use crate::api::connection::Connection;
use crate::error::ErrorKind;
use crate::events::metrics::{Ended, Transport};

/// The media type of an answer.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// How long a slow caller has to read what is left for it.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What the stream is made from.
struct Events {
    outcomes: mpsc::Receiver<Outcome>,
    run: Option<JoinHandle<Run>>,
    alive: Interval,
    admitted: Admitted,
    over: bool,
    /// Cancelled when the caller was too slow, whether it hears of it or not.
    slow: CancellationToken,
    /// Tells that nobody reads the stream any more.
    _gone: DropGuard,
}

pub(super) async fn answer(api: Api, connection: Connection, asked: Asked) -> Response {
    let Some(admitted) = api.live.admit(Transport::sse) else {
        let body = errors("too many connections with subscriptions", ErrorKind::Unavailable.code());
        return send(Media::Json, StatusCode::SERVICE_UNAVAILABLE, body, true);
    };
    let (out, outcomes) = mpsc::channel(1);
    let keep_alive = api.live.settings.keep_alive;
    let mut alive = tokio::time::interval_at(Instant::now() + keep_alive, keep_alive);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let slow = CancellationToken::new();
    let lagged = slow.clone();
    let run = tokio::spawn(async move {
        let run = api.run(asked, true, out, &connection.ending).await;
        if run == Run::Slow {
            lagged.cancel();
            // Nobody asks for the stream's end while the socket is full.
            tokio::spawn(async move {
                if tokio::time::timeout(CLOSE_WITHIN, gone.cancelled()).await.is_err() {
                    connection.cut.cancel();
                }
            });
        }
        run
    });
    let events = Events { outcomes, run: Some(run), alive, admitted, over: false, slow, _gone: guard };
    let body = Body::from_stream(stream::unfold(events, |mut events| async move {
        let text = events.next().await?;
        Some((Ok::<_, Infallible>(text), events))
    }));
    ([(CONTENT_TYPE, EVENT_STREAM)], body).into_response()
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        tokio::select! {
            biased;
            outcome = self.outcomes.recv() => match outcome {
                Some(Outcome::Next(answer)) => Some(event("next", &answer)),
                Some(Outcome::Refused(answer)) => {
                    self.over = true;
                    let mut both = event("next", &answer).to_vec();
                    both.extend(event("complete", b""));
                    Some(both.into())
                }
                Some(Outcome::Complete) => {
                    self.over = true;
                    Some(event("complete", b""))
                }
                None => self.last().await,
            },
            _ = self.alive.tick() => Some(Bytes::from_static(b":\n\n")),
        }
    }

    /// What is said when the operation has ended without saying so.
    async fn last(&mut self) -> Option<Bytes> {
        self.over = true;
        match self.run.take()?.await {
            Ok(Run::Slow) => {
                Some(event("error", &errors("too slow: too many events were waiting", "TOO_SLOW")))
            }
            Ok(Run::Ending) => {
                self.admitted.ends(Ended::shutdown);
                None
            }
            Ok(Run::Over) | Err(_) => None,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.slow.is_cancelled() {
            self.admitted.ends(Ended::slow);
        }
        if let Some(run) = &self.run {
            run.abort();
        }
    }
}

/// JSON has no line breaks outside of strings as it is written here, so it is one line of data.
fn event(name: &str, data: &[u8]) -> Bytes {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    text.extend_from_slice(data);
    text.extend_from_slice(b"\n\n");
    text.into()
}
