//! `[nats]`: the connection to NATS and the stream that the events go to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nats {
    /// Name of the environment variable that holds the URL.
    pub url_env: String,
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// One publish, from sending it to the stream's acknowledgement.
    #[serde(with = "units::duration")]
    pub publish_timeout: Duration,
    /// JetStream stream, made when it is not there.
    pub stream: String,
    /// First token of every subject: `<prefix>.created`.
    pub subject_prefix: String,
    /// Within this time the stream drops an event that it has already. A stream that was there before gets it too,
    /// as far as its maximum age allows: JetStream refuses a window longer than that.
    #[serde(with = "units::duration")]
    pub duplicate_window: Duration,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url_env: "NATS_URL".to_owned(),
            connect_timeout: Duration::from_secs(2),
            publish_timeout: Duration::from_secs(2),
            stream: "ORDERS".to_owned(),
            subject_prefix: "orders".to_owned(),
            duplicate_window: Duration::from_secs(2 * 60),
        }
    }
}

impl Nats {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        const RULE: &str = "1 to 64 of the characters A-Z a-z 0-9 _ -";
        checks.variable_name("url_env", &self.url_env);
        checks.duration("connect_timeout", self.connect_timeout, "1ms", "5m");
        checks.duration("publish_timeout", self.publish_timeout, "1ms", "5m");
        checks.require("stream", &self.stream, is_token(&self.stream), RULE);
        checks.require("subject_prefix", &self.subject_prefix, is_token(&self.subject_prefix), RULE);
        // JetStream refuses anything shorter.
        checks.duration("duplicate_window", self.duplicate_window, "100ms", "1day");
    }
}

/// Dots, spaces and wildcards mean something else to NATS.
fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
