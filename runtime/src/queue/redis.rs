//! The queue in Redis: each step is one script, so it happens wholly or not at all.
//!
//! `pending` lists job ids, `payloads` maps them to jobs, `claimed` orders running ones by the time when their claim
//! ends (by Redis' clock), `attempts` counts claims, `dead` keeps what was given up. All keys share a hash tag, so
//! that they live on one node of a cluster.

use std::sync::Arc;
use std::time::Duration;

use redis::{Script, Value};

use super::{Error, Job};
use crate::ids::JobId;
use crate::storage::redis::{self as store, Redis};

const PENDING: &str = "{fraiseql:jobs}:pending";
const PAYLOADS: &str = "{fraiseql:jobs}:payloads";
const CLAIMED: &str = "{fraiseql:jobs}:claimed";
const ATTEMPTS: &str = "{fraiseql:jobs}:attempts";
const DEAD: &str = "{fraiseql:jobs}:dead";

/// The scripts over one Redis. Clones share it.
#[derive(Clone)]
pub struct RedisQueue {
    redis: Redis,
    scripts: Arc<Scripts>,
    visibility_timeout: Duration,
    max_attempts: u32,
}

struct Scripts {
    enqueue: Script,
    claim: Script,
    ack: Script,
    retry: Script,
}

/// A job that is claimed for the visibility timeout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its id in the queue.
    pub id: JobId,
    /// The job, or why it cannot be read.
    pub job: Result<Job, String>,
    /// How often it was claimed, this time included.
    pub attempt: u32,
}

/// What a round of claiming brought.
#[derive(Debug, Default)]
pub struct Claims {
    /// Jobs to execute now.
    pub claims: Vec<Claim>,
    /// Jobs that were given up in this round.
    pub dead: u64,
}

/// How much the queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Waiting or claimed.
    pub jobs: i64,
    /// Given up.
    pub dead: i64,
}

impl RedisQueue {
    /// A queue whose claims last for `visibility_timeout` and whose jobs get `max_attempts` claims.
    pub fn new(redis: Redis, visibility_timeout: Duration, max_attempts: u32) -> Self {
        let scripts = Arc::new(Scripts {
            enqueue: Script::new(include_str!("enqueue.lua")),
            claim: Script::new(include_str!("claim.lua")),
            ack: Script::new(include_str!("ack.lua")),
            retry: Script::new(include_str!("retry.lua")),
        });
        Self { redis, scripts, visibility_timeout, max_attempts }
    }

    /// Adds the job unless the queue holds it already.
    pub async fn enqueue(&self, job: &Job) -> Result<(), store::Error> {
        let payload = serde_json::to_string(job).expect("a job is plain data");
        let mut call = self.scripts.enqueue.prepare_invoke();
        call.key(PENDING).key(PAYLOADS).arg(job.id.to_string()).arg(payload);
        self.redis.invoke::<i64>(&call).await.map(drop)
    }

    /// Claims up to `wanted` jobs; expired claims count as waiting again.
    pub async fn claim(&self, wanted: usize) -> Result<Claims, Error> {
        let mut call = self.scripts.claim.prepare_invoke();
        call.key(PENDING).key(PAYLOADS).key(CLAIMED).key(ATTEMPTS).key(DEAD);
        call.arg(millis(self.visibility_timeout)).arg(wanted).arg(self.max_attempts);
        let answer: Vec<Value> = self.redis.invoke(&call).await.map_err(Error::Redis)?;
        read_claims(&answer).ok_or(Error::Protocol)
    }

    /// Forgets jobs whose effect has happened.
    pub async fn ack(&self, ids: &[JobId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut call = self.scripts.ack.prepare_invoke();
        call.key(PAYLOADS).key(CLAIMED).key(ATTEMPTS);
        for id in ids {
            call.arg(id.to_string());
        }
        self.redis.invoke::<i64>(&call).await.map(drop).map_err(Error::Redis)
    }

    /// Lets claims end after `delay`, so that their jobs are tried again then.
    pub async fn retry(&self, ids: &[JobId], delay: Duration) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut call = self.scripts.retry.prepare_invoke();
        call.key(CLAIMED).arg(millis(delay));
        for id in ids {
            call.arg(id.to_string());
        }
        self.redis.invoke::<i64>(&call).await.map(drop).map_err(Error::Redis)
    }

    /// Keeps a record that no version of ours can read among the dead letters.
    pub async fn bury(&self, record: &[u8]) -> Result<(), store::Error> {
        let mut command = redis::cmd("RPUSH");
        command.arg(DEAD).arg(record);
        self.redis.query::<i64>(&command).await.map(drop)
    }

    /// How much the queue holds now.
    pub async fn depth(&self) -> Result<Depth, Error> {
        let mut payloads = redis::cmd("HLEN");
        payloads.arg(PAYLOADS);
        let mut dead = redis::cmd("LLEN");
        dead.arg(DEAD);
        let (jobs, dead) =
            tokio::try_join!(self.redis.query(&payloads), self.redis.query(&dead)).map_err(Error::Redis)?;
        Ok(Depth { jobs, dead })
    }
}

fn read_claims(answer: &[Value]) -> Option<Claims> {
    let (dead, jobs) = answer.split_first()?;
    let mut claims = Vec::with_capacity(jobs.len() / 3);
    for job in jobs.chunks(3) {
        let [id, payload, attempt] = job else { return None };
        let id = text(id)?.parse().ok()?;
        let job = serde_json::from_str(text(payload)?).map_err(|error| error.to_string());
        claims.push(Claim { id, job, attempt: number(attempt)?.try_into().ok()? });
    }
    Some(Claims { claims, dead: number(dead)?.try_into().ok()? })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_unreadable_job_is_a_claim_with_its_reason_and_not_a_lost_batch() {
        let id = Uuid::from_u128(5).to_string();
        let answer = [
            Value::Int(1),
            Value::BulkString(id.clone().into_bytes()),
            Value::BulkString(b"{\"id\":1}".to_vec()),
            Value::Int(3),
        ];
        let claims = read_claims(&answer).expect("an answer of the script");
        assert_eq!(claims.dead, 1);
        assert_eq!((claims.claims[0].id.to_string(), claims.claims[0].attempt), (id, 3));
        assert!(claims.claims[0].job.is_err());
    }

    #[test]
    fn every_key_is_on_one_node_of_a_cluster() {
        for key in [PENDING, PAYLOADS, CLAIMED, ATTEMPTS, DEAD] {
            assert!(key.starts_with("{fraiseql:jobs}:"), "{key}");
        }
    }

    #[test]
    fn an_answer_of_the_wrong_shape_is_refused() {
        assert!(read_claims(&[]).is_none());
        assert!(read_claims(&[Value::Int(0), Value::Int(1)]).is_none());
    }
}
