//! Clients of subscriptions: over a WebSocket and over server-sent events.

use std::time::Duration;

use async_nats::jetstream;
use futures::{SinkExt, StreamExt};
use harness::environment::ServiceName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Front, Shop, Stage, eventually};

/// How long a message may take; generous, it is only used up in a test that fails.
const WITHIN: Duration = Duration::from_secs(40);

/// What a client hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Message(Value),
    Closed(u16),
    Gone,
}

pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Connects and says nothing yet.
    pub async fn open(front: &Front, subprotocol: &str) -> Self {
        Self::try_open(front, subprotocol).await.expect("a WebSocket")
    }

    /// As [`open`](Self::open), where the server may refuse.
    pub async fn try_open(
        front: &Front,
        subprotocol: &str,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{}/graphql", front.address).into_client_request().expect("a URL");
        if !subprotocol.is_empty() {
            let name = subprotocol.parse().expect("a header");
            request.headers_mut().insert("sec-websocket-protocol", name);
        }
        connect_async(request).await.map(|(stream, _)| Self { stream })
    }

    /// Connected, initialised and acknowledged.
    pub async fn ready(front: &Front) -> Self {
        let mut socket = Self::open(front, "graphql-transport-ws").await;
        socket.say(json!({"type": "connection_init"})).await;
        assert_eq!(socket.hear().await, Heard::Message(json!({"type": "connection_ack"})));
        socket
    }

    pub async fn say(&mut self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("sent");
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({"query": query, "variables": variables});
        self.say(json!({"id": id, "type": "subscribe", "payload": payload})).await;
    }

    /// The next message that is no ping of the server, or the end.
    pub async fn hear(&mut self) -> Heard {
        loop {
            let next = tokio::time::timeout(WITHIN, self.stream.next()).await.expect("a message in time");
            return match next {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message["type"] == "ping" {
                        self.say(json!({"type": "pong"})).await;
                        continue;
                    }
                    Heard::Message(message)
                }
                Some(Ok(Message::Close(frame))) => Heard::Closed(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Heard::Gone,
            };
        }
    }

    /// The data of the next result, which must be one of this operation without errors.
    pub async fn data(&mut self, id: &str) -> Value {
        let heard = self.hear().await;
        let Heard::Message(message) = &heard else { panic!("{heard:?}") };
        assert_eq!((&message["id"], &message["type"]), (&json!(id), &json!("next")), "{message}");
        assert!(message["payload"].get("errors").is_none(), "{message}");
        message["payload"]["data"].clone()
    }

    /// How the connection ends, whatever is said before.
    pub async fn end(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Heard::Message(_) => {}
                end => return end,
            }
        }
    }
}

/// A stream of server-sent events.
pub struct Stream {
    response: reqwest::Response,
    buffer: String,
}

impl Stream {
    pub async fn open(front: &Front, query: &str, variables: Value) -> Self {
        let body = json!({"query": query, "variables": variables});
        let request = front.client.post(front.url()).header("accept", "text/event-stream").json(&body);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The name and the data of the next event; `None` at the end.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.buffer = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let Some(name) = field("event") else { continue };
                let data = field("data").and_then(|data| serde_json::from_str(data).ok());
                return Some((name.to_owned(), data.unwrap_or_default()));
            }
            let chunk = tokio::time::timeout(WITHIN, self.response.chunk()).await.expect("an event in time");
            let chunk = chunk.ok().flatten()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }
}

/// Waits until so many subscriptions are open and the stream is followed, so that no event is missed.
pub async fn subscribed(shop: &Shop, count: i64) {
    eventually("the subscriptions are open", async || {
        let found = (shop.metric("subscriptions_active"), shop.metric("subscription_stream_followed"));
        super::equal(found, (count as f64, 1.0))
    })
    .await;
}

/// Puts an event into the shop's stream, past the outbox and past the link. The client lives in the runtime of its caller.
pub async fn emit(shop: &Shop, stage: &Stage, name: &str, payload: Value) {
    let client = async_nats::connect(stage.url(ServiceName::Nats).as_str()).await.expect("connected");
    let subject = format!("{}.{name}", shop.stream);
    // Kept until the acknowledgement is there: the connection ends with its last handle.
    let context = jetstream::new(client);
    let sent = context.publish(subject, payload.to_string().into()).await.expect("sent");
    sent.await.expect("stored");
}

/// Deletes every consumer of the shop's stream, as a restart of NATS would.
pub async fn forget_consumers(shop: &Shop, stage: &Stage) {
    let client = async_nats::connect(stage.url(ServiceName::Nats).as_str()).await.expect("connected");
    let stream = jetstream::new(client).get_stream(&shop.stream).await.expect("the stream");
    let names: Vec<_> = stream.consumer_names().collect().await;
    assert_eq!(names.len(), 1, "one for all subscriptions");
    for name in names {
        stream.delete_consumer(&name.expect("a name")).await.expect("deleted");
    }
}
