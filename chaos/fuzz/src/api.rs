//! The HTTP API as a client has it, on a connection that lasts from input to input, and what there is behind it.
//!
//! Every answer has to come within a bound, and nothing may be left running once all proxies are gone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chaos::proxy::{Proxy, ProxyConfig, Registry};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::harmless::Known;

/// Far more than any call takes, far less than the server's own bound.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Until what a removed proxy had is gone.
const GONE_MAX: Duration = Duration::from_secs(2);

/// A server, and a client's connection to it.
pub struct Api {
    pub runtime: Runtime,
    pub registry: Registry,
    client: TcpStream,
    address: SocketAddr,
    /// Tasks of a server without proxies.
    tasks: usize,
}

/// What was answered.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// More would come, or nothing more can be asked on this connection.
    ends: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        format!("{} {}", self.status, self.body.escape_ascii())
    }

    /// The body, which has to be JSON to a reader that is strict.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Why it was refused, with the status once more, as every refusal of a call says.
    pub fn reason(&self) -> String {
        let json = self.json();
        assert_eq!(json["status"], self.status, "{}", self.text());
        let reason = json["error"].as_str().unwrap_or_else(|| panic!("no reason: {}", self.text()));
        assert!(!reason.is_empty(), "no reason: {}", self.text());
        reason.to_owned()
    }
}

impl Api {
    pub fn start() -> Api {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let registry = Registry::new(1);
        let (client, address) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            let options = chaos::api::Options { proxy_metrics: true, runtime_metrics: true, token: None };
            let server =
                chaos::api::serve_with(registry.clone(), listener, options, CancellationToken::new());
            tokio::spawn(server);
            (TcpStream::connect(address).await.expect("a connection"), address)
        });
        let mut api = Api { runtime, registry, client, address, tasks: 0 };
        api.call("GET", "/version", b"");
        api.tasks = api.runtime.metrics().num_alive_tasks();
        api
    }

    /// A proxy that nobody connects to, and behind which nothing listens.
    pub fn create(&mut self, name: &str) -> Proxy {
        let config = ProxyConfig {
            name: name.into(),
            listen: "127.0.0.1:0".into(),
            upstream: "127.0.0.1:1".into(),
            seed: 1,
            protocol: None,
            udp: None,
            tls: None,
            dial_failure: None,
        };
        self.runtime.block_on(self.registry.create(config)).expect("a proxy")
    }

    /// What a body may name.
    pub fn known(&self) -> Known {
        let own = self.registry.get("a").map(|proxy| proxy.listen_address());
        // One that has never listened has none yet.
        let own = own.filter(|address| address.ip().is_loopback());
        Known { taken: self.address, own }
    }

    /// Sends a request as it is and waits for the answer.
    pub fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.exchange(&[format!("{method} {path}").as_bytes(), b" "].concat(), method == "HEAD", body)
    }

    /// The same with a line that may be anything; `bare`: the answer has no body although it tells a length.
    pub fn exchange(&mut self, line: &[u8], bare: bool, body: &[u8]) -> Answer {
        let head = format!("HTTP/1.1\r\nhost: api\r\ncontent-length: {}\r\n\r\n", body.len());
        let request = [line, head.as_bytes(), body].concat();
        let client = &mut self.client;
        let answer = self.runtime.block_on(async {
            let answered = async {
                client.write_all(&request).await.expect("sent");
                read(client, bare).await
            };
            timeout(ANSWER_MAX, answered).await
        });
        let told = || format!("no answer to {}", request.escape_ascii());
        let answer = answer.unwrap_or_else(|_| panic!("{}", told())).unwrap_or_else(|| panic!("{}", told()));
        if answer.ends {
            let connected = self.runtime.block_on(TcpStream::connect(self.address));
            self.client = connected.expect("a connection");
        }
        answer
    }

    /// What a client can see of the proxies: each as it is listed, under its name, with its faults.
    pub fn state(&mut self) -> BTreeMap<String, Value> {
        let Value::Object(listed) = self.call("GET", "/proxies", b"").json() else { panic!("no object") };
        let mut state = BTreeMap::new();
        for (name, mut proxy) in listed {
            assert_eq!(proxy["name"], name.as_str());
            let known = self.registry.get(&name).unwrap_or_else(|| panic!("there is no proxy {name:?}"));
            let faults = known.faults().into_iter().map(|fault| {
                let written = serde_json::to_value(&fault.fault).expect("a fault can be written");
                (fault.name, written)
            });
            proxy["faults"] =
                Value::Array(faults.map(|(name, fault)| serde_json::json!([name, fault])).collect());
            state.insert(name, proxy);
        }
        assert_eq!(state.len(), self.registry.list().len(), "not every proxy is listed");
        state
    }

    /// Removes all proxies; nothing that they had goes on.
    pub fn clear(&mut self) {
        let (registry, metrics, least) = (&self.registry, self.runtime.metrics(), self.tasks);
        self.runtime.block_on(async {
            timeout(ANSWER_MAX, registry.clear()).await.expect("the proxies stop");
            let start = Instant::now();
            // A connection that was left is noticed a moment later.
            while metrics.num_alive_tasks() > least {
                assert!(start.elapsed() < GONE_MAX, "{} tasks are left", metrics.num_alive_tasks() - least);
                tokio::task::yield_now().await;
                if start.elapsed() > GONE_MAX / 100 {
                    sleep(GONE_MAX / 100).await;
                }
            }
        });
    }
}

/// `None`: the connection ended before there was one.
async fn read(client: &mut TcpStream, bare: bool) -> Option<Answer> {
    let mut answer = Vec::new();
    loop {
        if client.read_buf(&mut answer).await.is_ok_and(|count| count > 0) {
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
            let field = |name| head.lines().find_map(|line| line.strip_prefix(name));
            if field("content-type: ") == Some("text/event-stream") {
                return Some(Answer { status, body: Vec::new(), ends: true });
            }
            let length = match field("content-length: ") {
                _ if bare || status == 204 => 0,
                length => length.and_then(|text| text.parse().ok()).expect("a length"),
            };
            if answer.len() >= end + 4 + length {
                let ends = field("connection: ") == Some("close");
                return Some(Answer { status, body: answer.split_off(end + 4), ends });
            }
        } else {
            return None;
        }
    }
}
