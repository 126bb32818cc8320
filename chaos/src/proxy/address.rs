//! `host:port` as Go reads it, with Go's words for what is wrong with one.

use std::net::SocketAddr;

/// Looks `host:port` up; IPv4 is preferred. An empty string means a free port on the loopback interface, an empty host
/// all IPv4 interfaces, an empty port a free one.
pub(super) async fn resolve(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = match text {
        "" => ("127.0.0.1", ""),
        text => split(text)?,
    };
    let port = parse_port(port)?;
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let unknown = || format!("lookup {host}: no such host");
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.map_err(|_| unknown())?.collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(unknown)
}

/// Host without brackets, and port.
fn split(text: &str) -> Result<(&str, &str), String> {
    let wrong = |what: &str| format!("address {text}: {what}");
    let (before, port) = text.rsplit_once(':').ok_or_else(|| wrong("missing port in address"))?;
    let host = match before.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or_else(|| match text.contains(']') {
                true => wrong("missing port in address"),
                false => wrong("missing ']' in address"),
            })?;
            if !after.is_empty() {
                return Err(wrong("too many colons in address"));
            }
            host
        }
        None if before.contains(':') => return Err(wrong("too many colons in address")),
        None => before,
    };
    Ok((host, port))
}

fn parse_port(port: &str) -> Result<u16, String> {
    match port {
        "" => Ok(0),
        port if port.strip_prefix(['-', '+']).unwrap_or(port).bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map_err(|_| format!("address {port}: invalid port"))
        }
        name => Err(format!("lookup tcp/{name}: unknown port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_resolved() {
        for (text, expected) in [
            ("", "127.0.0.1:0"),
            (":80", "0.0.0.0:80"),
            ("127.0.0.1:", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
            ("localhost:80", "127.0.0.1:80"),
        ] {
            assert_eq!(resolve(text).await.map(|address| address.to_string()), Ok(expected.to_owned()));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_in_gos_words() {
        for (text, expected) in [
            ("local373", "address local373: missing port in address"),
            ("a:b:1", "address a:b:1: too many colons in address"),
            ("::1:80", "address ::1:80: too many colons in address"),
            ("[::1]", "address [::1]: missing port in address"),
            ("[::1:80", "address [::1:80: missing ']' in address"),
            ("127.0.0.1:65536", "address 65536: invalid port"),
            ("127.0.0.1:-1", "address -1: invalid port"),
            ("127.0.0.1:nope", "lookup tcp/nope: unknown port"),
            ("no.invalid:1", "lookup no.invalid: no such host"),
        ] {
            assert_eq!(resolve(text).await, Err(expected.to_owned()), "{text}");
        }
    }
}
