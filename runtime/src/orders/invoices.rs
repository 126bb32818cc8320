//! The effect of an invoice job: one `invoices` row for each job id.

use async_trait::async_trait;
use uuid::Uuid;

use crate::ids::JobId;
use crate::queue::worker::{Executor, Outcome};
use crate::queue::{self, Job, Task};
use crate::storage::postgres::Postgres;

/// Namespace of job ids that are made from idempotency keys. Changing it makes every key a new job.
const JOB_NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_3b1e_52d9_4c58_9a1d_7e0b_44c9_a2f1);

/// Writes the missing invoices and says of each job whether its order exists and its row was written now. A job id
/// that is there already is left alone, also when another worker inserts it at the same time.
const WRITE: &str = "
    WITH jobs AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS jobs (job_id, order_id, idempotency_key)
    ), written AS (
        INSERT INTO invoices (job_id, order_id, idempotency_key, amount)
        SELECT jobs.job_id, orders.id, jobs.idempotency_key, orders.total
        FROM jobs JOIN orders ON orders.id = jobs.order_id
        ORDER BY jobs.job_id
        ON CONFLICT DO NOTHING
        RETURNING job_id
    )
    SELECT jobs.job_id, orders.id IS NOT NULL, written.job_id IS NOT NULL
    FROM jobs
    LEFT JOIN orders ON orders.id = jobs.order_id
    LEFT JOIN written ON written.job_id = jobs.job_id";

/// The job that a key stands for; without a key each request is a job of its own.
pub(super) fn job_id(idempotency_key: Option<&str>) -> JobId {
    JobId(match idempotency_key {
        Some(key) => Uuid::new_v5(&JOB_NAMESPACE, key.as_bytes()),
        None => Uuid::now_v7(),
    })
}

/// Executes invoice jobs.
pub struct InvoiceExecutor {
    postgres: Postgres,
}

impl InvoiceExecutor {
    /// An executor over the database.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

#[async_trait]
impl Executor for InvoiceExecutor {
    async fn execute(&self, jobs: &[Job]) -> Result<Vec<Outcome>, queue::Error> {
        let (mut ids, mut orders, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for Job { id, task: Task::Invoice { order_id, idempotency_key } } in jobs {
            ids.push(id.0);
            orders.push(order_id.0);
            keys.push(idempotency_key.as_deref());
        }
        let write = sqlx::query_as::<_, (Uuid, bool, bool)>(WRITE).bind(ids).bind(orders).bind(keys);
        let rows = self.postgres.write(write).await.map_err(queue::Error::Effect)?;
        Ok(jobs.iter().map(|job| outcome(job, &rows)).collect())
    }
}

fn outcome(job: &Job, rows: &[(Uuid, bool, bool)]) -> Outcome {
    match rows.iter().find(|(id, _, _)| *id == job.id.0) {
        Some((_, true, true)) => Outcome::Done,
        Some((_, true, false)) => Outcome::Duplicate,
        // An order is never deleted: the job names one that this database never had.
        Some((_, false, _)) | None => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_always_the_same_job_and_no_key_never() {
        assert_eq!(job_id(Some("k")), job_id(Some("k")));
        assert_ne!(job_id(Some("k")), job_id(Some("l")));
        assert_ne!(job_id(None), job_id(None));
        assert_eq!(job_id(Some("k")).0.get_version_num(), 5);
        assert_eq!(job_id(None).0.get_version_num(), 7);
    }
}
