//! What a stream holds, read past the services.

use async_nats::jetstream;
use url::Url;

/// A message as it is stored.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    /// `Nats-Msg-Id`, empty without one.
    pub id: String,
    pub payload: serde_json::Value,
    headers: async_nats::HeaderMap,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(async_nats::HeaderValue::as_str)
    }
}

/// Every message of a stream; none when there is no stream.
pub async fn messages(server: &Url, stream: &str) -> Vec<Message> {
    let client = async_nats::connect(server.as_str()).await.expect("nats answers");
    let Ok(stream) = jetstream::new(client).get_stream(stream).await else { return Vec::new() };
    let state = stream.cached_info().state.clone();
    let mut messages = Vec::new();
    if state.messages == 0 {
        return messages;
    }
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("nothing is deleted");
        let id = message.headers.get("Nats-Msg-Id").map_or_else(String::new, ToString::to_string);
        messages.push(Message {
            subject: message.subject.to_string(),
            id,
            headers: message.headers.clone(),
            payload: serde_json::from_slice(&message.payload).expect("JSON"),
        });
    }
    messages
}
