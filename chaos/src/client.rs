//! Client of Toxiproxy's API, for any server of it.
//!
//! A connection for each call, nothing kept between them. What a server refuses comes back with its status and its
//! message.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use crate::fault::Evidence;
use crate::protocol::Protocol;
use crate::proxy::{DialFailure, TlsConfig};

/// Longest time that a call may take: a little more than a server gives it.
const CALL_MAX: Duration = Duration::from_secs(30);
/// Port of an address that names none.
const DEFAULT_PORT: u16 = 8474;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{given:?} is no address of an API: {reason}; write http://HOST:PORT")]
    Address { given: String, reason: &'static str },
    #[error("failed to reach the API at {authority}: {source}; is a server running there?")]
    Connect {
        authority: String,
        #[source]
        source: io::Error,
    },
    #[error("the API at {authority} did not answer {call}: {reason}")]
    Broken { authority: String, call: String, reason: String },
    /// The server refused; `message` is its own.
    #[error("{message} (status {status})")]
    Refused { status: u16, message: String },
    #[error("the API's answer to {call} is not what it should be: {reason}")]
    Answer { call: String, reason: String },
}

/// A proxy as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proxy {
    pub name: String,
    pub listen: String,
    pub upstream: String,
    pub enabled: bool,
    #[serde(default)]
    pub toxics: Vec<Toxic>,
    /// `udp`, or what is spoken: `pg`, `redis`, `nats`; `None` is TCP. Only our own server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Milliseconds after which a session of a proxy of datagrams ends in which nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<u64>,
    /// `None` where nothing is encrypted, or the server knows nothing of it. Its paths are those of the server's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// What becomes of a client whose upstream cannot be reached, `reset` or `retry`; `None`: it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_failure: Option<String>,
}

/// What our own server alone knows of a proxy of connections; the default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// What is spoken, which faults on messages need.
    pub protocol: Option<Protocol>,
    /// TLS on one side or both.
    pub tls: Option<TlsConfig>,
    /// What becomes of a client whose upstream cannot be reached.
    pub dial_failure: Option<DialFailure>,
}

impl Extras {
    /// Adds what is asked for to the body of a request.
    fn write(&self, body: &mut Value) {
        if let Some(protocol) = self.protocol {
            body["protocol"] = protocol.name().into();
        }
        if let Some(tls) = &self.tls {
            body["tls"] = json!(tls);
        }
        if let Some(dial_failure) = self.dial_failure {
            body["dial_failure"] = dial_failure.name().into();
        }
    }

    /// What a server did instead that did not understand what was asked for.
    fn missing(&self, made: &Proxy) -> Option<&'static str> {
        if self.protocol.is_some_and(|protocol| made.protocol.as_deref() != Some(protocol.name())) {
            return Some("made a proxy that reads no messages");
        }
        if self.tls.is_some() && made.tls.is_none() {
            return Some("made a proxy without TLS, so it knows none");
        }
        let dial_failure = self.dial_failure.unwrap_or_default();
        // The default is what every server does, and not shown.
        if dial_failure != DialFailure::default() && made.dial_failure.as_deref() != Some(dial_failure.name())
        {
            return Some("made a proxy that closes clients whose upstream cannot be reached");
        }
        None
    }
}

/// A fault of a proxy, with what it has touched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedFault {
    pub name: String,
    pub fault: Value,
    pub evidence: Evidence,
}

/// A toxic as the API shows it; a name that is empty is left to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Toxic {
    #[serde(default)]
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `upstream` or `downstream`.
    pub stream: String,
    /// Probability, 0 to 1, that a connection is affected.
    pub toxicity: f32,
    #[serde(default)]
    pub attributes: Map<String, Value>,
    /// Addresses and networks whose connections are affected; empty: all. Only our own server knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
}

/// What is to change; what is absent stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ProxyChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The default turns TLS off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// What is to change; what is absent stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ToxicChange {
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toxicity: Option<f32>,
}

/// Handle of a server's API.
#[derive(Debug, Clone)]
pub struct Client {
    /// `host:port`
    authority: String,
    token: Option<String>,
}

impl Client {
    /// `address` is `http://HOST:PORT`, or without the scheme; without a port it is 8474.
    pub fn new(address: &str) -> Result<Client, Error> {
        let wrong = |reason| Error::Address { given: address.to_owned(), reason };
        if address.starts_with("https://") {
            return Err(wrong("TLS is not spoken here"));
        }
        let rest = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        if rest.is_empty() || rest.contains(['/', '@', '?', '#', ' ']) {
            return Err(wrong("it has to be a host and a port and nothing else"));
        }
        let after_host = rest.rsplit_once(']').map_or(rest, |(_, after)| after);
        let authority =
            if after_host.contains(':') { rest.to_owned() } else { format!("{rest}:{DEFAULT_PORT}") };
        Ok(Client { authority, token: None })
    }

