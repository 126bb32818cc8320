//! How a live connection is reached from outside: to follow a changed plan, or to end.
//!
//! A connection is one task that is woken by its sockets thousands of times for each time that somebody wants something of
//! it, so looking costs it two atomic loads and no lock.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::sync::{AtomicBool, AtomicWaker, Mutex, Ordering};

/// `K` is an order to end.
#[derive(Debug)]
pub(super) struct Signal<K> {
    waker: AtomicWaker,
    raised: AtomicBool,
    kill: Mutex<Option<K>>,
}

impl<K> Default for Signal<K> {
    fn default() -> Self {
        Signal { waker: AtomicWaker::new(), raised: AtomicBool::new(false), kill: Mutex::new(None) }
    }
}

impl<K: Clone> Signal<K> {
    /// Makes the connection look at the plan again.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Orders the connection to end; a later order replaces one that was not obeyed yet.
    pub fn end(&self, kill: K) {
        *self.kill.lock() = Some(kill);
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The order to end, if there is one; the task of `context` is woken by the next call of the others. Whoever looks at
    /// the plan has to call this first, or a change between the two is missed.
    pub fn poll_ended(&self, context: &Context<'_>) -> Poll<K> {
        self.waker.register(context.waker());
        if self.raised.load(Ordering::Acquire)
            && let Some(kill) = self.kill.lock().clone()
        {
            return Poll::Ready(kill);
        }
        Poll::Pending
    }

    /// Waits for the order to end.
    pub async fn ended(&self) -> K {
        poll_fn(|context| self.poll_ended(context)).await
    }
}
