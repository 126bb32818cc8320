//! LISTEN: hears what others say with NOTIFY, over a connection of its own that comes back by itself.
//!
//! Promises: whoever listens hears [`Heard::Connected`] each time the connection was made, since what was said before was
//! not heard; a connection that has gone silent is noticed; a database that is away is tried again with growing waits. It
//! needs a session that lasts, which a pooler that lends transactions has not.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::Executor as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::error::chain;
use crate::resilience::backoff::Backoff;

/// Connecting, and each question whether the connection lives.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing was heard for so long is asked whether it lives.
const ASK_AFTER: Duration = Duration::from_secs(15);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The connection is there; what was said before may be lost.
    Connected,
    /// Somebody said this.
    Notified {
        /// The channel.
        channel: String,
        /// The text, at most 8000 bytes; empty when there was none.
        payload: String,
    },
}

/// Listens on `channels` until `cancel`. `told` must not wait.
///
/// # Errors
/// At once, when `url` is none of PostgreSQL; a database that is away is no error.
pub async fn run(
    url: &str,
    channels: &[&str],
    mut told: impl FnMut(Heard) + Send,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let options: PgConnectOptions = url.parse().map_err(Error::Url)?;
    let options = options.application_name("fraiseql-server listen");
    let mut rng = StdRng::from_os_rng();
    let mut failed = 0;
    loop {
        let mut connected = false;
        let hearing = hear(options.clone(), channels, |heard| {
            connected = true;
            told(heard);
        });
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            error = hearing => tracing::debug!(error = %chain(&error), "nothing is heard of the database for now"),
        }
        failed = if connected { 0 } else { failed + 1 };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(BACKOFF.delay(failed, &mut rng)) => {}
        }
    }
}

/// Connects and listens until that ends.
async fn hear(options: PgConnectOptions, channels: &[&str], mut told: impl FnMut(Heard) + Send) -> Error {
    let mut listener = match within(connect(options, channels)).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    told(Heard::Connected);
    loop {
        match tokio::time::timeout(ASK_AFTER, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                let (channel, payload) = (notification.channel().into(), notification.payload().into());
                told(Heard::Notified { channel, payload });
            }
            Ok(Ok(None)) => {
                return Error::Statement(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
            }
            Ok(Err(error)) => return Error::Statement(error),
            Err(_) => {
                if let Err(error) = within(async { (&mut listener).execute("SELECT 1").await }).await {
                    return error;
                }
            }
        }
    }
}

async fn connect(options: PgConnectOptions, channels: &[&str]) -> Result<PgListener, sqlx::Error> {
    // The listener's own way to connect; the pool never has more than its one connection.
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    // It is made again here, where that is told.
    listener.eager_reconnect(false);
    listener.listen_all(channels.iter().copied()).await?;
    Ok(listener)
}

async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
        Ok(result) => result.map_err(Error::Statement),
        Err(_) => Err(Error::StatementTimeout),
    }
}
