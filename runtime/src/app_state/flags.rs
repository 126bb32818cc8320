//! Flags and rollouts of the server: made from the configuration, with their background work.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{WorkerFactory, worker};
use crate::config::Config;
use crate::error::chain;
use crate::feature_flags::metrics::FlagMetrics;
use crate::feature_flags::store::FlagStore;
use crate::feature_flags::stored::StoredFlags;
use crate::feature_flags::{self, FeatureFlagService};
use crate::migration::rollout::{self, Rollouts};
use crate::observability::metrics::Metrics;
use crate::storage::postgres::{Postgres, listen};

/// Their background work. Without a way past a pooler flags are polled, and this server takes no steps of rollouts.
pub(super) fn workers(
    flags: &StoredFlags,
    rollouts: &Rollouts,
    direct_url: Option<&Arc<str>>,
) -> Vec<(&'static str, WorkerFactory)> {
    let mut workers = vec![
        worker("feature-flags", flags.clone(), |flags, stop| async move { flags.follow(stop).await }),
        worker("rollouts", rollouts.clone(), |rollouts, stop| async move { rollouts.report(stop).await }),
    ];
    if let Some(url) = direct_url {
        let parts = (flags.clone(), rollouts.clone(), url.clone());
        workers.push(worker("flag-changes", parts, |(flags, rollouts, url), stop| async move {
            listen_for_changes(&flags, &rollouts, &url, stop).await;
        }));
        workers.push(worker(
            "rollout-leader",
            (rollouts.clone(), url.clone()),
            |(rollouts, url), stop| async move {
                rollouts.lead(&url, stop).await;
            },
        ));
    }
    workers
}

/// The flags of the database, of which none is known yet.
pub(super) fn of_database(config: &Config, postgres: &Postgres, metrics: &Metrics) -> StoredFlags {
    let table = &config.feature_flags;
    let environment = if table.environment.is_empty() { config.mode.name() } else { &table.environment };
    let service = FeatureFlagService::new(environment);
    let series = metrics.area(|registry| FlagMetrics::register(registry, service.clone()));
    StoredFlags::new(service, FlagStore::new(postgres.clone()), table.poll_interval, series)
}

/// Has flags and rollouts looked at whenever the database says that one was changed.
async fn listen_for_changes(flags: &StoredFlags, rollouts: &Rollouts, url: &str, stop: CancellationToken) {
    let channels = [feature_flags::store::CHANNEL, rollout::store::CHANNEL];
    let told = |heard: listen::Heard| match heard {
        listen::Heard::Notified { channel, .. } if channel == rollout::store::CHANNEL => rollouts.ask(),
        listen::Heard::Notified { .. } => flags.ask(),
        listen::Heard::Connected => {
            flags.ask();
            rollouts.ask();
        }
    };
    if let Err(error) = listen::run(url, &channels, told, stop).await {
        tracing::error!(error = %chain(&error), "nobody listens for changes of flags");
    }
}
