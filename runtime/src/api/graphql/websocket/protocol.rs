//! The messages of graphql-transport-ws and the codes that a connection is closed with
//! (<https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>). Pure.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::request::{self, Asked};

/// The subprotocol's name.
pub(super) const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    GoingAway,
    Invalid,
    Unauthorized,
    Forbidden,
    Subprotocol,
    InitTimeout,
    Duplicate,
    TooManyInits,
    TooSlow,
    Silent,
}

impl Close {
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Invalid => 4400,
            Self::Unauthorized => 4401,
            Self::Forbidden => 4403,
            Self::Subprotocol => 4406,
            Self::InitTimeout => 4408,
            Self::Duplicate => 4409,
            Self::TooManyInits => 4429,
            Self::TooSlow => 4290,
            Self::Silent => 4504,
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "the server ends",
            Self::Invalid => "Invalid message",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::Subprotocol => "Subprotocol not acceptable",
            Self::InitTimeout => "Connection initialisation timeout",
            Self::Duplicate => "Subscriber for this id already exists",
            Self::TooManyInits => "Too many initialisation requests",
            Self::TooSlow => "too slow: too many events were waiting",
            Self::Silent => "no answer to a ping",
        }
    }
}

/// A message of the client.
#[derive(Debug, Clone)]
pub(super) enum Client {
    Init(Map<String, Value>),
    Ping(Option<Value>),
    Pong,
    Subscribe { id: String, asked: Asked },
    Complete { id: String },
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// Reads a message; `None` for one that the protocol does not have.
pub(super) fn read(text: &str) -> Option<Client> {
    let raw: Raw<'_> = serde_json::from_str(text).ok()?;
    // A payload is an object, where there is one.
    let payload = match raw.payload.map(RawValue::get) {
        None | Some("null") => None,
        Some(payload) if payload.starts_with('{') => Some(payload),
        Some(_) => return None,
    };
    let id = raw.id.filter(|id| !id.is_empty());
    Some(match raw.kind.as_str() {
        "connection_init" => Client::Init(payload.map_or(Ok(Map::new()), serde_json::from_str).ok()?),
        "ping" => Client::Ping(payload.and_then(|payload| serde_json::from_str(payload).ok())),
        "pong" => Client::Pong,
        "subscribe" => Client::Subscribe { id: id?, asked: request::one(payload?.as_bytes()).ok()? },
        "complete" => Client::Complete { id: id? },
        _ => return None,
    })
}

/// `connection_ack`.
pub(super) fn ack() -> String {
    json!({"type": "connection_ack"}).to_string()
}

/// `ping`, by which the server learns whether the client lives.
pub(super) fn ping() -> String {
    json!({"type": "ping"}).to_string()
}

/// `pong` with what the ping said.
pub(super) fn pong(payload: Option<Value>) -> String {
    match payload {
        Some(payload) => json!({"type": "pong", "payload": payload}).to_string(),
        None => json!({"type": "pong"}).to_string(),
    }
}

/// `next` with an answer, whose JSON is not read again.
pub(super) fn next(id: &str, answer: &Bytes) -> String {
    let id = Value::from(id);
    let answer = String::from_utf8_lossy(answer);
    format!("{{\"id\":{id},\"type\":\"next\",\"payload\":{answer}}}")
}

/// `error` with the errors of an answer that has nothing else.
pub(super) fn error(id: &str, answer: &Bytes) -> String {
    let mut answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    json!({"id": id, "type": "error", "payload": answer["errors"].take()}).to_string()
}

/// `complete`.
pub(super) fn complete(id: &str) -> String {
    json!({"id": id, "type": "complete"}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_does_not_have_is_no_message() {
        for wrong in [
            "",
            "[]",
            "7",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"start","id":"1"}"#,
            r#"{"type":"subscribe","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":7,"payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":7}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":[]}}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"connection_init","payload":7}"#,
        ] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
        for right in [
            r#"{"type":"connection_init"}"#,
            r#"{"type":"connection_init","payload":{"token":"t"}}"#,
            r#"{"type":"ping","payload":null}"#,
            r#"{"type":"pong","payload":{"a":1}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","extensions":null}}"#,
            r#"{"id":"1","type":"complete"}"#,
        ] {
            assert!(read(right).is_some(), "{right}");
        }
    }

    #[test]
    fn messages_are_json_whatever_the_id_is() {
        let id = "a\"b\\\u{1}";
        let answer = Bytes::from_static(br#"{"data":{"a":1},"errors":[{"message":"m"}]}"#);
        let parsed: Value = serde_json::from_str(&next(id, &answer)).expect("JSON");
        assert_eq!((&parsed["id"], &parsed["payload"]["data"]["a"]), (&json!(id), &json!(1)));
        let parsed: Value = serde_json::from_str(&error(id, &answer)).expect("JSON");
        assert_eq!(parsed["payload"], json!([{"message": "m"}]));
        assert_eq!(pong(Some(json!({"n": 1}))), r#"{"type":"pong","payload":{"n":1}}"#);
    }
}
