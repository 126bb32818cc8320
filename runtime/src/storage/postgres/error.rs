//! What can go wrong with a statement, and what a caller may conclude.

use crate::error::{Classify, ErrorKind};
use crate::resilience::breaker::Outcome;
use crate::resilience::dependency::Refused;

/// Errors of the PostgreSQL handle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one of PostgreSQL.
    #[error("could not read the database url")]
    Url(#[source] sqlx::Error),
    /// It is not asked now. Nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// All connections stayed in use for the whole acquire timeout. Nothing was sent.
    #[error("no database connection became free in time")]
    Exhausted,
    /// The server refused the connection. Nothing was sent.
    #[error("could not connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The server did not answer a new connection in time. Nothing was sent.
    #[error("the database did not answer a new connection in time")]
    ConnectTimeout,
    /// The statement was sent and not answered in time.
    #[error("the database did not answer a statement in time")]
    StatementTimeout,
    /// The statement failed, on the wire or in the server.
    #[error("the database failed a statement")]
    Statement(#[source] sqlx::Error),
}

impl Error {
    /// Whether the server itself answered with an error and keeps the connection.
    pub(super) fn server_answered(&self) -> bool {
        match self {
            Self::Statement(sqlx::Error::Database(error)) => !closes_connection(error.code().as_deref()),
            _ => false,
        }
    }

    /// Whether the connection was lost before an answer came.
    pub(super) fn lost_connection(&self) -> bool {
        match self {
            Self::Statement(sqlx::Error::Io(_)) => true,
            Self::Statement(sqlx::Error::Database(error)) => closes_connection(error.code().as_deref()),
            _ => false,
        }
    }
}

/// What a result tells of the database. `fresh`: its connection was opened for it.
///
/// That a pooled connection is lost says that something happened, not that the database is away: the next connection
/// tells, and that one counts. Nor does a full pool, which is our own load. What the database answers, refusals of a
/// value among it, shows that it is well; except that it has no resources.
pub(super) fn outcome<T>(result: &Result<T, Error>, fresh: bool) -> Outcome {
    let error = match result {
        Ok(_) => return Outcome::Success,
        Err(error) => error,
    };
    match error {
        Error::Connect(_) | Error::ConnectTimeout | Error::StatementTimeout => Outcome::Fault,
        Error::Url(_) | Error::Refused(_) | Error::Exhausted => Outcome::Unknown,
        error if error.lost_connection() => {
            if fresh {
                Outcome::Fault
            } else {
                Outcome::Unknown
            }
        }
        Error::Statement(sqlx::Error::Database(error)) => match error.code().as_deref().unwrap_or_default() {
            code if code.starts_with("53") => Outcome::Fault,
            // It gave up itself, behind a lock or after a time, or is a replica now: neither well nor away.
            "57014" | "55P03" | "25006" => Outcome::Unknown,
            _ => Outcome::Success,
        },
        Error::Statement(_) => Outcome::Unknown,
    }
}

/// Classes 08 (connection exception) and 57P (operator intervention: shutdown, crash, dropped database).
fn closes_connection(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Url(_) => ErrorKind::Internal,
            Self::Refused(refused) => refused.kind(),
            Self::Exhausted => ErrorKind::DatabaseBusy,
            Self::Connect(_) | Self::ConnectTimeout => ErrorKind::Unavailable,
            Self::StatementTimeout => ErrorKind::Timeout,
            Self::Statement(sqlx::Error::Io(_)) => ErrorKind::Unavailable,
            Self::Statement(sqlx::Error::Database(error)) => kind_of_code(error.code().as_deref()),
            Self::Statement(_) => ErrorKind::Internal,
        }
    }
}

/// SQLSTATE classes: 57014 cancelled by timeout, 53 out of resources, 40 serialisation and deadlock, 25006 read only.
fn kind_of_code(code: Option<&str>) -> ErrorKind {
    match code.unwrap_or_default() {
        "57014" | "55P03" => ErrorKind::Timeout,
        "25006" => ErrorKind::Unavailable,
        code if closes_connection(Some(code)) => ErrorKind::Unavailable,
        code if code.starts_with("53") || code.starts_with("40") => ErrorKind::DatabaseBusy,
        _ => ErrorKind::Internal,
    }
}

