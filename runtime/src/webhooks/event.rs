//! What a delivery tells: which event, of which type. Pure.
//!
//! Promises: the same event has the same key however often it is sent, and no sender can make it another one without the
//! secret: the key is of what was signed. Headers are not signed, so that they name no key.

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::webhooks::Provider;
use crate::ids::WebhookEventId;

/// Bytes of a type at most.
const TYPE_BYTES_MAX: usize = 200;
/// Bytes of a provider's own id at most, else the body's digest is the key.
const ID_BYTES_MAX: usize = 200;
/// Namespace of the ids. Changing it makes every event a new one.
const NAMESPACE: Uuid = Uuid::from_u128(0x2d5e_41c7_9b60_4f0e_8c3a_51f2_6a7d_90be);

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Made of the webhook's name and the key.
    pub id: WebhookEventId,
    /// As handlers name it.
    pub kind: String,
    /// The same for each delivery.
    pub key: String,
    /// What was sent.
    pub payload: Value,
}

/// Reads a delivery whose signature is right. `told`: the type that a header names, for providers that do so.
///
/// # Errors
/// What is wrong with it.
pub fn read(
    webhook: &str,
    provider: Provider,
    body: &str,
    told: Option<&str>,
) -> Result<Event, &'static str> {
    let payload: Value = serde_json::from_str(body).map_err(|_| "the body is not JSON")?;
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    let kind = match provider {
        Provider::Stripe => text("type").ok_or("the body has no text \"type\"")?.to_owned(),
        Provider::GitHub => {
            let event = told.ok_or("there is no header X-GitHub-Event")?;
            text("action").map_or_else(|| event.to_owned(), |action| format!("{event}.{action}"))
        }
        Provider::Shopify => told.ok_or("there is no header X-Shopify-Topic")?.to_owned(),
    };
    if kind.is_empty() || kind.len() > TYPE_BYTES_MAX || kind.chars().any(char::is_control) {
        return Err("the event's type must be 1 to 200 bytes without control characters");
    }
    // Of the three only Stripe signs an id of the event.
    let own = (provider == Provider::Stripe).then(|| text("id")).flatten();
    let own = own.filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control));
    let key = match own {
        Some(id) => format!("id:{id}"),
        None => {
            let digest = Sha256::digest(body.as_bytes());
            format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    };
    let id = WebhookEventId(Uuid::new_v5(&NAMESPACE, format!("{webhook}\n{key}").as_bytes()));
    Ok(Event { id, kind, key, payload })
}

/// The header with the signature, in lower case.
pub const fn signature_header(provider: Provider) -> &'static str {
    match provider {
        Provider::Stripe => "stripe-signature",
        Provider::GitHub => "x-hub-signature-256",
        Provider::Shopify => "x-shopify-hmac-sha256",
    }
}

/// The header with the event's type, in lower case, where the body does not have it.
pub const fn type_header(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Stripe => None,
        Provider::GitHub => Some("x-github-event"),
        Provider::Shopify => Some("x-shopify-topic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_where_the_provider_has_it() {
        let kind = |provider, body: &str, told| read("h", provider, body, told).map(|e| e.kind);
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(kind(Provider::Stripe, r#"{"type":"a.b"}"#, Some("x")), ok("a.b"));
        assert_eq!(kind(Provider::GitHub, r#"{"action":"closed"}"#, Some("issues")), ok("issues.closed"));
        assert_eq!(kind(Provider::GitHub, "{}", Some("push")), ok("push"));
        assert_eq!(kind(Provider::Shopify, r#"{"action":"closed"}"#, Some("orders/paid")), ok("orders/paid"));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (provider, body, told, problem) in [
            (Provider::Stripe, "{", None, "not JSON"),
            (Provider::Stripe, "[]", None, "\"type\""),
            (Provider::Stripe, r#"{"type":7}"#, None, "\"type\""),
            (Provider::Stripe, r#"{"type":""}"#, None, "1 to 200"),
            (Provider::Stripe, r#"{"type":"a\u0000"}"#, None, "control"),
            (Provider::GitHub, "{}", None, "X-GitHub-Event"),
            (Provider::Shopify, "{}", None, "X-Shopify-Topic"),
        ] {
            let told = read("h", provider, body, told).expect_err(body);
            assert!(told.contains(problem), "{told}");
        }
    }

    #[test]
    fn a_key_is_of_what_was_signed_and_of_nothing_else() {
        let event =
            |webhook, provider, body: &str, told| read(webhook, provider, body, told).expect("an event");
        let first = event("h", Provider::Stripe, r#"{"id":"evt_1","type":"a"}"#, None);
        let again = event("h", Provider::Stripe, r#"{ "type":"a", "id":"evt_1" }"#, None);
        assert_eq!((first.id, first.key.as_str()), (again.id, "id:evt_1"));
        assert_ne!(first.id, event("i", Provider::Stripe, r#"{"id":"evt_1","type":"a"}"#, None).id);
        let unnamed = event("h", Provider::Stripe, r#"{"type":"a"}"#, None);
        assert!(unnamed.key.starts_with("sha256:") && unnamed.key.len() == 71, "{}", unnamed.key);
        // Whoever sends a signed body again cannot make it another event by what is not signed.
        let opened = event("h", Provider::GitHub, r#"{"id":"1"}"#, Some("push"));
        assert_eq!(opened.id, event("h", Provider::GitHub, r#"{"id":"1"}"#, Some("issues")).id);
    }
}
