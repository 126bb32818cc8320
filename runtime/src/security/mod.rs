//! What protects callers and us, independent of who is calling: the headers of every answer.

pub mod headers;
