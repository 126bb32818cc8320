//! What is shared between threads where its schedules are tested: `tests/proxy_schedules.rs` reads the same source files with
//! the primitives of a model checker under these names.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) use futures::task::AtomicWaker;
pub(crate) use parking_lot::Mutex;
/// A value that is read under a lock, changed in place, and whose changes can be waited for.
pub(crate) use tokio::sync::watch::Sender as Watch;
