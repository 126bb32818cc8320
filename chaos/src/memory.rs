//! Gives memory that ended connections leave behind back to the system, a moment after they ended.
//!
//! The C library's allocator keeps what is freed in the middle of its heaps until it is asked. Asking costs a walk over the
//! free pieces, so it is done when many fewer connections end than before, and never while they come and go by the
//! hundred: docs/decisions/0009-memory-back-by-malloc-trim.md has what else was tried.

use std::time::Duration;

use chaos::proxy::Registry;

/// Time between two looks at what has ended.
const LOOK: Duration = Duration::from_secs(1);
/// So many connections that end between two looks are a server at work, which will need the memory again.
const BUSY: u64 = 64;

/// Gives memory back for as long as the program runs.
pub async fn give_back(registry: Registry) {
    let mut owed = Owed::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if owed.is_due(ended(&registry)) {
            trim();
        }
    }
}

/// Connections and sessions that ended on the proxies that there are.
fn ended(registry: &Registry) -> u64 {
    let counters = registry.list().into_iter().map(|proxy| proxy.counters());
    counters.map(|counters| counters.accepted.saturating_sub(counters.active)).sum()
}

/// What ended since memory was last given back.
#[derive(Debug, Default)]
struct Owed {
    ended: u64,
    since: bool,
}

impl Owed {
    /// True when memory is to be given back now; `ended` are the connections that have ended since the start.
    fn is_due(&mut self, ended: u64) -> bool {
        // Fewer than before: a proxy is gone, and its connections with it.
        let fresh = ended.checked_sub(self.ended);
        self.ended = ended;
        self.since |= fresh != Some(0);
        let due = self.since && fresh.is_some_and(|fresh| fresh < BUSY);
        self.since &= !due;
        due
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    let began = std::time::Instant::now();
    // SAFETY: it takes the allocator's own locks and touches only memory that nobody has.
    let released = unsafe { libc::malloc_trim(0) } == 1;
    tracing::debug!(released, took_us = began.elapsed().as_micros(), "gave memory back");
}

/// Other allocators are not known to need it.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_the_last_of_many_has_ended() {
        let mut owed = Owed::default();
        assert!(!owed.is_due(0), "nothing has ended");
        assert!(!owed.is_due(1_000) && !owed.is_due(2_000), "more are ending");
        assert!(owed.is_due(2_000));
        assert!(!owed.is_due(2_000), "that was for all of them");
        assert!(owed.is_due(2_001), "a single one may have held much");
    }

    #[test]
    fn a_stream_of_few_that_never_ends_does_not_keep_what_many_left() {
        let mut owed = Owed::default();
        assert!(!owed.is_due(10_000));
        assert!(owed.is_due(10_000 + BUSY - 1));
    }

    #[test]
    fn a_proxy_that_is_removed_takes_its_count_with_it_and_leaves_memory_all_the_same() {
        let mut owed = Owed::default();
        assert!(!owed.is_due(500));
        assert!(owed.is_due(500));
        assert!(!owed.is_due(0), "its connections are ending");
        assert!(owed.is_due(0));
        assert!(!owed.is_due(0));
    }
}
