//! The connection that a request came over, for handlers that keep it for longer than an answer takes.

use std::any::Any;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// In the extensions of every request. Whoever holds it keeps the connection counted as open.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// What clones share: each request has one, and a token's clone takes a lock.
pub struct Shared {
    /// The other end, if there is one.
    pub peer: Option<IpAddr>,
    /// Cancelled when the server begins to end: say what is left to say, and close.
    pub ending: CancellationToken,
    /// Cancelled when the time for that is over; cancelling it cuts this connection alone.
    pub cut: CancellationToken,
    _open: Arc<dyn Any + Send + Sync>,
}

impl Deref for Connection {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Connection {
    /// `open` is dropped with the last clone.
    pub fn new(
        peer: Option<IpAddr>,
        ending: CancellationToken,
        cut: CancellationToken,
        open: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { shared: Arc::new(Shared { peer, ending, cut, _open: open }) }
    }

    /// One that nobody ends, for a router without a listener.
    pub fn detached() -> Self {
        Self::new(None, CancellationToken::new(), CancellationToken::new(), Arc::new(()))
    }
}
