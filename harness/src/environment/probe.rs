//! Whether a service answers for real, and what it says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backend::Started;
use super::{Error, ServiceName, log_tail, nats, postgres, redis, wait};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub version: String,
    /// Settings in force that decide what a durability claim is worth.
    pub settings: BTreeMap<String, String>,
}

/// One real exchange: a query, PING, or a JetStream account call. The error is one line for people.
pub async fn ask(name: ServiceName, url: &str) -> Result<Facts, String> {
    let answer = match name {
        ServiceName::Postgres => postgres::facts(url).await,
        ServiceName::Redis => redis::facts(url).await,
        ServiceName::Nats => nats::facts(url).await,
    };
    answer.map_err(|error| format!("{error:#}"))
}

pub(crate) async fn wait_ready(
    name: ServiceName,
    started: &Started,
    within: Duration,
) -> Result<Facts, Error> {
    let ready = wait::until(within, Duration::from_millis(25), || async {
        // A process that has ended will not answer any more: say so at once instead of at the deadline.
        if let Some(control) = &started.control
            && !control.alive().await
        {
            return Ok(Err("it ended".to_owned()));
        }
        ask(name, &started.url).await.map(Ok)
    })
    .await;
    let last = match ready {
        Ok(Ok(facts)) => return Ok(facts),
        Ok(Err(last)) | Err(last) => last,
    };
    let log = started.log.as_deref().map(|path| log_tail(path, 15)).unwrap_or_default();
    Err(Error::NotReady { what: format!("{name} ({})", started.origin), within, last, log })
}
