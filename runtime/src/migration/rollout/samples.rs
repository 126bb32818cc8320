//! The SQL of what servers counted behind flags: each writes its own rows, a second each, while a rollout runs; a gate reads
//! the sums of all servers over its window.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::plan::Plan;
use crate::feature_flags::cohorts::{BUCKETS, Sample, Side};
use crate::migration::strategy::{Cohort, MetricsProvider, MigrationError, Reading};
use crate::storage::postgres::{self, Postgres};

/// Flags without a rollout that runs are left out.
const WRITE: &str = "INSERT INTO fraiseql.rollout_samples AS s (feature, at, server, is_on, requests, failures, buckets) \
     SELECT n.feature, date_trunc('second', now()), $2, n.is_on, n.requests, n.failures, n.buckets \
     FROM jsonb_to_recordset($1::text::jsonb) \
        AS n (feature text, is_on boolean, requests bigint, failures bigint, buckets bigint[]) \
     JOIN fraiseql.rollouts r ON r.feature = n.feature AND r.status = 'running' \
     ON CONFLICT (feature, at, server, is_on) DO UPDATE SET requests = s.requests + excluded.requests, \
        failures = s.failures + excluded.failures, \
        buckets = (SELECT array_agg(b.one + b.other ORDER BY b.place) \
            FROM unnest(s.buckets, excluded.buckets) WITH ORDINALITY AS b (one, other, place))";

/// `$2` since when, `$3` for how many seconds at most.
const READ: &str = "SELECT s.is_on, sum(s.requests)::bigint, sum(s.failures)::bigint, \
        (SELECT array_agg(sums.total ORDER BY sums.place) FROM ( \
            SELECT b.place, sum(b.count)::bigint AS total FROM fraiseql.rollout_samples i, \
                unnest(i.buckets) WITH ORDINALITY AS b (count, place) \
            WHERE i.feature = $1 AND i.is_on = s.is_on AND i.at >= $2 AND i.at >= now() - make_interval(secs => $3) \
            GROUP BY b.place) sums) \
     FROM fraiseql.rollout_samples s \
     WHERE s.feature = $1 AND s.at >= $2 AND s.at >= now() - make_interval(secs => $3) GROUP BY s.is_on";

const PRUNE: &str = "DELETE FROM fraiseql.rollout_samples WHERE at < now() - interval '1 hour'";

/// Both sides of a flag for a while.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Samples {
    /// Requests with the flag off.
    pub off: Sample,
    /// Requests with the flag on.
    pub on: Sample,
}

impl Samples {
    /// How those do whom the flag is on for, beside those whom it is off for.
    pub fn with_the_flag(&self, plan: &Plan) -> Reading {
        // A control of a few requests says nothing.
        let control = (self.off.requests >= plan.samples_min).then(|| cohort(&self.off));
        Reading { cohort: cohort(&self.on), samples: Some(self.on.requests), control }
    }

    /// How the service does without the feature.
    pub fn without_the_flag(&self) -> Reading {
        Reading { cohort: cohort(&self.off), samples: Some(self.off.requests), control: None }
    }
}

fn cohort(sample: &Sample) -> Cohort {
    Cohort { error_rate: sample.error_rate(), p99_latency_ms: sample.p99_ms() }
}

/// What servers counted.
#[derive(Clone)]
pub struct SampleStore {
    postgres: Postgres,
    /// Whose rows are ours.
    server: Uuid,
}

impl SampleStore {
    /// Of this database, for this server.
    pub const fn new(postgres: Postgres, server: Uuid) -> Self {
        Self { postgres, server }
    }

    /// Adds what this server has counted.
    ///
    /// # Errors
    /// The database's own: it may have been added.
    pub async fn add(&self, sides: &[Side]) -> Result<(), postgres::Error> {
        let row = |side: &Side| {
            let Sample { requests, failures, buckets } = &side.sample;
            json!({"feature": side.flag, "is_on": side.on, "requests": requests, "failures": failures, "buckets": buckets})
        };
        let rows = serde_json::Value::from(sides.iter().map(row).collect::<Vec<_>>()).to_string();
        self.postgres.execute(sqlx::query(WRITE).bind(rows).bind(self.server)).await.map(drop)
    }

    /// What all servers counted since then, and not longer ago than the window.
    ///
    /// # Errors
    /// The database's own.
    pub async fn read(
        &self,
        feature: &str,
        since: DateTime<Utc>,
        window: Duration,
    ) -> Result<Samples, postgres::Error> {
        type Row = (bool, i64, i64, Vec<i64>);
        let statement =
            || sqlx::query_as::<_, Row>(READ).bind(feature.to_owned()).bind(since).bind(window.as_secs_f64());
        let mut samples = Samples::default();
        for (is_on, requests, failures, counts) in self.postgres.read(statement).await? {
            let count = |count: i64| u64::try_from(count).unwrap_or_default();
            let mut buckets: Vec<u64> = counts.into_iter().map(count).collect();
            buckets.resize(BUCKETS, 0);
            let sample = Sample { requests: count(requests), failures: count(failures), buckets };
            *(if is_on { &mut samples.on } else { &mut samples.off }) = sample;
        }
        Ok(samples)
    }

    /// Deletes what no gate looks at any more.
    ///
    /// # Errors
    /// The database's own.
    pub async fn prune(&self) -> Result<(), postgres::Error> {
        self.postgres.execute(sqlx::query(PRUNE)).await.map(drop)
    }
}

/// The served requests behind a flag, for a [`MigrationOrchestrator`](crate::migration::strategy::MigrationOrchestrator) of
/// one's own.
pub struct ServedRequests {
    /// Where they are counted.
    pub samples: SampleStore,
    /// Whose flag, and over which window.
    pub plan: Plan,
}

impl ServedRequests {
    async fn reading(&self) -> Result<Reading, MigrationError> {
        let samples = self.samples.read(&self.plan.flag, DateTime::UNIX_EPOCH, self.plan.window).await;
        let samples = samples.map_err(|error| MigrationError::Metrics(crate::error::chain(&error)))?;
        Ok(samples.with_the_flag(&self.plan))
    }
}

#[async_trait]
impl MetricsProvider for ServedRequests {
    async fn get_error_rate(&self) -> Result<f64, MigrationError> {
        Ok(self.reading().await?.cohort.error_rate)
    }

    async fn get_p99_latency(&self) -> Result<f64, MigrationError> {
        Ok(self.reading().await?.cohort.p99_latency_ms)
    }

    async fn get_sample_size(&self) -> Result<Option<u64>, MigrationError> {
        Ok(self.reading().await?.samples)
    }

    async fn get_control(&self) -> Result<Option<Cohort>, MigrationError> {
        Ok(self.reading().await?.control)
    }
}