    /// Sends the token of a server that demands one.
    pub fn with_token(self, token: Option<String>) -> Client {
        Client { token, ..self }
    }

    /// `host:port` of the server.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// All proxies, by name.
    pub async fn proxies(&self) -> Result<Vec<Proxy>, Error> {
        let all: Map<String, Value> = self.call(Method::GET, "/proxies", None).await?;
        let read: Result<Vec<Proxy>, _> =
            all.into_iter().map(|(_, proxy)| serde_json::from_value(proxy)).collect();
        let answer = |error: serde_json::Error| Error::Answer {
            call: "GET /proxies".into(),
            reason: error.to_string(),
        };
        let mut proxies = read.map_err(answer)?;
        proxies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(proxies)
    }

    pub async fn proxy(&self, name: &str) -> Result<Proxy, Error> {
        self.call(Method::GET, &proxy_path(name), None).await
    }

    /// An empty `listen` leaves the address to the server.
    pub async fn create(&self, name: &str, listen: &str, upstream: &str) -> Result<Proxy, Error> {
        let body = json!({"name": name, "listen": listen, "upstream": upstream, "enabled": true});
        self.call(Method::POST, "/proxies", Some(body)).await
    }

    /// A proxy of connections with what our own server alone knows; it reads the files of TLS. Fails on a server that does not
    /// know what is asked for, and leaves nothing there.
    pub async fn create_with(
        &self,
        name: &str,
        listen: &str,
        upstream: &str,
        extras: &Extras,
    ) -> Result<Proxy, Error> {
        let mut body = json!({"name": name, "listen": listen, "upstream": upstream, "enabled": true});
        extras.write(&mut body);
        self.create_ours(body, |proxy| extras.missing(proxy)).await
    }

    /// A proxy of datagrams; `idle` is how long a session lasts in which nothing is said, else the server's default. Fails
    /// on a server that knows none, and leaves nothing there.
    pub async fn create_udp(
        &self,
        name: &str,
        listen: &str,
        upstream: &str,
        idle: Option<Duration>,
    ) -> Result<Proxy, Error> {
        let idle = idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        let body = json!({"name": name, "listen": listen, "upstream": upstream, "protocol": "udp", "idle_timeout": idle});
        let missing = |proxy: &Proxy| {
            (proxy.protocol.as_deref() != Some("udp")).then_some("made a TCP proxy, so it knows no other")
        };
        self.create_ours(body, missing).await
    }

    /// A proxy of a kind that other servers do not know: they ignore the field and make one of their own kind, which goes
    /// again when `missing` tells what the server did instead.
    async fn create_ours(
        &self,
        body: Value,
        missing: impl Fn(&Proxy) -> Option<&'static str>,
    ) -> Result<Proxy, Error> {
        let proxy: Proxy = self.call(Method::POST, "/proxies", Some(body)).await?;
        let Some(instead) = missing(&proxy) else { return Ok(proxy) };
        self.delete(&proxy.name).await?;
        let reason = format!("the server {instead}; it was deleted");
        Err(Error::Answer { call: "POST /proxies".to_owned(), reason })
    }

