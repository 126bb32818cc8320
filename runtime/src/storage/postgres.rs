//! PostgreSQL: one statement at a time, each within its deadline, over a pool of our own.
//!
//! Promises: a connection goes back to the pool only after the server has answered its statement; one whose
//! statement timed out, failed on the wire or was dropped half-way is closed and its permit is free at once. A read
//! that lost its connection is tried once more on a fresh one, within the budget of retries, a write never: it may have been
//! done.
//! A statement is its own transaction; whoever needs more than one row changed says so in one statement.
//!
//! Behind a pooler that lends its connections to the server for a transaction at a time, every statement is a transaction
//! in so many words, and no statement stays prepared: sqlx prepares and runs in two messages, between which such a pooler
//! may change the connection. That costs two round trips more for each statement.
//!
//! Each call asks the database's breaker first, and again when it had to wait for a connection: while the database is away
//! nobody queues for it. The pool is its bulkhead.
//!
//! Why not sqlx's pool: it pings each connection when it is handed back, which costs a round trip a statement and,
//! with a silent peer, waits without a deadline and never gives the permit back (sqlx issue 4349).

mod error;
pub mod listen;
mod pool;

pub use error::{DatabaseExt, Error, Violation};
pub use pool::{Limits, PoolSize};

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow, Postgres as Db};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use pool::{Lease, Pool};

use crate::error::Classify;
use crate::observability::logging::millis;
use crate::observability::trace::{self, Attribute, Kind};
use crate::resilience::dependency::{Dependency, Refused};
use crate::resilience::retry::{Failed, Policy, Strategy};

/// A statement whose rows become `O`.
pub type Statement<'q, O> = QueryAs<'q, Db, O, PgArguments>;

/// For how long a connection has the same session of the database behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lending {
    /// For all its life: the database itself, or a pooler that lends sessions.
    #[default]
    Session,
    /// For one transaction: PgBouncer with `pool_mode = transaction`, and poolers like it.
    Transaction,
}

/// Handle on one database. Clones share the pool.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    query_timeout: Duration,
    lending: Lending,
    /// Begins a statement's transaction where connections are lent for one.
    begin: Arc<str>,
    dependency: Dependency,
    /// Statements that took longer are logged.
    slow: Option<Duration>,
}

/// A read that lost its connection is made once more, at once: there is nothing to wait for.
const READ_AGAIN: Policy =
    Policy { strategy: Strategy::Fixed(Duration::ZERO), longest: Duration::ZERO, attempts: 2 };

impl Postgres {
    /// A handle that connects when it is first used. `url` is a `postgres://` URL; the error does not repeat it.
    pub fn new(url: &str, limits: Limits, query_timeout: Duration) -> Result<Self, Error> {
        Self::lent(url, limits, query_timeout, Lending::Session)
    }

    /// As [`new`](Self::new), over what may stand between us and the database.
    pub fn lent(url: &str, limits: Limits, query_timeout: Duration, lending: Lending) -> Result<Self, Error> {
        let options: PgConnectOptions = url.parse().map_err(Error::Url)?;
        let options = options.application_name("fraiseql-server");
        // The server gives up shortly after we did: an abandoned statement does not hold its locks for long.
        let statement_timeout = (query_timeout + Duration::from_millis(250)).as_millis();
        let options = match lending {
            Lending::Session => with_server_side_limits(options, statement_timeout),
            // A pooler refuses settings at the start of a connection that it does not know.
            Lending::Transaction => options.statement_cache_capacity(0).extra_float_digits(None),
        };
        // One message, so that the limit costs no round trip of its own.
        let begin = format!("BEGIN; SET LOCAL statement_timeout = {statement_timeout}").into();
        let dependency = Dependency::unlimited("postgres");
        Ok(Self { pool: Pool::new(options, limits), query_timeout, lending, begin, slow: None, dependency })
    }

    /// The same pool, asked through the dependency's breaker.
    #[must_use]
    pub fn with_dependency(self, dependency: Dependency) -> Self {
        Self { dependency, ..self }
    }

    /// Logs each statement that takes longer, its text without its values. The wait for a connection counts.
    #[must_use]
    pub fn logging_slower_than(mut self, limit: Duration) -> Self {
        self.slow = Some(limit);
        self
    }

