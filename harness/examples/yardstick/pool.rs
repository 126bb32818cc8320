//! Connections without pings: a permit, a stack of idle ones, and one rule. A connection comes back only after its
//! statement was answered; otherwise it is closed, and the next caller opens another.

use parking_lot::Mutex;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Longest that PostgreSQL works on a statement, in milliseconds.
const STATEMENT_TIMEOUT_MS: &str = "2000";

pub struct Pool {
    options: PgConnectOptions,
    permits: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection in use.
pub struct Lease<'a> {
    pool: &'a Pool,
    connection: PgConnection,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    /// At most `connections` at a time, opened when they are first needed.
    pub fn new(url: &str, connections: usize) -> Result<Pool, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.options([("statement_timeout", STATEMENT_TIMEOUT_MS)]);
        Ok(Pool { options, permits: Semaphore::new(connections), idle: Mutex::default() })
    }

    /// The most recently used connection that is idle, else a new one.
    pub async fn acquire(&self) -> Result<Lease<'_>, sqlx::Error> {
        let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => PgConnection::connect_with(&self.options).await?,
        };
        Ok(Lease { pool: self, connection, _permit: permit })
    }
}

impl Lease<'_> {
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Says that the server has answered.
    pub fn give_back(self) {
        self.pool.idle.lock().push(self.connection);
    }
}