    pub async fn update(&self, name: &str, change: &ProxyChange) -> Result<Proxy, Error> {
        // POST, since servers before 2.6 know no PATCH.
        self.call(Method::POST, &proxy_path(name), Some(json!(change))).await
    }

    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.send(Method::DELETE, &proxy_path(name), None).await.map(drop)
    }

    /// Creates the proxies that are missing and replaces those that differ.
    pub async fn populate(&self, proxies: &[Proxy]) -> Result<Vec<Proxy>, Error> {
        #[derive(Deserialize)]
        struct Populated {
            proxies: Option<Vec<Proxy>>,
        }
        let answer: Populated = self.call(Method::POST, "/populate", Some(json!(proxies))).await?;
        Ok(answer.proxies.unwrap_or_default())
    }

    /// Enables every proxy and removes all toxics.
    pub async fn reset(&self) -> Result<(), Error> {
        self.send(Method::POST, "/reset", None).await.map(drop)
    }

    pub async fn version(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let answer: Version = self.call(Method::GET, "/version", None).await?;
        Ok(answer.version)
    }

    /// The page of the server's metrics; `None` when it shows none.
    pub async fn metrics(&self) -> Result<Option<String>, Error> {
        match self.send(Method::GET, "/metrics", None).await {
            Ok(page) => Ok(Some(String::from_utf8_lossy(&page).into_owned())),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn toxics(&self, proxy: &str) -> Result<Vec<Toxic>, Error> {
        self.call(Method::GET, &format!("{}/toxics", proxy_path(proxy)), None).await
    }

    pub async fn add_toxic(&self, proxy: &str, toxic: &Toxic) -> Result<Toxic, Error> {
        self.call(Method::POST, &format!("{}/toxics", proxy_path(proxy)), Some(json!(toxic))).await
    }

    pub async fn update_toxic(&self, proxy: &str, toxic: &str, change: &ToxicChange) -> Result<Toxic, Error> {
        self.call(Method::POST, &toxic_path(proxy, toxic), Some(json!(change))).await
    }

    pub async fn remove_toxic(&self, proxy: &str, toxic: &str) -> Result<(), Error> {
        self.send(Method::DELETE, &toxic_path(proxy, toxic), None).await.map(drop)
    }

    /// Whether the server knows [faults](Client::faults), as our own does.
    pub async fn has_faults(&self) -> Result<bool, Error> {
        match self.faults("no-such-proxy").await {
            Ok(_) => Ok(true),
            // A server without the route does not get as far as looking for the proxy.
            Err(Error::Refused { status: 404, message }) => Ok(message == "proxy not found"),
            Err(error) => Err(error),
        }
    }

    /// Faults are those of our own server, as scenario files write them; others answer 404.
    pub async fn faults(&self, proxy: &str) -> Result<Vec<NamedFault>, Error> {
        self.call(Method::GET, &format!("{}/faults", proxy_path(proxy)), None).await
    }

    /// `fault` is one word with its values, such as `{"flap": {"up": "1s", "down": "200ms"}}`; without a name it is called by
    /// its word.
    pub async fn add_fault(
        &self,
        proxy: &str,
        name: Option<&str>,
        fault: &Value,
    ) -> Result<NamedFault, Error> {
        let body = json!({"name": name, "fault": fault});
        self.call(Method::POST, &format!("{}/faults", proxy_path(proxy)), Some(body)).await
    }

    /// Heals a fault; what it touched until then.
    pub async fn remove_fault(&self, proxy: &str, name: &str) -> Result<NamedFault, Error> {
        self.call(Method::DELETE, &fault_path(proxy, name), None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, Error> {
        let call = format!("{method} {path}");
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| Error::Answer { call, reason: error.to_string() })
    }

    /// The body of a successful answer.
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Bytes, Error> {
        let call = format!("{method} {path}");
        let broken =
            |reason: String| Error::Broken { authority: self.authority.clone(), call: call.clone(), reason };
        let answered = tokio::time::timeout(CALL_MAX, self.exchange(method, path, body));
        let late = || broken(format!("nothing came within {} s", CALL_MAX.as_secs()));
        let (status, answer) = match answered.await.map_err(|_| late())? {
            Ok(answer) => answer,
            Err(Failed::Connect(source)) => {
                return Err(Error::Connect { authority: self.authority.clone(), source });
            }
            Err(Failed::Http(error)) => return Err(broken(error.to_string())),
            Err(Failed::Unsendable(what)) => return Err(broken(format!("{what} cannot be sent"))),
        };
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let error = serde_json::from_slice::<Value>(&answer).ok();
        let message = error.as_ref().and_then(|error| error["error"].as_str());
        let message =
            message.map_or_else(|| String::from_utf8_lossy(&answer).trim().to_owned(), str::to_owned);
        Err(Error::Refused { status, message })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Bytes), Failed> {
        let socket = TcpStream::connect(&self.authority).await.map_err(Failed::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // Ends with the exchange, since the sender is dropped after it.
        tokio::spawn(connection);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Failed::Unsendable("the path"))?;
        let headers = request.headers_mut();
        headers.insert(
            HOST,
            HeaderValue::from_str(&self.authority).map_err(|_| Failed::Unsendable("the host"))?,
        );
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let value = value.map_err(|_| Failed::Unsendable("the token"))?;
            headers.insert(AUTHORIZATION, value);
        }
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

enum Failed {
    Connect(io::Error),
    Http(hyper::Error),
    /// What no request can carry.
    Unsendable(&'static str),
}

impl From<hyper::Error> for Failed {
    fn from(error: hyper::Error) -> Failed {
        Failed::Http(error)
    }
}

fn proxy_path(name: &str) -> String {
    format!("/proxies/{}", encoded(name))
}

fn toxic_path(proxy: &str, toxic: &str) -> String {
    format!("{}/toxics/{}", proxy_path(proxy), encoded(toxic))
}

fn fault_path(proxy: &str, fault: &str) -> String {
    format!("{}/faults/{}", proxy_path(proxy), encoded(fault))
}

fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_lack_the_scheme_and_the_port() {
        for (given, authority) in [
            ("http://localhost:8474", "localhost:8474"),
            ("http://localhost:8474/", "localhost:8474"),
            ("localhost", "localhost:8474"),
            ("http://10.0.0.1", "10.0.0.1:8474"),
            ("[::1]", "[::1]:8474"),
            ("http://[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(Client::new(given).expect("an address").authority, authority);
        }
        for given in ["", "http://", "https://a:1", "http://a/b", "http://u@a"] {
            assert!(matches!(Client::new(given), Err(Error::Address { .. })), "{given}");
        }
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(toxic_path("a b", "é/x"), "/proxies/a%20b/toxics/%C3%A9%2Fx");
    }
}