    /// Runs a statement that changes nothing. `make` is called again for the one retry that a lost connection gets.
    pub async fn read<'q, O>(
        &self,
        make: impl Fn() -> Statement<'q, O> + Send + Sync,
    ) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> FromRow<'r, PgRow> + 'q,
    {
        self.watched(None, self.reading(true, |lease| self.fetch(lease, make()))).await
    }

    /// The statement as a span, and as a line in the log when it is slow.
    async fn watched<T>(
        &self,
        sql: Option<&Arc<str>>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let span = trace::span("db.query", Kind::Client, || {
            let mut attributes: Vec<Attribute> = vec![("db.system.name", "postgresql".into())];
            attributes.extend(sql.map(|sql| ("db.query.text", sql.clone().into())));
            attributes
        });
        let started = Instant::now();
        let result = work.await;
        if let Err(error) = &result
            && error.violation().is_none()
        {
            span.fail(error.kind().label());
        }
        if let Some(limit) = self.slow {
            let took = started.elapsed();
            if took >= limit {
                let statement = sql.map_or("", |sql| sql);
                let duration_ms = millis(took);
                tracing::warn!(duration_ms, statement, failed = result.is_err(), "slow query");
            }
        }
        result
    }

    /// Runs a statement that may change something; an error other than a constraint violation means that it may
    /// have been done.
    pub async fn write<'q, O>(&self, statement: Statement<'q, O>) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> FromRow<'r, PgRow> + 'q,
    {
        self.watched(None, self.once(true, |lease| self.fetch(lease, statement))).await
    }

    /// Like [`write`](Self::write) for a statement without rows; answers how many rows it changed.
    pub async fn execute(&self, statement: Query<'_, Db, PgArguments>) -> Result<u64, Error> {
        let run = async |mut lease: Lease| {
            let work = async {
                let connection = lease.connection();
                self.begin(connection).await?;
                let result = statement.persistent(self.prepares()).execute(&mut *connection).await;
                self.end(connection, result).await
            };
            let result = tokio::time::timeout(self.query_timeout, work).await;
            settle(lease, result).map(|done| done.rows_affected())
        };
        self.watched(None, self.once(true, run)).await
    }

    /// Runs what changes nothing, once more where it lost its connection and the budget allows it.
    async fn reading<T, F>(&self, retried: bool, run: impl Fn(Lease) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.dependency.begin();
        match self.once(true, &run).await {
            Err(error) if retried && error.lost_connection() => {
                let failed = Failed {
                    kind: error.kind(),
                    attempt: 0,
                    idempotent: true,
                    retry_after: None,
                    left: self.query_timeout,
                };
                if self.dependency.again_by(&READ_AGAIN, &failed).is_none() {
                    return Err(error);
                }
                tracing::debug!(error = %crate::error::chain(&error), "read lost its connection, trying a fresh one");
                self.once(false, run).await
            }
            result => result,
        }
    }

    /// Runs it on a connection, if the database is asked now.
    async fn once<T, F>(&self, idle_will_do: bool, run: impl FnOnce(Lease) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let entered = self.dependency.enter()?;
        let breaker = self.dependency.breaker();
        let still = || if breaker.is_open() { Err(Refused::Open(breaker.refuse()).into()) } else { Ok(()) };
        let (result, fresh) = match self.pool.lease(idle_will_do, still).await {
            Ok(lease) => {
                let fresh = lease.fresh;
                (run(lease).await, fresh)
            }
            Err(error) => (Err(error), false),
        };
        entered.ends(error::outcome(&result, fresh));
        result
    }

    async fn fetch<'q, O>(&self, mut lease: Lease, statement: Statement<'q, O>) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> FromRow<'r, PgRow> + 'q,
    {
        let work = async {
            let connection = lease.connection();
            self.begin(connection).await?;
            let result = statement.persistent(self.prepares()).fetch_all(&mut *connection).await;
            self.end(connection, result).await
        };
        let result = tokio::time::timeout(self.query_timeout, work).await;
        settle(lease, result)
    }

    /// Rows of a statement whose text was made at run time, as they came over the wire. `reading`: it changes nothing
    /// and gets the one retry that a lost connection allows. `bind` makes the arguments, again for a retry.
    pub async fn rows(
        &self,
        sql: &Arc<str>,
        reading: bool,
        bind: &(dyn Fn() -> Result<PgArguments, sqlx::Error> + Send + Sync),
    ) -> Result<Vec<PgRow>, Error> {
        self.watched(Some(sql), self.reading(reading, |lease| self.fetch_rows(lease, sql, bind))).await
    }

    async fn fetch_rows(
        &self,
        mut lease: Lease,
        sql: &Arc<str>,
        bind: &(dyn Fn() -> Result<PgArguments, sqlx::Error> + Send + Sync),
    ) -> Result<Vec<PgRow>, Error> {
        let statement = || {
            let query = sqlx::query_with::<Db, _>(AssertSqlSafe(sql.clone()), bind()?);
            Ok::<_, sqlx::Error>(query.persistent(self.prepares()))
        };
        let work = async {
            let connection = lease.connection();
            let statement_now = statement()?;
            self.begin(connection).await?;
            let result = match statement_now.fetch_all(&mut *connection).await {
                // The tables have changed since the statement was prepared: it was refused and not run.
                Err(error) if self.prepares() && Error::is_stale(&error) => {
                    connection.clear_cached_statements().await?;
                    statement()?.fetch_all(&mut *connection).await
                }
                result => result,
            };
            self.end(connection, result).await
        };
        let result = tokio::time::timeout(self.query_timeout, work).await;
        settle(lease, result)
    }

    /// Whether statements stay prepared.
    fn prepares(&self) -> bool {
        self.lending == Lending::Session
    }

    /// Begins the transaction that the statement is, where that has to be said.
    async fn begin(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.lending == Lending::Transaction {
            connection.execute(sqlx::raw_sql(AssertSqlSafe(self.begin.clone()))).await?;
        }
        Ok(())
    }

    /// Ends it. What the database refused was not done, and the connection can be used again.
    async fn end<T>(
        &self,
        connection: &mut PgConnection,
        result: Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        if self.lending == Lending::Transaction {
            let word = match &result {
                Ok(_) => "COMMIT",
                Err(sqlx::Error::Database(_)) => "ROLLBACK",
                Err(_) => return result,
            };
            connection.execute(sqlx::raw_sql(word)).await?;
        }
        result
    }

    /// Whether the database answers, by the same path as any statement but past the breaker.
    pub async fn ping(&self) -> Result<(), Error> {
        let probe = self.dependency.breaker().probe();
        let mut fresh = false;
        let mut result = Err(Error::Exhausted);
        for idle_will_do in [true, false] {
            result = match self.pool.lease(idle_will_do, || Ok(())).await {
                Ok(lease) => {
                    fresh = lease.fresh;
                    self.fetch(lease, sqlx::query_as::<_, (i32,)>("SELECT 1")).await.map(drop)
                }
                Err(error) => Err(error),
            };
            if fresh || !result.as_ref().is_err_and(Error::lost_connection) {
                break;
            }
        }
        if let Some(probe) = probe {
            probe.ends(error::outcome(&result, fresh));
        }
        result
    }

    /// How many connections there are now.
    pub fn size(&self) -> PoolSize {
        self.pool.size()
    }

    /// Keeps the minimum of connections open, replaces dead and old ones. Runs until `cancel`.
    pub async fn maintain(&self, cancel: CancellationToken) {
        self.pool.maintain(cancel).await;
    }
}

