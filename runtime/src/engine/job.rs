//! Jobs of a schema: queued by a mutation, done later by a function of the database.
//!
//! Promises: a key stands for one job, so that however often it is used its effect happens once; a job that a check refuses
//! is not queued. The function is called with `job_id` and the arguments and says true (done now), false (was done
//! before) or null (cannot be done now).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_graphql::Variables;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::Arguments as _;
use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::Inner;
use super::error::{Failure, of_database};
use super::loader::Served;
use super::plan::Job as Planned;
use super::schema::model::{FieldKind, Schema, qualified, quoted};
use crate::error::{Classify, ErrorKind, chain};
use crate::ids::JobId;
use crate::queue::worker::{Executor, Outcome};
use crate::queue::{self, Job, Queue, Task};
use crate::storage::postgres::{self, Postgres};
use crate::storage::spool;

/// Namespace of job ids that are made from idempotency keys. Changing it makes every key a new job.
const JOB_NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_3b1e_52d9_4c58_9a1d_7e0b_44c9_a2f1);

/// How often a key that another call uses at the same time is looked at.
const KEY_ATTEMPTS: usize = 3;

/// The job that a key stands for; without a key each request is a job of its own.
fn job_id(idempotency_key: Option<&str>) -> JobId {
    JobId(match idempotency_key {
        Some(key) => Uuid::new_v5(&JOB_NAMESPACE, key.as_bytes()),
        None => Uuid::now_v7(),
    })
}

impl Inner {
    /// Binds the key, asks the check, queues the job.
    pub(super) async fn enqueue(
        &self,
        queue: &Queue,
        job: &Planned,
        key: Option<String>,
        variables: &Variables,
    ) -> Result<JobId, Failure> {
        let mut args = BTreeMap::new();
        for (name, _, source) in &job.args {
            let text = match source.read(variables) {
                async_graphql::Value::Null => None,
                async_graphql::Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
            args.insert(name.clone(), text);
        }
        self.admit(job, key.as_deref(), &args).await?;
        let id = job_id(key.as_deref());
        let task = Task::Call { function: job.function.clone(), args, idempotency_key: key };
        match queue.enqueue(&Job { id, task, traceparent: None }).await {
            Ok(_) => Ok(id),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a job could not be queued");
                let what = match &error {
                    queue::Error::NotTaken(spool::Error::Full) => "the queue is full now",
                    _ => "not available now",
                };
                Err(Failure::of_kind(error.kind(), format!("{what}; it may have been done")))
            }
        }
    }

    async fn admit(
        &self,
        job: &Planned,
        key: Option<&str>,
        args: &BTreeMap<String, Option<String>>,
    ) -> Result<(), Failure> {
        if job.check.is_none() && key.is_none() {
            return Ok(());
        }
        let sql = admission(job, key.is_some());
        let hash = Sha256::digest(serde_json::to_vec(args).expect("texts are plain data")).to_vec();
        let bind = || {
            let mut arguments = PgArguments::default();
            for (name, ..) in &job.args {
                arguments.add(args.get(name).cloned().flatten()).map_err(sqlx::Error::Encode)?;
            }
            if let Some(key) = key {
                arguments.add(key).map_err(sqlx::Error::Encode)?;
                arguments.add(&*job.operation).map_err(sqlx::Error::Encode)?;
                arguments.add(hash.as_slice()).map_err(sqlx::Error::Encode)?;
            }
            Ok(arguments)
        };
        for _ in 0..KEY_ATTEMPTS {
            let rows = self.postgres.rows(&sql, false, &bind).await;
            let rows = rows.map_err(|error| of_database(&self.schema, &error, false))?;
            if key.is_none() {
                return Ok(());
            }
            let row = rows.first();
            let fresh: bool = row.and_then(|row| row.try_get(0).ok()).unwrap_or_default();
            let same: Option<bool> = row.and_then(|row| row.try_get(1).ok()).flatten();
            match (fresh, same) {
                (true, _) | (false, Some(true)) => return Ok(()),
                (false, Some(false)) => {
                    let message = "the idempotency key was used before with another input";
                    return Err(Failure::of_kind(ErrorKind::IdempotencyConflict, message));
                }
                // Another call has the key since this statement began; the next one sees it.
                (false, None) => {}
            }
        }
        Err(Failure::of_kind(ErrorKind::Unavailable, "not available now"))
    }
}

/// Calls the check and keeps the key, in one statement.
fn admission(job: &Planned, keyed: bool) -> Arc<str> {
    let call = job.args.iter().enumerate();
    let call = call.map(|(at, (name, ty, _))| format!("{} => ${}::text::{ty}", quoted(name), at + 1));
    let call = call.collect::<Vec<_>>().join(", ");
    let checked = match &job.check {
        Some(check) => format!("SELECT {}({call})", qualified("", check)),
        None => {
            let typed = (1..=job.args.len()).map(|at| format!("${at}::text")).collect::<Vec<_>>();
            format!("SELECT {}", if typed.is_empty() { "true".to_owned() } else { typed.join(", ") })
        }
    };
    if !keyed {
        return Arc::from(checked);
    }
    let (key, operation, hash) = (job.args.len() + 1, job.args.len() + 2, job.args.len() + 3);
    Arc::from(format!(
        "WITH checked AS MATERIALIZED ({checked}), kept AS (\
             INSERT INTO idempotency_keys (key, operation, input_hash, answer) \
             SELECT ${key}::text, ${operation}::text, ${hash}::bytea, '{{}}'::jsonb FROM checked \
             ON CONFLICT DO NOTHING RETURNING key) \
         SELECT EXISTS (SELECT FROM kept), \
             (SELECT operation = ${operation}::text AND input_hash = ${hash}::bytea \
              FROM idempotency_keys WHERE key = ${key}::text)"
    ))
}

