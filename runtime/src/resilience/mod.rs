//! How we treat calls that we make: the deadline of each, how long to wait before the next try, whether there is one, and
//! when a dependency is not asked at all; and what works by its fallback meanwhile. How often
//! something may happen is here too, for calls in both directions.
//!
//! Pure rules and state machines, with the clock and the random source passed in; what to call is decided by the area.

pub mod backoff;
pub mod breaker;
pub mod degradation;
pub mod dependency;
pub mod limiter;
pub mod retry;
pub mod timeout;
