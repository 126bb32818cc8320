//! Why an operation is refused before anything runs.

use async_graphql::Pos;

/// A refusal, in words for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Where in the operation.
    pub pos: Pos,
    /// `extensions.code`.
    pub code: &'static str,
    /// What is wrong, with the name of the argument and its value.
    pub message: String,
}

impl Refusal {
    /// An argument or a variable is wrong.
    pub fn input(pos: Pos, message: impl Into<String>) -> Self {
        Self { pos, code: "BAD_USER_INPUT", message: message.into() }
    }
}
