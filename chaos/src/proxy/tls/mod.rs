//! TLS on the sides of a proxy: what is asked for ([`TlsConfig`]), and what was made of its files ([`Tls`]).
//!
//! Without it a proxy passes encrypted bytes through as they are. Where clients' connections are terminated, or the
//! server's originated, faults and toxics act on the plain bytes in between and no byte of a handshake is theirs. Each
//! handshake belongs to the task of its connection and has an end. Resumption is not offered to clients, ALPN to nobody.

mod error;
mod files;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};

pub use error::{Error, Reason};
pub(super) use stream::Stream;

/// Time that a handshake may take unless something else is asked for, in milliseconds.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;

/// How the sides of a proxy are encrypted; the default passes everything through. Files are read when the proxy is made
/// and when the setting is given again, not for each connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Clients speak TLS with the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminate: Option<Terminate>,
    /// The proxy speaks TLS with the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub originate: Option<Originate>,
    /// Milliseconds that each handshake may take, at least 1.
    #[serde(skip_serializing_if = "is_usual")]
    pub handshake_timeout_ms: u64,
}

impl Default for TlsConfig {
    fn default() -> TlsConfig {
        TlsConfig { terminate: None, originate: None, handshake_timeout_ms: HANDSHAKE_TIMEOUT_MS }
    }
}

fn is_usual(timeout_ms: &u64) -> bool {
    *timeout_ms == HANDSHAKE_TIMEOUT_MS
}

/// With what clients are met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminate {
    /// Path of a PEM file: the certificate, then those that lead to its authority.
    pub certificate: String,
    /// Path of a PEM file with the certificate's private key.
    pub key: String,
}

/// As what the upstream is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Originate {
    /// DNS name or IP address that the upstream's certificate has to be for; a DNS name is sent as SNI.
    pub server_name: String,
    /// Path of a PEM file with the authorities to trust; `None`: those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Any certificate will do, of whomever and for whatever name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl TlsConfig {
    pub fn is_pass_through(&self) -> bool {
        self.terminate.is_none() && self.originate.is_none()
    }
}

/// A setting that encrypts something, with its files read.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    terminate: Option<Arc<ServerConfig>>,
    originate: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Tls {
    /// Reads the files of a setting; `None`: everything is passed through.
    pub async fn load(config: Option<&TlsConfig>) -> Result<Option<Arc<Tls>>, Error> {
        let Some(config) = config.filter(|config| **config != TlsConfig::default()).cloned() else {
            return Ok(None);
        };
        // Disks can be slow, and the system's authorities are many.
        let loaded = tokio::task::spawn_blocking(move || Tls::read(config)).await;
        match loaded {
            Ok(read) => read.map(|tls| Some(Arc::new(tls))),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn read(config: TlsConfig) -> Result<Tls, Error> {
        let timeout_wrong = |reason| {
            Err(Error::new("tls.handshake_timeout_ms", &config.handshake_timeout_ms.to_string(), reason))
        };
        if config.handshake_timeout_ms == 0 {
            return timeout_wrong(Reason::NoTime);
        }
        if config.is_pass_through() {
            return timeout_wrong(Reason::NoHandshake);
        }
        let terminate = config.terminate.as_ref().map(files::server_config).transpose()?;
        let originate = config.originate.as_ref().map(files::client_config).transpose()?;
        Ok(Tls { config, terminate, originate })
    }

    pub fn config(&self) -> &TlsConfig {
        &self.config
    }

    pub(super) fn terminate(&self) -> Option<&Arc<ServerConfig>> {
        self.terminate.as_ref()
    }

    pub(super) fn originate(&self) -> Option<&(Arc<ClientConfig>, ServerName<'static>)> {
        self.originate.as_ref()
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.config.handshake_timeout_ms)
    }
}

/// Reads what is asked for; datagrams cannot be encrypted.
pub(super) async fn load(
    config: Option<&TlsConfig>,
    datagrams: bool,
) -> Result<Option<Arc<Tls>>, super::Error> {
    match Tls::load(config).await? {
        Some(_) if datagrams => Err(super::Error::TlsOfUdp),
        loaded => Ok(loaded),
    }
}
