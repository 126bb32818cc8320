//! The HTTP API as a client has it, on a connection that lasts from input to input.

use chaos::json::Json;
use chaos::proxy::{ProxyConfig, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// A server, and a client's connection to it.
pub struct Api {
    pub runtime: Runtime,
    pub registry: Registry,
    client: TcpStream,
}

impl Api {
    pub fn start() -> Api {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let registry = Registry::new(1);
        let client = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            let options = chaos::api::Options { proxy_metrics: true, runtime_metrics: true, token: None };
            let server =
                chaos::api::serve_with(registry.clone(), listener, options, CancellationToken::new());
            tokio::spawn(server);
            TcpStream::connect(address).await.expect("a connection")
        });
        Api { runtime, registry, client }
    }

    /// A proxy that nobody connects to, and behind which nothing listens.
    pub fn create(&mut self, name: &str) -> chaos::proxy::Proxy {
        let config = ProxyConfig {
            name: name.into(),
            listen: "127.0.0.1:0".into(),
            upstream: "127.0.0.1:1".into(),
            seed: 1,
            protocol: None,
            udp: None,
            tls: None,
        };
        self.runtime.block_on(self.registry.create(config)).expect("a proxy")
    }

    /// Status and body of the answer.
    pub fn call(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: api\r\ncontent-length: {}\r\n\r\n", body.len());
        let client = &mut self.client;
        self.runtime.block_on(async {
            client.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
            let mut answer = Vec::new();
            loop {
                assert!(client.read_buf(&mut answer).await.expect("an answer") > 0, "no answer");
                let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
                let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = match status {
                    204 => 0,
                    _ => length.and_then(|text| text.parse().ok()).expect("a length"),
                };
                if answer.len() >= end + 4 + length {
                    return (status, answer.split_off(end + 4));
                }
            }
        })
    }

    pub fn clear(&mut self) {
        self.runtime.block_on(self.registry.clear());
    }
}

/// False where a body could have a name looked up, or a port taken that others may want: an input is nobody's order to do
/// that. Everything else is passed on, however wrong it is.
pub fn is_harmless(body: &[u8]) -> bool {
    Json::first(body).map_or(true, |json| listens_harmlessly(&json))
}

fn listens_harmlessly(json: &Json) -> bool {
    match json {
        Json::Array(items) => items.iter().all(listens_harmlessly),
        Json::Object(fields) => fields.iter().all(|(key, value)| match value {
            Json::Text(text) if key.eq_ignore_ascii_case("listen") => is_harmless_address(text),
            // Files of this machine are read for them.
            _ if key.eq_ignore_ascii_case("tls") => {
                matches!(value, Json::Null | Json::Object(_)) && names_no_file(value)
            }
            value => listens_harmlessly(value),
        }),
        _ => true,
    }
}

/// A free port of this machine, or what is no address.
fn is_harmless_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return true };
    let no_port = !port.is_empty() && port.parse::<u16>().is_err();
    no_port || (["127.0.0.1", "[::1]"].contains(&host) && ["", "0"].contains(&port))
}

fn names_no_file(json: &Json) -> bool {
    match json {
        Json::Text(text) => !text.starts_with(['/', '.']),
        Json::Array(items) => items.iter().all(names_no_file),
        Json::Object(fields) => fields.iter().all(|(_, value)| names_no_file(value)),
        _ => true,
    }
}
