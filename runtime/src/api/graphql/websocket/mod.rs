//! Operations over a WebSocket, as the protocol graphql-transport-ws says.
//!
//! Promises: results of an operation come in their order; a caller that does not take its results is closed with 4290
//! when its buffer is full, and holds no more than that buffer; one that is silent for two pings is gone. When the server
//! ends, what was answered is sent, then the connection is closed with 1001, by which clients know to connect again.

mod protocol;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::protocol::{Client, Close, SUBPROTOCOL};
use super::caller::of_init;
use super::live::{Admitted, Outcome, Run, same_origin};
use super::request::{Asked, Media};
use super::{Api, errors, send};
use crate::api::connection::Connection;
use crate::error::ErrorKind;
use crate::events::metrics::{Ended, Transport};

/// Messages that were made and not yet written.
const QUEUED: usize = 16;
/// A message of a client is not longer.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How long a client has to take what is left for it, and to answer the closing.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn upgrade(
    api: Api,
    connection: Connection,
    headers: &HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(status) = same_origin(headers) {
        return status.into_response();
    }
    let Some(admitted) = api.live.admit(Transport::websocket) else {
        let body = errors("too many connections with subscriptions", ErrorKind::Unavailable.code());
        return send(Media::Json, StatusCode::SERVICE_UNAVAILABLE, body, true);
    };
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    let known = upgrade.selected_protocol().is_some();
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| Session::new(api, connection, admitted, socket).run(known))
}

/// A connection.
struct Session {
    api: Api,
    connection: Connection,
    admitted: Admitted,
    incoming: SplitStream<WebSocket>,
    outgoing: SplitSink<WebSocket, Message>,
}

/// What happens while a connection is open.
struct Open {
    api: Api,
    connection: Connection,
    out: mpsc::Sender<String>,
    acknowledged: bool,
    /// Those that may say more, by their ids: an id is free before the client hears that its operation has ended.
    operations: Operations,
    running: JoinSet<Run>,
}

type Operations = Arc<Mutex<HashMap<String, AbortHandle>>>;

/// Why a connection ends.
enum End {
    /// The client is gone.
    Gone,
    Close(Close),
}

impl Session {
    fn new(api: Api, connection: Connection, admitted: Admitted, socket: WebSocket) -> Self {
        let (outgoing, incoming) = socket.split();
        Self { api, connection, admitted, incoming, outgoing }
    }

    async fn run(self, known: bool) {
        let Self { api, connection, mut admitted, mut incoming, outgoing } = self;
        let (out, queued) = mpsc::channel(QUEUED);
        let (close, closing) = tokio::sync::oneshot::channel();
        let writer = tokio::spawn(write(outgoing, queued, closing));
        let end = if known {
            let open = Open {
                api,
                connection: connection.clone(),
                out,
                acknowledged: false,
                operations: Operations::default(),
                running: JoinSet::new(),
            };
            tokio::select! {
                end = open.serve(&mut incoming) => end,
                () = connection.cut.cancelled() => End::Gone,
            }
        } else {
            drop(out);
            End::Close(Close::Subprotocol)
        };
        let abort = writer.abort_handle();
        if let End::Close(reason) = end {
            admitted.ends(match reason {
                Close::GoingAway => Ended::shutdown,
                Close::TooSlow => Ended::slow,
                Close::Silent => Ended::silent,
                _ => Ended::protocol,
            });
            let _ = close.send(reason);
            let said = async {
                let _ = writer.await;
                while let Some(Ok(_)) = incoming.next().await {}
            };
            tokio::select! {
                _ = tokio::time::timeout(CLOSE_WITHIN, said) => {}
                () = connection.cut.cancelled() => {}
            }
        }
        abort.abort();
    }
}

/// Writes what is queued; at its end says why the connection closes.
async fn write(
    mut outgoing: SplitSink<WebSocket, Message>,
    mut queued: mpsc::Receiver<String>,
    closing: tokio::sync::oneshot::Receiver<Close>,
) {
    while let Some(text) = queued.recv().await {
        if outgoing.send(Message::Text(text.into())).await.is_err() {
            return;
        }
    }
    if let Ok(close) = closing.await {
        let frame = CloseFrame { code: close.code(), reason: close.reason().into() };
        let _ = outgoing.send(Message::Close(Some(frame))).await;
    }
}

