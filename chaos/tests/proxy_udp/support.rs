//! Upstreams, clients and the API for the tests of datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chaos::api::Options;
use chaos::client::{Client, Error, Proxy, Toxic};
use chaos::proxy::Registry;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

pub const MILLION: u32 = 1_000_000;
/// Long enough for a machine under load; only a failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Datagrams with whom they came from.
pub type Heard = Vec<(SocketAddr, Vec<u8>)>;

/// A server of datagrams that ends with its handle.
pub struct Upstream {
    pub address: SocketAddr,
    /// What came, in the order of arrival.
    pub heard: Arc<Mutex<Heard>>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// Answers each datagram with itself.
    pub async fn echo() -> Upstream {
        Upstream::echo_at("127.0.0.1:0".parse().expect("an address")).await
    }

    pub async fn echo_at(address: SocketAddr) -> Upstream {
        let socket = UdpSocket::bind(address).await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let heard = Arc::<Mutex<Heard>>::default();
        let told = heard.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                // An error is what an answer met at a session that has ended.
                if let Ok((size, from)) = socket.recv_from(&mut buffer).await {
                    told.lock().push((from, buffer[..size].to_vec()));
                    let _ = socket.send_to(&buffer[..size], from).await;
                }
            }
        });
        Upstream { address, heard, task }
    }

    /// The numbers that came.
    pub fn numbers(&self) -> Vec<u32> {
        self.heard.lock().iter().map(|(_, payload)| number(payload)).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().expect("a datagram with a number"))
}

/// A proxy of datagrams named `udp` and the API's client.
pub struct Link {
    pub api: Client,
    pub base: String,
    pub registry: Registry,
    pub address: SocketAddr,
    _cancel: DropGuard,
}

impl Link {
    pub async fn to(upstream: SocketAddr) -> Link {
        Link::with(upstream, 7, None).await
    }

    pub async fn with(upstream: SocketAddr, seed: u64, idle: Option<Duration>) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = listener.local_addr().expect("an address").to_string();
        let api = Client::new(&base).expect("a client");
        let registry = Registry::new(seed);
        let cancel = CancellationToken::new();
        let options = Options { proxy_metrics: true, ..Options::default() };
        tokio::spawn(chaos::api::serve_with(registry.clone(), listener, options, cancel.clone()));
        let made = api.create_udp("udp", "127.0.0.1:0", &upstream.to_string(), idle).await.expect("a proxy");
        let address = listen(&made);
        Link { api, base, registry, address, _cancel: cancel.drop_guard() }
    }

    pub async fn client(&self) -> UdpSocket {
        client(self.address).await
    }

    pub fn proxy(&self) -> chaos::proxy::Proxy {
        self.registry.get("udp").expect("the proxy")
    }

    /// Adds a toxic named `t`.
    pub async fn add(&self, kind: &str, stream: &str, attributes: Value) {
        self.try_add("udp", kind, stream, attributes).await.expect("a toxic");
    }

    pub async fn try_add(
        &self,
        proxy: &str,
        kind: &str,
        stream: &str,
        attributes: Value,
    ) -> Result<Toxic, Error> {
        let attributes: Map<String, Value> = serde_json::from_value(attributes).expect("an object");
        let (kind, stream) = (kind.to_owned(), stream.to_owned());
        let toxic = Toxic { name: "t".into(), kind, stream, toxicity: 1.0, attributes, clients: Vec::new() };
        self.api.add_toxic(proxy, &toxic).await
    }

    pub async fn remove(&self) {
        self.api.remove_toxic("udp", "t").await.expect("removed");
    }

    /// What the only toxic did.
    pub fn touched(&self) -> chaos::toxic::effect::Datagrams {
        self.proxy().toxic_datagrams()[0].1
    }
}

pub fn listen(proxy: &Proxy) -> SocketAddr {
    proxy.listen.parse().expect("a resolved address")
}

pub async fn client(proxy: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    socket.connect(proxy).await.expect("an address");
    socket
}

pub async fn send(client: &UdpSocket, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        client.send(&number.to_be_bytes()).await.expect("sent");
    }
}

/// The next datagram.
pub async fn receive(client: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let size = timeout(DEADLINE, client.recv(&mut buffer)).await.expect("news in time")?;
    buffer.truncate(size);
    Ok(buffer)
}

/// The numbers of the next datagrams.
pub async fn receive_numbers(client: &UdpSocket, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(number(&receive(client).await.expect("a datagram")));
    }
    numbers
}

/// Sends a datagram and gets it back.
pub async fn ask(client: &UdpSocket, payload: &[u8]) {
    client.send(payload).await.expect("sent");
    assert_eq!(receive(client).await.expect("an answer"), payload);
}

/// Waits until `condition` holds; `what` is told when it never does.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = timeout(DEADLINE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never happened: {what}"));
}
