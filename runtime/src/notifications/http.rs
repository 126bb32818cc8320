//! Webhooks and Slack: one POST of JSON, no redirects, nothing of the URL in an error.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use http::HeaderMap;
use http::header::RETRY_AFTER;
use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use super::{Error, Notification};
use crate::clock::Clock;
use crate::config::url::ConnectionUrl;
use crate::observability::trace;

/// The client that all endpoints share.
pub(super) fn client() -> Result<Client, Error> {
    let client = Client::builder()
        .user_agent(concat!("fraiseql-server/", env!("CARGO_PKG_VERSION")))
        // A redirect would send the notification, and a secret in its URL, to whom nobody configured.
        .redirect(Policy::none())
        .build();
    client.map_err(|source| Error::Setup { what: "the HTTP client", source: source.into() })
}

/// Where notifications are posted.
pub(super) struct Endpoint {
    client: Client,
    url: ConnectionUrl,
    clock: Arc<dyn Clock>,
}

impl Endpoint {
    pub(super) fn new(client: &Client, url: &ConnectionUrl, clock: &Arc<dyn Clock>) -> Self {
        Self { client: client.clone(), url: url.clone(), clock: clock.clone() }
    }

    /// The whole notification.
    pub(super) async fn webhook(&self, notification: &Notification) -> Result<(), Error> {
        let Notification { id, name, event, recipient, subject, body, payload } = notification;
        let document = json!({
            "id": id, "notification": name, "event": event, "recipient": recipient, "subject": subject, "body": body,
            "data": payload,
        });
        self.post(&document, Some(&notification.key())).await
    }

    /// A message in Slack's form.
    pub(super) async fn slack(&self, notification: &Notification) -> Result<(), Error> {
        let Notification { subject, body, .. } = notification;
        let text = format!("*{}*\n{}", escaped(subject), escaped(body));
        self.post(&json!({ "text": text }), None).await
    }

    async fn post(&self, document: &Value, key: Option<&str>) -> Result<(), Error> {
        let mut request = self.client.post(self.url.expose()).json(document);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(context) = trace::current() {
            let mut headers = HeaderMap::new();
            context.inject(&mut headers);
            request = request.headers(headers);
        }
        let answer = request.send().await.map_err(|error| Error::Transport(error.without_url().into()))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let value = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = value.and_then(|value| retry_after(value, self.clock.utc()));
        Err(Error::Http { status: answer.status().as_u16(), retry_after })
    }
}

/// What Slack takes for markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = NaiveDateTime::parse_from_str(value.trim(), "%a, %d %b %Y %H:%M:%S GMT").ok()?;
    Some((date.and_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:02:00 GMT", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Wed, 31 Dec 1969 23:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn what_slack_takes_for_markup_stays_text() {
        assert_eq!(escaped("<!channel> a & b"), "&lt;!channel&gt; a &amp; b");
    }
}