impl Open {
    /// Serves until the connection ends; operations end with it.
    async fn serve(mut self, incoming: &mut SplitStream<WebSocket>) -> End {
        let ending = self.connection.ending.clone();
        let init_by = Instant::now() + self.api.live.settings.init_timeout;
        let keep_alive = self.api.live.settings.keep_alive;
        let mut alive = tokio::time::interval_at(Instant::now() + keep_alive, keep_alive);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        loop {
            // Subscriptions end by themselves then; other operations are answered first.
            if ending.is_cancelled() && self.running.is_empty() {
                return End::Close(Close::GoingAway);
            }
            tokio::select! {
                message = incoming.next() => {
                    unanswered = 0;
                    let done = match message {
                        None | Some(Err(_)) => Err(End::Gone),
                        Some(Ok(message)) => self.take(message),
                    };
                    if let Err(end) = done {
                        return end;
                    }
                }
                Some(ended) = self.running.join_next() => {
                    // One that was aborted is an error here, and all is said about it.
                    let done = match ended {
                        Ok(Run::Slow) => Err(End::Close(Close::TooSlow)),
                        Err(error) if error.is_panic() => self.panicked(error.id()),
                        _ => Ok(()),
                    };
                    if let Err(end) = done {
                        return end;
                    }
                }
                () = tokio::time::sleep_until(init_by), if !self.acknowledged => {
                    return End::Close(Close::InitTimeout);
                }
                _ = alive.tick() => {
                    unanswered += 1;
                    if unanswered > 2 {
                        return End::Close(Close::Silent);
                    }
                    // No room means that others wait to be written, which asks the same.
                    let _ = self.out.try_send(protocol::ping());
                }
                () = ending.cancelled(), if self.running.is_empty() => {}
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(End::Gone),
            Message::Binary(_) => return Err(End::Close(Close::Invalid)),
        };
        match protocol::read(&text).ok_or(End::Close(Close::Invalid))? {
            Client::Init(_) if self.acknowledged => Err(End::Close(Close::TooManyInits)),
            Client::Init(payload) => {
                let caller = of_init(&self.api.keys, &self.api.caller, &payload);
                self.api.caller = caller.ok_or(End::Close(Close::Forbidden))?;
                self.api.pass = self.api.pass.as_ref().map(|pass| pass.of(&self.api.caller));
                self.acknowledged = true;
                self.say(protocol::ack())
            }
            Client::Ping(payload) => self.say(protocol::pong(payload)),
            Client::Pong => Ok(()),
            Client::Subscribe { .. } if !self.acknowledged => Err(End::Close(Close::Unauthorized)),
            Client::Subscribe { id, .. } if self.operations.lock().contains_key(&id) => {
                Err(End::Close(Close::Duplicate))
            }
            Client::Subscribe { id, .. } if self.connection.ending.is_cancelled() => {
                let code = ErrorKind::Unavailable.code();
                self.say(protocol::error(&id, &errors("the server ends", code).into()))
            }
            Client::Subscribe { id, asked } => {
                let most = self.api.live.settings.max_per_connection as usize;
                if self.operations.lock().len() >= most {
                    let message = format!("this connection has {most} operations already");
                    return self.say(protocol::error(&id, &errors(&message, "LIMIT_EXCEEDED").into()));
                }
                let operation = Operation {
                    id: id.clone(),
                    api: self.api.clone(),
                    out: self.out.clone(),
                    operations: self.operations.clone(),
                    ending: self.connection.ending.clone(),
                };
                // Locked until it is in: it may end at once.
                let mut operations = self.operations.lock();
                operations.insert(id, self.running.spawn(operation.run(asked)));
                Ok(())
            }
            Client::Complete { id } => {
                if let Some(operation) = self.operations.lock().remove(&id) {
                    operation.abort();
                }
                Ok(())
            }
        }
    }

    /// Ends an operation that did not end itself: its client hears of it, and its id is free.
    fn panicked(&self, task: tokio::task::Id) -> Result<(), End> {
        let mut operations = self.operations.lock();
        let id = operations.iter().find(|(_, operation)| operation.id() == task).map(|(id, _)| id.clone());
        let Some(id) = id else { return Ok(()) };
        operations.remove(&id);
        drop(operations);
        let errors = errors("something went wrong on our side", ErrorKind::Internal.code());
        self.say(protocol::error(&id, &errors.into()))
    }

    /// Without waiting: a client whose pongs find no room does not read.
    fn say(&self, text: String) -> Result<(), End> {
        self.out.try_send(text).map_err(|_| End::Close(Close::TooSlow))
    }
}

/// One operation of a connection.
struct Operation {
    id: String,
    api: Api,
    out: mpsc::Sender<String>,
    operations: Operations,
    ending: CancellationToken,
}

impl Operation {
    /// Runs it and writes its results as messages.
    async fn run(self, asked: Asked) -> Run {
        let (results, mut made) = mpsc::channel(1);
        let run = self.api.run(asked, false, results, &self.ending);
        let pass_on = async {
            while let Some(outcome) = made.recv().await {
                let text = match outcome {
                    Outcome::Next(answer) => protocol::next(&self.id, &answer),
                    Outcome::Refused(answer) => {
                        self.forget();
                        protocol::error(&self.id, &answer)
                    }
                    Outcome::Complete => {
                        self.forget();
                        protocol::complete(&self.id)
                    }
                };
                if self.out.send(text).await.is_err() {
                    return;
                }
            }
        };
        let mut run = std::pin::pin!(run);
        let mut pass_on = std::pin::pin!(pass_on);
        let ended = tokio::select! {
            biased;
            ended = run.as_mut() => ended,
            () = pass_on.as_mut() => return Run::Over,
        };
        if ended != Run::Slow {
            pass_on.await;
        }
        ended
    }

    fn forget(&self) {
        self.operations.lock().remove(&self.id);
    }
}