/// One connection outside any pool, without settings of ours, so that any pooler takes it: for the migrator, which sets
/// its own limits for each migration, and for whoever reads what the database has.
pub async fn connect_alone(url: &str, connect_timeout: Duration) -> Result<PgConnection, Error> {
    let options: PgConnectOptions = url.parse().map_err(Error::Url)?;
    let options = options.extra_float_digits(None);
    match tokio::time::timeout(connect_timeout, PgConnection::connect_with(&options)).await {
        Ok(connected) => connected.map_err(Error::Connect),
        Err(_) => Err(Error::ConnectTimeout),
    }
}

/// Gives the connection back when the server has answered, else lets the lease close it.
fn settle<T>(
    lease: Lease,
    result: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
) -> Result<T, Error> {
    match result {
        Ok(Ok(value)) => {
            lease.give_back();
            Ok(value)
        }
        Ok(Err(error)) => {
            let error = Error::Statement(error);
            if error.server_answered() {
                lease.give_back();
            } else {
                lease.discard_broken();
            }
            Err(error)
        }
        Err(_) => {
            lease.discard_silent();
            Err(Error::StatementTimeout)
        }
    }
}

/// What the database itself does about statements and sessions that were abandoned. `statement_timeout` in milliseconds.
fn with_server_side_limits(options: PgConnectOptions, statement_timeout: u128) -> PgConnectOptions {
    options.statement_cache_capacity(256).options([
        ("statement_timeout", statement_timeout.to_string()),
        // A statement whose caller has left ends, instead of holding its locks until its timeout.
        ("client_connection_check_interval", "500".to_owned()),
        ("idle_in_transaction_session_timeout", "10000".to_owned()),
        ("tcp_keepalives_idle", "15".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
    ])
}
