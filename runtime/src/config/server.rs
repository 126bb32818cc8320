//! `[server]`: the listener, its limits and its end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Port 0 asks the system for a free one; the `listening` log line says which.
    pub bind_address: SocketAddr,
    /// How long requests in flight may take to finish after SIGTERM.
    #[serde(with = "units::duration")]
    pub shutdown_grace: Duration,
    /// After this a request is answered with 503; what it started may still have taken effect.
    #[serde(with = "units::duration")]
    pub request_timeout: Duration,
    /// A larger request body is answered with 413.
    #[serde(with = "units::size")]
    pub max_body: ByteSize,
    /// Open connections; further ones wait in the system's backlog.
    pub max_connections: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind_address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)),
            shutdown_grace: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            max_body: ByteSize::mib(1),
            max_connections: 10_000,
        }
    }
}

impl Server {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.duration("shutdown_grace", self.shutdown_grace, "0s", "10m");
        checks.duration("request_timeout", self.request_timeout, "10ms", "10m");
        checks.size("max_body", self.max_body, "1KiB", "64MiB");
        checks.count("max_connections", u64::from(self.max_connections), 1..=1_000_000);
    }
}
