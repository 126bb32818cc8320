//! Toxics: what the Toxiproxy API can put on a link, and the pipeline through which all bytes of a link go.
//!
//! Faults of scenarios and toxics of the API are the same thing underneath, an [`effect::Effect`]; one
//! [`pipeline::Pipeline`] for each way of a connection applies all that act there. Nothing here does input or output.

use std::time::Duration;

pub mod clients;
pub mod distribution;
pub mod effect;
pub mod pipeline;
mod slices;
pub(crate) mod stage;
mod types;
mod wire;

pub use types::{Attribute, Number, Transport, Type};
pub use wire::{Toxic, WireError};

/// No delay is longer: values from outside are cut to it, so that adding one to an instant cannot overflow.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
