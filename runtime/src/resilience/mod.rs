//! How we treat calls that we make: the deadline of each, and how long to wait before the next try.
//!
//! Both are values and pure rules; what to call and whether to try again is decided by the area.

pub mod backoff;
pub mod timeout;
