//! What can be wrong with a TLS setting: the field, its value, and what to do about it.

use std::io;

use super::files::BYTES_MAX;

/// Why a setting cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {value:?} {reason}")]
pub struct Error {
    /// Where it stands, such as `tls.terminate.key`.
    pub field: &'static str,
    /// As it was given.
    pub value: String,
    pub reason: Reason,
}

impl Error {
    pub(super) fn new(field: &'static str, value: &str, reason: Reason) -> Error {
        Error { field, value: value.to_owned(), reason }
    }
}

/// What is wrong with the value, and what to give instead.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error("cannot be read: {0}; give the path of a PEM file that the proxy's process can read")]
    Unreadable(#[source] io::Error),
    #[error("is no regular file; give the path of a PEM file")]
    NoFile,
    #[error("is empty, or is a file without a size such as those of /proc; give a PEM file that was written")]
    Empty,
    #[error("is larger than {} KiB; give a PEM file with nothing but what is needed", BYTES_MAX / 1024)]
    TooLarge,
    #[error("is no PEM file: {0}; give one with sections such as BEGIN CERTIFICATE")]
    NoPem(String),
    #[error("holds no certificate; give a PEM file with a BEGIN CERTIFICATE section")]
    NoCertificate,
    #[error("holds a certificate that cannot be used: {0}; give an X.509 certificate of version 3")]
    BadCertificate(String),
    #[error("holds no private key; give a PEM file with a BEGIN PRIVATE KEY section that is not encrypted")]
    NoKey,
    #[error("holds a private key that cannot be used: {0}; give an RSA, ECDSA or Ed25519 key")]
    BadKey(String),
    #[error(
        "is not the key of the certificate in {certificate:?}; give the one that the certificate was made for"
    )]
    WrongKey { certificate: String },
    #[error("is neither a DNS name nor an IP address; give the name that the upstream's certificate is for")]
    BadName,
    #[error("names authorities that insecure leaves unasked; give one of ca and insecure")]
    Contradiction,
    #[error(
        "has to be checked against the authorities that the system trusts, and {0}; give tls.originate.ca"
    )]
    NoSystemAuthorities(String),
    #[error("is not enough for a handshake; give at least 1 millisecond")]
    NoTime,
    #[error("is the time for a handshake that never takes place; give terminate or originate too")]
    NoHandshake,
}
