//! The time in which a batch collects keys.
//!
//! The runtime's timer ticks once a millisecond, ten times the window and more than most queries take. So the window
//! is passed by yielding: whatever else is ready runs meanwhile, which is where further keys come from.

use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// Then the timer must do: where time stands still, as in tests, yielding alone would never end.
const YIELDS_MAX: u32 = 4_096;

/// Ends after `length`, or a little later.
pub(super) async fn pass(length: Duration) {
    let end = SystemClock.now() + length;
    for _ in 0..YIELDS_MAX {
        tokio::task::yield_now().await;
        if SystemClock.now() >= end {
            return;
        }
    }
    tokio::time::sleep_until(end).await;
}