/// What the database did not accept about a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// SQLSTATE.
    pub code: String,
    /// The constraint.
    pub constraint: Option<String>,
    /// The table, where one is named.
    pub table: Option<String>,
    /// `table.column`, where one is named.
    pub column: Option<String>,
    /// The database's words.
    pub message: String,
    /// Whether a function said so with RAISE.
    pub raised: bool,
}

impl Error {
    /// What was violated: classes 22 (data exception), 23 (integrity constraint) and P0001 (RAISE). Nothing was changed.
    pub fn violation(&self) -> Option<Violation> {
        let Self::Statement(sqlx::Error::Database(error)) = self else { return None };
        let code = error.code()?.into_owned();
        if !(code.starts_with("22") || code.starts_with("23") || code == "P0001") {
            return None;
        }
        let details = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
        let column = details.and_then(|error| Some(format!("{}.{}", error.table()?, error.column()?)));
        let table = details.and_then(|error| error.table()).map(str::to_owned);
        let raised = code == "P0001";
        let constraint = error.constraint().map(str::to_owned);
        Some(Violation { code, constraint, table, column, message: error.message().to_owned(), raised })
    }

    /// Whether a prepared statement is of no use any more since the tables have changed; nothing was done.
    pub(super) fn is_stale(error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("26000") => true,
                Some("0A000") => error.message().contains("cached plan"),
                _ => false,
            },
            _ => false,
        }
    }
}

/// The name of a constraint, and the error that its violation is to the caller.
pub type Meaning<E> = (&'static str, fn() -> E);

/// Turns a constraint violation into the domain's error, at the statement that knows what it means.
pub trait DatabaseExt<T> {
    /// If the named constraint (or, for `NOT NULL`, the column written as `table.column`) was violated, the error
    /// becomes what the pair says; the first constraint of `meanings` that fits decides.
    fn on_constraint<E: From<Error>>(self, meanings: &[Meaning<E>]) -> Result<T, E>;
}

impl<T> DatabaseExt<T> for Result<T, Error> {
    fn on_constraint<E: From<Error>>(self, meanings: &[Meaning<E>]) -> Result<T, E> {
        self.map_err(|error| match meanings.iter().find(|(name, _)| violates(&error, name)) {
            Some((_, meaning)) => meaning(),
            None => error.into(),
        })
    }
}

/// Whether `error` is the violation of the constraint `name`.
fn violates(error: &Error, name: &str) -> bool {
    let Error::Statement(sqlx::Error::Database(error)) = error else { return false };
    if error.constraint() == Some(name) {
        return true;
    }
    let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() else { return false };
    error.code() == "23502"
        && name
            .split_once('.')
            .is_some_and(|(table, column)| error.table() == Some(table) && error.column() == Some(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_before_sending_or_from_the_server_keep_or_free_the_connection_as_told() {
        let reset = Error::Statement(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(reset.lost_connection() && !reset.server_answered());
        assert_eq!(reset.kind(), ErrorKind::Unavailable);
        assert!(!Error::StatementTimeout.lost_connection(), "a slow statement is not sent twice");
        assert_eq!(Error::StatementTimeout.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn only_what_the_database_does_wrong_is_its_fault() {
        let lost =
            || Err::<(), _>(Error::Statement(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())));
        assert_eq!(outcome(&lost(), false), Outcome::Unknown, "the next connection tells");
        assert_eq!(outcome(&lost(), true), Outcome::Fault);
        assert_eq!(outcome(&Err::<(), _>(Error::ConnectTimeout), false), Outcome::Fault);
        assert_eq!(outcome(&Err::<(), _>(Error::StatementTimeout), false), Outcome::Fault);
        assert_eq!(outcome(&Err::<(), _>(Error::Exhausted), false), Outcome::Unknown, "our own load");
        assert_eq!(
            outcome(&Err::<(), _>(Error::Statement(sqlx::Error::RowNotFound)), false),
            Outcome::Unknown
        );
        assert_eq!(outcome(&Ok(()), false), Outcome::Success);
    }

    #[test]
    fn codes_are_sorted_by_what_the_caller_may_do() {
        for (code, kind) in [
            ("57014", ErrorKind::Timeout),
            ("57P01", ErrorKind::Unavailable),
            ("53300", ErrorKind::DatabaseBusy),
            ("40P01", ErrorKind::DatabaseBusy),
            ("42P01", ErrorKind::Internal),
        ] {
            assert_eq!(kind_of_code(Some(code)), kind, "{code}");
        }
    }
}
