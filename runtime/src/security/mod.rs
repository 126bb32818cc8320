//! What protects callers and us: the headers of every answer, who calls, and what they may.

pub mod api_key;
pub mod guard;
pub mod headers;
pub mod monitor;
