//! What is seen from outside while a run goes on: operations, metrics, process figures, health.
//!
//! Everything lands in one [`recorder::Recorder`], on the run's one clock; it writes the history on a thread of its own
//! and keeps what judges need in memory that is bounded by the length of the run, not by its requests.

pub mod journal;
pub mod latency;
pub mod live;
pub mod process;
pub mod recorder;
pub mod sampler;
pub mod scrape;

pub use recorder::Recorder;
