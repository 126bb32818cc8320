//! Redis: a few multiplexed connections, each command within its deadline.
//!
//! Promises: a command never waits for a connection: while there is none it fails at once, and a task reconnects in
//! the background ([`Redis::maintain`]). A command that times out or loses its connection closes all connections,
//! since a peer that is silent to one is silent to all; such a command may have been done. No command is made again here:
//! every caller has a substitute that is there sooner (the spool, a miss, a limit in memory). With Sentinels the connections
//! go to the server that they name; when it is gone, or refuses writes since it is the master no more, they are asked again.

#[cfg(test)]
mod fake;
mod sentinel;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, ScriptInvocation};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::sentinel::Sentinels;
use self::sentinel::is_master;
use crate::error::{Classify, ErrorKind, chain};
use crate::resilience::breaker::Outcome;
use crate::resilience::dependency::{Dependency, Refused};

const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(50);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// Errors of the Redis handle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one of Redis.
    #[error("could not read the redis url")]
    Url(#[source] RedisError),
    /// No Sentinel answers and names a master.
    #[error("no sentinel names a master {0:?}")]
    NoMaster(String),
    /// The server that the Sentinels name says that it is no master, or none yet.
    #[error("the redis that the sentinels name is no master")]
    NotMaster,
    /// It is not asked now. Nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no connection now. Nothing was sent.
    #[error("redis is not connected")]
    Disconnected,
    /// The command was sent and not answered in time.
    #[error("redis did not answer in time")]
    Timeout,
    /// The command failed, on the wire or in the server.
    #[error("redis failed a command")]
    Command(#[source] RedisError),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Url(_) => ErrorKind::Internal,
            Self::Refused(refused) => refused.kind(),
            Self::NoMaster(_) | Self::NotMaster | Self::Disconnected => ErrorKind::Unavailable,
            Self::Timeout => ErrorKind::Timeout,
            Self::Command(error) if error.is_timeout() => ErrorKind::Timeout,
            Self::Command(_) => ErrorKind::Unavailable,
        }
    }
}

impl Error {
    /// Whether Redis is away, as far as is known; not when it refused one command, or has enough to do already.
    pub fn is_away(&self) -> bool {
        match self {
            Self::NoMaster(_) | Self::NotMaster | Self::Disconnected | Self::Timeout => true,
            Self::Refused(refused) => matches!(refused, Refused::Open(_)),
            Self::Command(error) => is_lost(error),
            Self::Url(_) => false,
        }
    }
}

/// Bounds of the handle.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Multiplexed connections; each carries many commands at a time.
    pub connections: u32,
    /// Deadline of a new connection.
    pub connect_timeout: Duration,
    /// Deadline of a command.
    pub command_timeout: Duration,
}

/// Handle on one Redis. Clones share the connections.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    dependency: Dependency,
}

struct Shared {
    client: Client,
    sentinels: Option<Sentinels>,
    limits: Limits,
    live: RwLock<Option<Arc<Live>>>,
    lost: Notify,
}

struct Live {
    connections: Vec<MultiplexedConnection>,
    next: AtomicUsize,
}

impl Redis {
    /// A handle that is connected by [`maintain`](Self::maintain). The error does not repeat the URL.
    pub fn new(url: &str, limits: Limits) -> Result<Self, Error> {
        Self::of_master(url, None, limits)
    }

    /// The same for the server that Sentinels name: of the URL everything but the address counts.
    pub fn of_master(url: &str, sentinels: Option<Sentinels>, limits: Limits) -> Result<Self, Error> {
        let client = Client::open(url).map_err(Error::Url)?;
        let (live, lost) = (RwLock::new(None), Notify::new());
        let dependency = Dependency::unlimited("redis");
        Ok(Self { shared: Arc::new(Shared { client, sentinels, limits, live, lost }), dependency })
    }

    /// The same connections, asked through the dependency's breaker and bulkhead.
    #[must_use]
    pub fn with_dependency(self, dependency: Dependency) -> Self {
        Self { dependency, ..self }
    }

