//! TLS of a proxy on the command line: what `create` takes, and how it is shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chaos::client::Proxy;
use chaos::proxy::TlsConfig;
use chaos::proxy::tls::{HANDSHAKE_TIMEOUT_MS, Originate, Terminate};
use clap::Args;

/// With none of them what is encrypted is passed through. The server reads the files: it has to run where they are.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS (only servers of our own)")]
pub struct TlsArguments {
    /// Take TLS from clients, with the certificates of this PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Speak TLS with the upstream, whose certificate has to be for this name.
    #[arg(long, value_name = "NAME")]
    tls_originate: Option<String>,
    /// Authorities that the upstream's certificate may be from, a PEM file [default: those that the system trusts].
    #[arg(long, value_name = "FILE", requires = "tls_originate")]
    tls_ca: Option<PathBuf>,
    /// Take any certificate of the upstream.
    #[arg(long, requires = "tls_originate", conflicts_with = "tls_ca")]
    tls_insecure: bool,
    /// Time that a handshake may take [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    tls_handshake_timeout: Option<Duration>,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let value = humantime::parse_duration(text).ok().filter(|value| value.as_millis() > 0);
    value.ok_or_else(|| "a time for a handshake is at least 1ms, such as 10s".to_owned())
}

impl TlsArguments {
    /// What is asked for; `None`: nothing.
    pub fn config(self) -> Option<TlsConfig> {
        let terminate = self.tls_certificate.zip(self.tls_key);
        let timeout_ms = self.tls_handshake_timeout.map(|time| time.as_millis());
        let config = TlsConfig {
            terminate: terminate
                .map(|(certificate, key)| Terminate { certificate: path(&certificate), key: path(&key) }),
            originate: self.tls_originate.map(|server_name| Originate {
                server_name,
                ca: self.tls_ca.as_deref().map(path),
                insecure: self.tls_insecure,
            }),
            handshake_timeout_ms: timeout_ms
                .map_or(HANDSHAKE_TIMEOUT_MS, |time| u64::try_from(time).unwrap_or(u64::MAX)),
        };
        (config != TlsConfig::default()).then_some(config)
    }
}

/// Seen from here: the server may run in another directory.
fn path(given: &Path) -> String {
    std::path::absolute(given).as_deref().unwrap_or(given).to_string_lossy().into_owned()
}

/// In one word, for a column.
pub fn word(proxy: &Proxy) -> &'static str {
    let tls = proxy.tls.as_ref();
    let (from_clients, to_upstream) =
        (tls.is_some_and(|tls| tls.terminate.is_some()), tls.is_some_and(|tls| tls.originate.is_some()));
    match (from_clients, to_upstream) {
        (true, true) => "both",
        (true, false) => "terminate",
        (false, true) => "originate",
        (false, false) => "-",
    }
}

/// A line for each side that is encrypted.
pub fn lines(proxy: &Proxy) -> Vec<String> {
    let Some(tls) = &proxy.tls else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(Terminate { certificate, key }) = &tls.terminate {
        lines.push(format!("TLS from clients: certificate={certificate} key={key}"));
    }
    if let Some(Originate { server_name, ca, insecure }) = &tls.originate {
        let ca = match ca {
            Some(ca) => format!("ca={ca}"),
            None if *insecure => "insecure: any certificate will do".to_owned(),
            None => "ca: what the server's system trusts".to_owned(),
        };
        lines.push(format!("TLS to the upstream: server_name={server_name} {ca}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tls: TlsArguments,
    }

    fn parse(line: &str) -> Result<Option<TlsConfig>, clap::error::ErrorKind> {
        let line = Line::try_parse_from(std::iter::once("create").chain(line.split_whitespace()));
        line.map(|line| line.tls.config()).map_err(|error| error.kind())
    }

    #[test]
    fn arguments_become_a_setting_with_paths_that_hold_anywhere() {
        assert_eq!(parse(""), Ok(None));
        let read = parse("--tls-certificate c.pem --tls-key /k.pem --tls-handshake-timeout 250ms");
        let read = read.expect("arguments").expect("a setting");
        let terminate = read.terminate.expect("a certificate");
        assert!(Path::new(&terminate.certificate).is_absolute() && terminate.certificate.ends_with("/c.pem"));
        assert_eq!((terminate.key.as_str(), read.handshake_timeout_ms), ("/k.pem", 250));
        let read = parse("--tls-originate db --tls-ca /ca.pem").expect("arguments").expect("a setting");
        let wanted = Originate { server_name: "db".into(), ca: Some("/ca.pem".into()), insecure: false };
        assert_eq!((read.originate, read.terminate), (Some(wanted), None));
    }

    #[test]
    fn halves_and_contradictions_are_refused() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, ValueValidation};
        for (line, kind) in [
            ("--tls-certificate c.pem", MissingRequiredArgument),
            ("--tls-key k.pem", MissingRequiredArgument),
            ("--tls-ca ca.pem", MissingRequiredArgument),
            ("--tls-insecure", MissingRequiredArgument),
            ("--tls-originate db --tls-ca ca.pem --tls-insecure", ArgumentConflict),
            ("--tls-originate db --tls-handshake-timeout 0s", ValueValidation),
        ] {
            assert_eq!(parse(line), Err(kind), "{line}");
        }
    }
}
