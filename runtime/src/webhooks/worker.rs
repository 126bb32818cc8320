//! Events that wait: tried again when it is their time, by one of all servers, and forgotten when they are done with.

use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::Webhooks;
use super::event::Event;
use super::store::{self, Due, State};
use crate::error::chain;

const PAUSE: Duration = Duration::from_secs(1);
/// Events under way at the same time on one server.
const CONCURRENCY: i64 = 8;
const MEASURE_PERIOD: Duration = Duration::from_secs(5);
const PRUNE_PERIOD: Duration = Duration::from_secs(3_600);

impl Webhooks {
    /// Tries again what waits, until `cancel`; what was begun is ended.
    pub async fn retry(&self, cancel: CancellationToken) {
        let names: Vec<String> = self.inner.hooks.keys().cloned().collect();
        while !cancel.is_cancelled() {
            let found = match store::due(&self.inner.postgres, &names, self.inner.lease, CONCURRENCY).await {
                Ok(due) => {
                    let found = due.len();
                    join_all(due.into_iter().map(|due| self.again(due))).await;
                    found
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "webhooks wait for the database");
                    0
                }
            };
            if found > 0 {
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Counts what waits. Runs until `cancel`.
    pub async fn measure(&self, cancel: CancellationToken) {
        loop {
            match store::waiting(&self.inner.postgres).await {
                Ok(waiting) => drop(self.inner.metrics.waiting.set(waiting)),
                Err(error) => tracing::debug!(error = %chain(&error), "could not count webhooks that wait"),
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(MEASURE_PERIOD) => {}
            }
        }
    }

    /// Forgets what was done with long ago. Runs until `cancel`.
    pub async fn prune(&self, cancel: CancellationToken) {
        loop {
            for (name, hook) in &self.inner.hooks {
                if let Err(error) = store::prune(&self.inner.postgres, name, hook.remember).await {
                    tracing::debug!(webhook = name, error = %chain(&error), "could not forget old webhooks");
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PRUNE_PERIOD) => {}
            }
        }
    }

    async fn again(&self, due: Due) {
        let Due { id, webhook, event_type: kind, event_key: key, payload, attempts } = due;
        let Some(hook) = self.inner.hooks.get(&webhook) else { return };
        let tried = u32::try_from(attempts).unwrap_or(u32::MAX);
        let given_up = if tried > hook.policy.attempts {
            // Whoever had it last never said what came of it: a process that it ended, perhaps.
            "tried as often as is allowed, and the last attempt did not end"
        } else if let Ok(payload) = serde_json::from_str(&payload) {
            self.handle(&webhook, hook, &Event { id, kind, key, payload }, attempts).await;
            return;
        } else {
            // It was read before it was kept: somebody has changed the row.
            "the payload is no JSON that can be read"
        };
        tracing::error!(webhook, event_id = %id, attempts, reason = given_up, "webhook given up");
        self.inner.metrics.count_event(hook.provider, State::Dead);
        let outcome = (Some(given_up), Duration::ZERO);
        let settled = store::settle(&self.inner.postgres, id, attempts, State::Dead, outcome);
        if let Err(error) = settled.await {
            tracing::debug!(error = %chain(&error), "what a webhook came to is not kept");
        }
    }
}