    /// Runs a script, loading it first where the server does not know it.
    pub async fn invoke<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        let entered = self.dependency.enter()?;
        let result = self.invoke_now(script).await;
        entered.ends(outcome(&result));
        result
    }

    async fn invoke_now<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        let (live, mut connection) = self.connection()?;
        let call = script.invoke_async(&mut connection);
        self.settle(&live, tokio::time::timeout(self.shared.limits.command_timeout, call).await)
    }

    /// Runs one command.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let entered = self.dependency.enter()?;
        let result = self.query_now(command).await;
        entered.ends(outcome(&result));
        result
    }

    async fn query_now<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let (live, mut connection) = self.connection()?;
        let call = command.query_async(&mut connection);
        self.settle(&live, tokio::time::timeout(self.shared.limits.command_timeout, call).await)
    }

    /// Whether Redis answers; past the breaker.
    pub async fn ping(&self) -> Result<(), Error> {
        let probe = self.dependency.breaker().probe();
        let result = self.query_now::<String>(&redis::cmd("PING")).await.map(drop);
        if let Some(probe) = probe {
            probe.ends(outcome(&result));
        }
        result
    }

    /// Connects, and connects again with a growing delay whenever the connections were lost. Runs until `cancel`.
    pub async fn maintain(&self, cancel: CancellationToken) {
        let mut delay = RECONNECT_DELAY_MIN;
        while !cancel.is_cancelled() {
            let connected = tokio::select! {
                () = cancel.cancelled() => break,
                connected = self.shared.connect() => connected,
            };
            let pause = match connected {
                Ok(live) => {
                    *self.shared.live.write() = Some(Arc::new(live));
                    tracing::info!("redis is connected");
                    delay = RECONNECT_DELAY_MIN;
                    tokio::select! {
                        () = cancel.cancelled() => break,
                        () = self.shared.lost.notified() => {}
                    }
                    tracing::warn!("redis connections were lost");
                    // Even a server that accepts and drops at once is not asked in a tight loop.
                    RECONNECT_DELAY_MIN
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "could not connect to redis");
                    let pause = delay;
                    delay = (delay * 2).min(RECONNECT_DELAY_MAX);
                    pause
                }
            };
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        *self.shared.live.write() = None;
    }

    fn connection(&self) -> Result<(Arc<Live>, MultiplexedConnection), Error> {
        let live = self.shared.live.read().clone().ok_or(Error::Disconnected)?;
        let turn = live.next.fetch_add(1, Ordering::Relaxed) % live.connections.len();
        let connection = live.connections[turn].clone();
        Ok((live, connection))
    }

    fn settle<T>(
        &self,
        live: &Arc<Live>,
        result: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T, Error> {
        let error = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is_timeout() => Error::Timeout,
            Ok(Err(error)) => {
                // Who is replaced refuses writes.
                let replaced = self.shared.sentinels.is_some() && error.code() == Some("READONLY");
                if !is_lost(&error) && !replaced {
                    return Err(Error::Command(error));
                }
                Error::Command(error)
            }
            Err(_) => Error::Timeout,
        };
        self.shared.give_up(live);
        Err(error)
    }
}

/// What a result tells of Redis. Without a connection nothing was asked; what Redis answers, an error among it, shows that
/// it is there, except that it is not ready to work.
fn outcome<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(Error::Timeout) => Outcome::Fault,
        Err(Error::Command(error)) if is_lost(error) => Outcome::Fault,
        Err(Error::Command(error)) => match error.code() {
            Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN") => Outcome::Fault,
            _ => Outcome::Success,
        },
        Err(
            Error::Url(_) | Error::NoMaster(_) | Error::NotMaster | Error::Refused(_) | Error::Disconnected,
        ) => Outcome::Unknown,
    }
}

fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

impl Shared {
    async fn connect(&self) -> Result<Live, Error> {
        match &self.sentinels {
            Some(sentinels) => {
                let connect = |client| async move { self.connect_to(&client).await };
                sentinels.reach(&self.client, self.limits.connect_timeout, connect).await
            }
            None => self.connect_to(&self.client).await,
        }
    }

    async fn connect_to(&self, client: &Client) -> Result<Live, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limits.connect_timeout))
            .set_response_timeout(Some(self.limits.command_timeout));
        let connecting = (0..self.limits.connections.max(1)).map(|_| async {
            let connected = client.get_multiplexed_async_connection_with_config(&config).await;
            let mut connection = connected.map_err(Error::Command)?;
            // A server that is still loading its data, or is a silent proxy, is not connected yet.
            redis::cmd("PING").query_async::<String>(&mut connection).await.map_err(Error::Command)?;
            if self.sentinels.is_some() && !is_master(&mut connection).await.map_err(Error::Command)? {
                return Err(Error::NotMaster);
            }
            Ok(connection)
        });
        let deadline = self.limits.connect_timeout + self.limits.command_timeout;
        match tokio::time::timeout(deadline, try_join_all(connecting)).await {
            Ok(Ok(connections)) => Ok(Live { connections, next: AtomicUsize::new(0) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Closes the connections that failed, unless somebody else did and there are new ones.
    fn give_up(&self, failed: &Arc<Live>) {
        let mut live = self.live.write();
        if live.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            *live = None;
            self.lost.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test]
    async fn a_master_that_only_reads_from_now_on_is_left() {
        let roles = Arc::new(AtomicU32::new(0));
        let asked = roles.clone();
        let address = fake::serve(move |command, port| match command {
            "SENTINEL" => fake::address_of(port),
            "ROLE" => {
                asked.fetch_add(1, Ordering::SeqCst);
                "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_owned()
            }
            "PING" => "+PONG\r\n".to_owned(),
            "SET" => "-READONLY You can't write against a read only replica.\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        })
        .await;
        let limits = Limits {
            connections: 1,
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(30),
        };
        let redis_at = |sentinels| Redis::of_master(&format!("redis://{address}/"), sentinels, limits);
        let sentinels = Sentinels::new(&[address.to_string()], "mymaster").expect("an address");
        for (sentinels, left) in [(Some(sentinels), true), (None, false)] {
            let asked_before = roles.load(Ordering::SeqCst);
            let redis = redis_at(sentinels).expect("a URL");
            let cancel = CancellationToken::new();
            let kept = tokio::spawn({
                let (redis, cancel) = (redis.clone(), cancel.clone());
                async move { redis.maintain(cancel).await }
            });
            while redis.connection().is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let (before, _) = redis.connection().expect("connected");
            let error = redis.query::<String>(redis::cmd("SET").arg("a").arg("b")).await;
            let error = error.expect_err("it only reads");
            assert!(matches!(&error, Error::Command(error) if error.code() == Some("READONLY")), "{error}");
            let now = redis.connection().ok().map(|(live, _)| live);
            let same = now.is_some_and(|now| Arc::ptr_eq(&now, &before));
            assert_eq!(same, !left, "without Sentinels there is nobody to ask for another");
            while left && roles.load(Ordering::SeqCst) < asked_before + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
            kept.await.expect("it ends");
        }
    }
}
