//! Why a request failed, with the status and the message that Toxiproxy gives it.

use std::fmt::Display;

use crate::proxy::Error;
use crate::toxic::WireError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub status: u16,
    pub message: String,
}

impl Failure {
    /// The body cannot be used.
    pub fn body(reason: impl Display) -> Failure {
        Failure { status: 400, message: format!("bad request body: {reason}") }
    }

    /// Says where in a list the failure lies, counted from 1: `… at proxy 2`.
    pub fn at(self, what: &str, index: usize) -> Failure {
        Failure { message: format!("{} at {what} {}", self.message, index + 1), ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::Missing(_)
            | Error::Toxic(_)
            | Error::FaultOfTcp { .. }
            | Error::Tls(_)
            | Error::TlsOfUdp
            | Error::Protocol { .. } => 400,
            Error::ProxyNotFound | Error::ToxicNotFound | Error::FaultNotFound | Error::Stopped => 404,
            Error::ProxyExists | Error::ToxicExists | Error::FaultExists => 409,
            Error::Listen { .. }
            | Error::ListenUdp { .. }
            | Error::Unresolved(_)
            | Error::UnresolvedUdp(_) => 500,
            Error::Address(_) => 500,
        };
        Failure { status, message: error.to_string() }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        Error::from(error).into()
    }
}
