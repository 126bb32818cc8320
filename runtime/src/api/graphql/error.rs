//! How an error looks in a GraphQL answer: the service's words when the caller can act on them, else only its kind.

use async_graphql::{ErrorExtensions, ServerError, Value};

use crate::error::{Classify, ErrorKind, chain};

/// Code of errors that the GraphQL layer itself finds: syntax, unknown fields, wrong types, limits.
const VALIDATION: &str = "VALIDATION";

/// The answer's error for a service's error; what happened inside goes to the log.
pub(super) fn answer(error: impl Classify + std::error::Error + 'static) -> async_graphql::Error {
    let kind = error.kind();
    let message = match kind {
        kind if kind.is_refusal() => error.to_string(),
        ErrorKind::Timeout => "no answer in time; it may have been done".to_owned(),
        ErrorKind::Unavailable => "not available now; it may have been done".to_owned(),
        _ => "something went wrong on our side; it may have been done".to_owned(),
    };
    match kind {
        ErrorKind::Internal => tracing::error!(error = %chain(&error), "operation failed"),
        kind if kind.is_retryable() => {
            tracing::warn!(error = %chain(&error), kind = kind.label(), "operation failed")
        }
        kind => tracing::debug!(error = %chain(&error), kind = kind.label(), "operation refused"),
    }
    with_code(message, kind)
}

/// A refusal of the API layer itself.
pub(super) fn bad_input(message: impl Into<String>) -> async_graphql::Error {
    with_code(message.into(), ErrorKind::BadInput)
}

fn with_code(message: String, kind: ErrorKind) -> async_graphql::Error {
    async_graphql::Error::new(message).extend_with(|_, extensions| extensions.set("code", kind.code()))
}

/// Gives a code to errors that have none, which are those of the GraphQL layer.
pub(super) fn name_code(error: &mut ServerError) {
    let extensions = error.extensions.get_or_insert_default();
    if extensions.get("code").is_none() {
        extensions.set("code", VALIDATION);
    }
}

/// Whether the error is ours, not the caller's.
pub(super) fn is_ours(error: &ServerError) -> bool {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Internal]
        .iter()
        .any(|kind| code == Some(&Value::from(kind.code())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::postgres;

    #[test]
    fn a_database_error_says_its_kind_and_nothing_else() {
        let cause = std::io::Error::other("connect to 10.0.0.7 as fraiseql");
        let error =
            answer(postgres::Error::Statement(sqlx::Error::Io(cause))).into_server_error(Default::default());
        assert!(!error.message.contains("10.0.0.7"), "{}", error.message);
        assert!(is_ours(&error));
        assert_eq!(error.extensions.expect("extensions").get("code"), Some(&Value::from("UNAVAILABLE")));
    }

    #[test]
    fn errors_of_the_graphql_layer_are_the_callers() {
        let mut error = ServerError::new("unknown field", None);
        name_code(&mut error);
        assert!(!is_ours(&error));
        assert_eq!(error.extensions.expect("extensions").get("code"), Some(&Value::from(VALIDATION)));
    }
}
