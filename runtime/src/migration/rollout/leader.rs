//! Who takes the steps: the server that has a lock of the database, over a session that does nothing else.
//!
//! Promises: the lock goes with the session, so a leader that dies is followed by another; one that lives and has lost its
//! session stops at the next look, and what it writes before is refused by the token of the next leader. Without a way past
//! a pooler, which has no session that lasts, a server never leads.

use std::collections::HashMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::Cause;
use super::store::Stored;
use super::{Error, Rollouts, Status};
use crate::error::ErrorKind;
use crate::resilience::backoff::Backoff;
use crate::storage::postgres;

/// Between two looks at the rollouts, when nobody says that one was changed.
const PERIOD: Duration = Duration::from_secs(1);
/// Connecting, and each question whether the session lives.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// Samples are deleted so often.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Changes of one rollout in one look.
const CHANGES_MAX: u32 = 8;

/// The lock, one for each database: "fraiseql rollouts" as a number.
const LOCK: i64 = 0x66_72_61_69_73_65_72_6f;

/// The server's own name among leaders, for people.
fn holder() -> String {
    format!(
        "{} ({})",
        nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        std::process::id()
    )
}

/// A term as the leader.
pub struct Term {
    session: PgConnection,
    /// Shown with each write.
    pub token: i64,
    looked: HashMap<String, (i64, Instant)>,
    pruned: Instant,
}

impl Rollouts {
    /// Hands on what this server counts and shows the rollouts in its metrics. Runs until `cancel`.
    pub async fn report(&self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = async { self.hand_on().await; self.show().await } => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Leads whenever nobody else does. Runs until `cancel`; `url` leads past any pooler.
    pub async fn lead(&self, url: &str, cancel: CancellationToken) {
        let mut rng = StdRng::from_os_rng();
        let mut failed = 0;
        loop {
            let term = async {
                let mut term = self.campaign(url).await?;
                failed = 0;
                tracing::info!(token = term.token, "this server takes the steps of rollouts");
                loop {
                    term.look(self).await?;
                    tokio::select! {
                        () = self.asked.notified() => {}
                        () = tokio::time::sleep(PERIOD) => {}
                    }
                }
            };
            let ended: Result<std::convert::Infallible, Error> = tokio::select! {
                () = cancel.cancelled() => break,
                ended = term => ended,
            };
            let Err(error) = ended;
            if self.metrics.leads(false) {
                tracing::warn!(%error, "this server takes the steps of rollouts no more");
            } else {
                tracing::debug!(%error, "this server cannot take the steps of rollouts for now");
            }
            failed += 1;
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(BACKOFF.delay(failed, &mut rng)) => {}
            }
        }
        self.metrics.leads(false);
    }

    /// Waits until this server leads.
    ///
    /// # Errors
    /// When the session is lost meanwhile.
    pub async fn campaign(&self, url: &str) -> Result<Term, Error> {
        let mut session = postgres::connect_alone(url, ANSWER_TIMEOUT).await?;
        // A leader whose machine is gone loses its lock when the database has found out.
        let settings = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
                        SET application_name = 'fraiseql-server rollouts'";
        within(async { (&mut session).execute(sqlx::raw_sql(settings)).await.map(drop) }).await?;
        loop {
            let asked = sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock($1)").bind(LOCK);
            if within(asked.fetch_one(&mut session)).await? {
                break;
            }
            tokio::time::sleep(PERIOD).await;
        }
        let next = "UPDATE fraiseql.rollout_leader SET token = token + 1, holder = $1, since = now() RETURNING token";
        let token = within(sqlx::query_scalar::<_, i64>(next).bind(holder()).fetch_one(&mut session)).await?;
        self.metrics.leads(true);
        Ok(Term { session, token, looked: HashMap::new(), pruned: Instant::now() })
    }
}

impl Term {
    /// Looks at each rollout whose time it is.
    ///
    /// # Errors
    /// When this server leads no more, or cannot know.
    pub async fn look(&mut self, rollouts: &Rollouts) -> Result<(), Error> {
        within(self.session.ping()).await?;
        // What this server has counted is a part of what it looks at.
        rollouts.hand_on().await;
        let all = rollouts.store.all().await?;
        self.looked.retain(|feature, _| all.iter().any(|stored| stored.rollout.plan.flag == *feature));
        for stored in all {
            if stored.rollout.status == Status::Running && self.is_due(&stored) {
                self.take_steps(rollouts, stored).await?;
            }
        }
        if self.pruned.elapsed() >= PRUNE_EVERY {
            self.pruned = Instant::now();
            rollouts.samples.prune().await?;
        }
        Ok(())
    }

    /// A rollout that was changed is looked at at once, else as often as its plan says.
    fn is_due(&mut self, stored: &Stored) -> bool {
        let feature = &stored.rollout.plan.flag;
        let looked = self.looked.get(feature).is_some_and(|(version, at)| {
            *version == stored.version && at.elapsed() < stored.rollout.plan.poll_interval
        });
        if !looked {
            self.looked.insert(feature.clone(), (stored.version, Instant::now()));
        }
        !looked
    }

    async fn take_steps(&mut self, rollouts: &Rollouts, mut stored: Stored) -> Result<(), Error> {
        for _ in 0..CHANGES_MAX {
            let seen = rollouts.seen(&stored.rollout).await?;
            let Some(change) = stored.rollout.look(&seen, stored.now) else { return Ok(()) };
            let changed = rollouts.store.change(stored.version, &change, Some(self.token), "leader").await?;
            let Some(changed) = changed else { return self.still_leads(rollouts).await };
            if changed.rollout.status == Status::RolledBack {
                rollouts.metrics.rolled_back(Cause::gate);
            }
            stored = changed;
            let known = (stored.version, Instant::now());
            self.looked.insert(stored.rollout.plan.flag.clone(), known);
        }
        Ok(())
    }

    /// A write was refused: somebody else has changed the rollout, or leads.
    async fn still_leads(&self, rollouts: &Rollouts) -> Result<(), Error> {
        let leader = rollouts.store.leader().await?;
        if leader.token == self.token {
            return Ok(());
        }
        Err(Error::of_kind(
            ErrorKind::Unavailable,
            format!("{} leads now, with token {}", leader.holder, leader.token),
        ))
    }
}

async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, postgres::Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
        Ok(result) => result.map_err(postgres::Error::Statement),
        Err(_) => Err(postgres::Error::StatementTimeout),
    }
}
