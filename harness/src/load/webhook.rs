//! A payment provider: the webhook that the server is to have, and deliveries that are signed as Stripe signs.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use serde_json::json;
use sha2::Sha256;

use crate::environment::{WEBHOOK_SECRET, WEBHOOK_SECRET_ENV};

/// Where deliveries go.
pub const PATH: &str = "/webhooks/payments";

/// What `fraiseql.toml` has of it: a payment pays its order.
pub fn configuration() -> toml::Table {
    let text = r#"
        [webhooks.payments]
        provider = "stripe"
        retry_base = "200ms"
        retry_longest = "2s"
        max_attempts = 100
        [[webhooks.payments.handlers]]
        event = "payment_intent.succeeded"
        mutation = """
        mutation($order: ID!, $key: String!) { updateOrderStatus(id: $order, status: paid, idempotencyKey: $key) { id } }"""
        variables = { order = "/data/object/metadata/order_id", key = "event_key" }
    "#;
    let mut table: toml::Table = toml::from_str(text).expect("written in this crate");
    let payments = table.get_mut("webhooks").and_then(|webhooks| webhooks.get_mut("payments"));
    if let Some(payments) = payments.and_then(toml::Value::as_table_mut) {
        payments.insert("secret_env".to_owned(), WEBHOOK_SECRET_ENV.into());
    }
    table
}

/// The body of a delivery that tells of the payment of an order.
pub fn body(event: &str, order: &str) -> String {
    let object = json!({ "id": format!("pi_{event}"), "metadata": { "order_id": order } });
    json!({ "id": event, "type": "payment_intent.succeeded", "data": { "object": object } }).to_string()
}

/// With the body and its signature, made now.
#[expect(clippy::disallowed_methods, reason = "who signs says when, by the wall clock")]
pub fn signed(request: RequestBuilder, body: &str) -> RequestBuilder {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let at = now.unwrap_or_default().as_secs();
    let mut mac =
        Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{at}.{body}").as_bytes());
    let code: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let request = request.header("stripe-signature", format!("t={at},v1={code}"));
    request.header("content-type", "application/json").body(body.to_owned())
}
