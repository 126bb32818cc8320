//! The pool: permits for connections in use, a stack of idle ones, and a task that keeps both honest.
//!
//! Invariants: connections in use hold a permit each, so there are never more than `max_connections` of them; a
//! connection is opened only when no idle one is left; a lease that is dropped without a verdict closes its
//! connection. A connection lost on the wire makes every idle one suspect: they are closed, not handed out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Error;

/// How often the pool looks after itself.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(1);
/// An idle connection is asked whether it lives when it was not used for this long.
const PING_AFTER: Duration = Duration::from_secs(30);
/// An idle connection that does not answer a ping within this time is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Bounds of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections kept open while idle.
    pub min_connections: u32,
    /// Connections in use at most.
    pub max_connections: u32,
    /// Deadline of a new connection.
    pub connect_timeout: Duration,
    /// Deadline of a caller that waits for a connection, a new one included.
    pub acquire_timeout: Duration,
    /// Idle connections above the minimum are closed after this time.
    pub idle_timeout: Duration,
    /// Connections older than this are closed when they are next idle.
    pub max_lifetime: Duration,
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Open and waiting for work.
    pub idle: usize,
    /// In use, or being opened for a caller.
    pub active: usize,
}

#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: PgConnectOptions,
    limits: Limits,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    attention: Notify,
}

struct Idle {
    connection: PgConnection,
    opened: Instant,
    since: Instant,
}

/// A connection in use.
pub(super) struct Lease {
    connection: Option<PgConnection>,
    opened: Instant,
    /// Whether it was opened for this lease.
    pub(super) fresh: bool,
    shared: Arc<Shared>,
    // Last field: freed after the connection is back or closed.
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.max_connections as usize));
        let (idle, attention) = (Mutex::new(Vec::new()), Notify::new());
        Self { shared: Arc::new(Shared { options, limits, permits, idle, attention }) }
    }

    /// A connection: the most recently used idle one first where one will do, else one that was opened just now. Who had
    /// to wait for a place asks `still` whether it is worth the while before it goes on.
    pub(super) async fn lease(
        &self,
        idle_will_do: bool,
        still: impl Fn() -> Result<(), Error>,
    ) -> Result<Lease, Error> {
        let deadline = Instant::now() + self.shared.limits.acquire_timeout;
        let permit =
            match tokio::time::timeout_at(deadline, self.shared.permits.clone().acquire_owned()).await {
                Ok(permit) => permit.expect("the semaphore is never closed"),
                Err(_) => return Err(Error::Exhausted),
            };
        still()?;
        if idle_will_do && let Some(idle) = self.shared.take_idle() {
            return Ok(Lease::new(idle.connection, idle.opened, &self.shared, permit));
        }
        let timeout = self.shared.limits.connect_timeout.min(deadline - Instant::now());
        let connection = self.shared.connect(timeout).await?;
        Ok(Lease { fresh: true, ..Lease::new(connection, Instant::now(), &self.shared, permit) })
    }

    pub(super) fn size(&self) -> PoolSize {
        let shared = &self.shared;
        let free = shared.permits.available_permits();
        PoolSize { idle: shared.idle.lock().len(), active: shared.limits.max_connections as usize - free }
    }

    pub(super) async fn maintain(&self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.shared.attention.notified() => self.ping_idle(Duration::ZERO).await,
                () = tokio::time::sleep(MAINTENANCE_PERIOD) => {
                    self.shared.close_expired();
                    self.ping_idle(PING_AFTER).await;
                }
            }
            self.fill_to_minimum().await;
        }
        self.shared.idle.lock().clear();
    }

    /// Asks all connections that are idle for longer than `idle_for` whether they live, at the same time.
    async fn ping_idle(&self, idle_for: Duration) {
        let now = Instant::now();
        let mut asked = Vec::new();
        {
            let mut idle = self.shared.idle.lock();
            let mut kept = Vec::with_capacity(idle.len());
            for connection in idle.drain(..) {
                // A connection that is asked counts as in use; without a permit left it simply stays idle.
                match self.shared.permits.clone().try_acquire_owned() {
                    Ok(permit) if now - connection.since >= idle_for => asked.push((connection, permit)),
                    _ => kept.push(connection),
                }
            }
            *idle = kept;
        }
        futures::future::join_all(asked.into_iter().map(|(idle, permit)| async move {
            let mut lease = Lease::new(idle.connection, idle.opened, &self.shared, permit);
            match tokio::time::timeout(PING_TIMEOUT, lease.connection().ping()).await {
                Ok(Ok(())) => lease.give_back(),
                Ok(Err(error)) => tracing::debug!(%error, "closed a dead idle connection"),
                Err(_) => tracing::debug!("closed a silent idle connection"),
            }
        }))
        .await;
    }

    /// Opens connections until the minimum is there; stops at the first failure and tries again in the next round.
    async fn fill_to_minimum(&self) {
        let minimum = self.shared.limits.min_connections as usize;
        while { self.size().idle + self.size().active } < minimum {
            let Ok(permit) = self.shared.permits.clone().try_acquire_owned() else { return };
            match self
                .shared
                .connect(self.shared.limits.connect_timeout.min(self.shared.limits.acquire_timeout))
                .await
            {
                Ok(connection) => Lease::new(connection, Instant::now(), &self.shared, permit).give_back(),
                Err(error) => {
                    tracing::debug!(error = %crate::error::chain(&error), "could not open an idle connection");
                    return;
                }
            }
        }
    }
}

impl Shared {
    fn take_idle(&self) -> Option<Idle> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if now - connection.opened < self.limits.max_lifetime {
                return Some(connection);
            }
        }
        None
    }

    fn close_expired(&self) {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        let mut spare = idle.len().saturating_sub(self.limits.min_connections as usize);
        idle.retain(|connection| {
            let too_old = now - connection.opened >= self.limits.max_lifetime;
            let unused = spare > 0 && now - connection.since >= self.limits.idle_timeout;
            spare -= usize::from((too_old || unused) && spare > 0);
            !(too_old || unused)
        });
    }

    async fn connect(&self, timeout: Duration) -> Result<PgConnection, Error> {
        match tokio::time::timeout(timeout, PgConnection::connect_with(&self.options)).await {
            Ok(connected) => connected.map_err(Error::Connect),
            Err(_) => Err(Error::ConnectTimeout),
        }
    }
}

impl Lease {
    fn new(
        connection: PgConnection,
        opened: Instant,
        shared: &Arc<Shared>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { connection: Some(connection), opened, fresh: false, shared: shared.clone(), _permit: permit }
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("a lease holds its connection until it is settled")
    }

    /// The server has answered: the next caller may use the connection.
    pub(super) fn give_back(mut self) {
        let connection = self.connection.take().expect("a lease is settled once");
        self.shared.idle.lock().push(Idle { connection, opened: self.opened, since: Instant::now() });
    }

    /// The connection is lost: the idle ones have most likely met the same fate, and a write on one of them would
    /// fail without need. Opening new ones is cheap.
    pub(super) fn discard_broken(self) {
        let suspects = std::mem::take(&mut *self.shared.idle.lock());
        drop(suspects);
        self.shared.attention.notify_one();
    }

    /// No answer in time: slow or silent, nobody knows. The idle ones are asked in the background.
    pub(super) fn discard_silent(self) {
        self.shared.attention.notify_one();
    }
}
