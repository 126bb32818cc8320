//! What the server says about itself: logs, metrics, traces, health.
//!
//! Each application instance has its own [`metrics::Metrics`] and its own health checker; nothing
//! here is global except the log subscriber, which can be installed once per process.

pub mod exposition;
pub mod health;
pub mod logging;
pub mod masking;
pub mod metrics;
pub mod process;
pub mod system;
pub mod trace;