/// Does jobs by calling their functions, those of the schema that is served when they are done.
pub struct FunctionExecutor {
    /// Where the functions are.
    pub postgres: Postgres,
    /// Which there are.
    pub served: Served,
}

/// Parameters of the function with their types.
fn parameters(schema: &Schema, name: &str) -> Option<Vec<(String, String)>> {
    schema.mutation.values().find_map(|field| match &field.kind {
        FieldKind::Job { function, .. } if function.name == name => {
            let parameters = function.args.iter();
            Some(parameters.map(|(_, p)| (p.name.clone(), p.column.sql_type.clone())).collect())
        }
        _ => None,
    })
}

impl FunctionExecutor {
    /// Calls a function for a batch in one statement, each job with its own result.
    async fn call(
        &self,
        function: &str,
        parameters: &[(String, String)],
        jobs: &[&Job],
    ) -> Result<Vec<Outcome>, postgres::Error> {
        let args = parameters.iter().map(|(name, ty)| {
            format!(", {} => (jobs.args ->> '{}')::{ty}", quoted(name), name.replace('\'', "''"))
        });
        let sql: Arc<str> = Arc::from(format!(
            "SELECT jobs.at, {}(job_id => jobs.id{}, idempotency_key => jobs.key) \
             FROM unnest($1::uuid[], $2::text[]::jsonb[], $3::text[]) WITH ORDINALITY AS jobs (id, args, key, at)",
            qualified("", function),
            args.collect::<String>()
        ));
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.0).collect();
        let (documents, keys): (Vec<String>, Vec<Option<String>>) =
            jobs.iter().map(|job| document(job)).unzip();
        let bind = || {
            let mut arguments = PgArguments::default();
            arguments.add(ids.as_slice()).map_err(sqlx::Error::Encode)?;
            arguments.add(documents.as_slice()).map_err(sqlx::Error::Encode)?;
            arguments.add(keys.as_slice()).map_err(sqlx::Error::Encode)?;
            Ok(arguments)
        };
        let rows = self.postgres.rows(&sql, false, &bind).await?;
        let mut outcomes = vec![Outcome::Failed; jobs.len()];
        for row in rows {
            let at: i64 = row.try_get(0).unwrap_or_default();
            let done: Option<bool> = row.try_get(1).ok().flatten();
            if let Some(outcome) = usize::try_from(at - 1).ok().and_then(|at| outcomes.get_mut(at)) {
                *outcome = match done {
                    Some(true) => Outcome::Done,
                    Some(false) => Outcome::Duplicate,
                    None => Outcome::Failed,
                };
            }
        }
        Ok(outcomes)
    }

    /// A batch; one by one when one of them fails it, so that it does not take the others with it.
    async fn batch(&self, function: &str, jobs: &[&Job]) -> Result<Vec<Outcome>, queue::Error> {
        let engine = self.served.current();
        let Some(parameters) = engine.and_then(|engine| parameters(engine.schema(), function)) else {
            tracing::error!(
                function,
                jobs = jobs.len(),
                "the schema that is served has no job of this function"
            );
            return Ok(vec![Outcome::Failed; jobs.len()]);
        };
        match self.call(function, &parameters, jobs).await {
            Ok(outcomes) => Ok(outcomes),
            Err(error) if error.kind() != ErrorKind::Internal || jobs.len() == 1 => {
                Err(queue::Error::Effect(error))
            }
            Err(_) => {
                let mut outcomes = Vec::with_capacity(jobs.len());
                for job in jobs {
                    let one = self.call(function, &parameters, std::slice::from_ref(job)).await;
                    outcomes.push(one.ok().and_then(|one| one.first().copied()).unwrap_or(Outcome::Failed));
                }
                Ok(outcomes)
            }
        }
    }
}

/// The function that does a job.
fn function_of(job: &Job) -> &str {
    match &job.task {
        Task::Invoice { .. } => "write_invoice",
        Task::Call { function, .. } => function,
    }
}

/// A job's arguments as JSON, and its key.
fn document(job: &Job) -> (String, Option<String>) {
    match &job.task {
        Task::Invoice { order_id, idempotency_key } => {
            (serde_json::json!({ "order_id": order_id }).to_string(), idempotency_key.clone())
        }
        Task::Call { args, idempotency_key, .. } => {
            (serde_json::to_string(args).expect("texts are plain data"), idempotency_key.clone())
        }
    }
}

#[async_trait]
impl Executor for FunctionExecutor {
    async fn execute(&self, jobs: &[Job]) -> Result<Vec<Outcome>, queue::Error> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, job) in jobs.iter().enumerate() {
            groups.entry(function_of(job)).or_default().push(at);
        }
        let mut outcomes = vec![Outcome::Failed; jobs.len()];
        for (function, places) in groups {
            let batch: Vec<&Job> = places.iter().map(|at| &jobs[*at]).collect();
            for (at, outcome) in places.iter().zip(self.batch(function, &batch).await?) {
                outcomes[*at] = outcome;
            }
        }
        Ok(outcomes)
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
