//! Faults through the API: those of scenario files, on bytes and on messages, with what they touched.

mod api_support;
mod proxy_support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chaos::client::{Client, Error, Extras, Toxic, ToxicChange};
use chaos::protocol::Protocol;
use chaos::proxy::Registry;
use proxy_support::*;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::DropGuard;

struct Server {
    api: Client,
    registry: Registry,
    _cancel: DropGuard,
}

impl Server {
    async fn spawn() -> Server {
        let (address, registry, end) = api_support::serve().await;
        Server { api: Client::new(&address).expect("a client"), registry, _cancel: end }
    }

    async fn echo(&self) -> SocketAddr {
        let upstream = echo().await.to_string();
        let proxy = self.api.create("echo", "127.0.0.1:0", &upstream).await.expect("a proxy");
        proxy.listen.parse().expect("an address")
    }

    async fn refused(&self, proxy: &str, fault: Value) -> (u16, String) {
        match self.api.add_fault(proxy, None, &fault).await.expect_err("refused") {
            Error::Refused { status, message } => (status, message),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_fault_acts_is_shown_with_its_evidence_and_heals_when_it_is_removed() {
    let server = Server::spawn().await;
    let address = server.echo().await;
    let mut client = connect(address).await;
    round_trip(&mut client, b"before").await;
    let fault = json!({"reset": {}});
    let added = server.api.add_fault("echo", None, &fault).await.expect("a fault");
    assert_eq!((added.name.as_str(), &added.fault), ("reset", &fault));
    assert_reset(&mut client).await;
    let shown = server.api.faults("echo").await.expect("a list");
    assert_eq!((shown.len(), shown[0].evidence.reset), (1, 1));
    assert!(server.api.proxy("echo").await.expect("a proxy").toxics.is_empty(), "it is no toxic");
    let healed = server.api.remove_fault("echo", "reset").await.expect("healed");
    assert_eq!(healed.evidence.reset, 1);
    assert_eq!(server.api.faults("echo").await.expect("a list"), []);
    let mut client = connect(address).await;
    round_trip(&mut client, b"after").await;
    let hole = json!({"blackhole": {"sticky": true, "direction": "downstream"}});
    server.api.add_fault("echo", Some("hole"), &hole).await.expect("a fault");
    client.write_all(b"lost").await.expect("taken");
    let proxy = server.registry.get("echo").expect("a proxy");
    let swallowed = || proxy.fault("hole").is_ok_and(|hole| hole.evidence.swallowed_bytes == 4);
    eventually("the echo is swallowed", swallowed).await;
    assert_silent(&mut client).await;
    let healed = server.api.remove_fault("echo", "hole").await.expect("healed");
    assert_eq!(healed.evidence.swallowed_bytes, 4);
}

/// A server of RESP that counts the SETs that it executes.
async fn redis() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let executed = Arc::<AtomicU64>::default();
    let counter = executed.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 256];
                while let Ok(length @ 1..) = socket.read(&mut buffer).await {
                    // What stands in for a command that is not executed keeps the replies in order.
                    if buffer[..length].windows(3).any(|word| word == b"SET") {
                        counter.fetch_add(1, Ordering::SeqCst);
                    }
                    if socket.write_all(b"+OK\r\n").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, executed)
}

const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";

#[tokio::test]
async fn a_fault_on_messages_acts_where_the_protocol_was_said() {
    let server = Server::spawn().await;
    let (upstream, executed) = redis().await;
    let extras = Extras { protocol: Some(Protocol::Redis), ..Extras::default() };
    let made = server.api.create_with("cache", "127.0.0.1:0", &upstream.to_string(), &extras).await;
    let made = made.expect("a proxy");
    assert_eq!(made.protocol.as_deref(), Some("redis"));
    let fault = json!({"redis": {"reply": {"error": "READONLY", "command": "SET"}}});
    server.api.add_fault("cache", Some("replica"), &fault).await.expect("a fault");
    let mut client = connect(made.listen.parse().expect("an address")).await;
    client.write_all(SET).await.expect("sent");
    let mut answer = [0; 9];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"-READONLY");
    assert_eq!(executed.load(Ordering::SeqCst), 0);
    let healed = server.api.remove_fault("cache", "replica").await.expect("healed");
    assert_eq!((healed.evidence.matched, healed.evidence.acted), (1, 1));
    let wrong = server.refused("cache", json!({"pg": {"reset": {"match": "COMMIT"}}})).await;
    assert!(wrong.0 == 400 && wrong.1.contains("the link speaks redis"), "{wrong:?}");
}

#[tokio::test]
async fn what_is_wrong_is_told_and_nothing_acts() {
    let server = Server::spawn().await;
    let address = server.echo().await;
    for (fault, message) in [
        (
            json!({"rest": {}}),
            "bad request body: fault: unknown fault `rest`; there are latency, refuse, reset",
        ),
        (json!({"flap": {"up": "1s", "down": "0s"}}), "bad request body: fault: flap: `down` is 0"),
        (json!({"flap": {"up": 1, "down": "1s"}}), "bad request body: fault: invalid type: integer `1`"),
        (json!("reset"), "bad request body: fault: `\"reset\"` is not one fault"),
        (json!(null), "missing required field: fault"),
    ] {
        let (status, told) = server.refused("echo", fault).await;
        assert!(status == 400 && told.starts_with(message), "{status} {told}");
    }
    let (status, told) = server.refused("echo", json!({"nats": {"drop": {"subject": "a"}}})).await;
    assert!(status == 400 && told.contains("the proxy was not told what its link speaks"), "{status} {told}");
    assert_eq!(server.refused("nobody", json!({"reset": {}})).await, (404, "proxy not found".into()));
    server.api.add_fault("echo", None, &json!({"latency": {"delay": "1ms"}})).await.expect("a fault");
    let again = server.refused("echo", json!({"latency": {"delay": "1ms"}})).await;
    assert_eq!(again, (409, "fault already exists".into()));
    let gone = server.api.remove_fault("echo", "reset").await.expect_err("there is none");
    assert!(gone.to_string().contains("fault not found"), "{gone}");
    assert_eq!(server.api.faults("echo").await.expect("a list").len(), 1);
    round_trip(&mut connect(address).await, b"alive").await;
}

#[tokio::test]
async fn a_reset_of_the_server_and_the_end_of_a_proxy_heal() {
    let server = Server::spawn().await;
    let address = server.echo().await;
    let refuse = json!({"refuse": {"existing": "reset"}});
    server.api.add_fault("echo", None, &refuse).await.expect("a fault");
    let error = TcpStream::connect(address).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    server.api.reset().await.expect("reset");
    assert_eq!(server.api.faults("echo").await.expect("a list"), []);
    round_trip(&mut connect(address).await, b"again").await;
    server.api.add_fault("echo", None, &refuse).await.expect("a fault");
    let held = server.registry.get("echo").expect("a proxy");
    server.api.delete("echo").await.expect("deleted");
    assert!(held.faults().is_empty());
}

#[tokio::test]
async fn raising_the_toxicity_of_a_refusal_shuts_the_port_and_begins_its_evidence() {
    let server = Server::spawn().await;
    let address = server.echo().await;
    let proxy = server.registry.get("echo").expect("a proxy");
    let touched = || proxy.toxic_evidence()[0].1.refused;
    let toxic = Toxic {
        name: "t".into(),
        kind: "refuse".into(),
        stream: "downstream".into(),
        toxicity: 0.0,
        attributes: Map::new(),
        clients: vec![],
    };
    server.api.add_toxic("echo", &toxic).await.expect("a toxic");
    round_trip(&mut connect(address).await, b"untouched").await;
    assert_eq!(touched(), 0);
    let change = |toxicity| ToxicChange { attributes: Map::new(), toxicity: Some(toxicity) };
    server.api.update_toxic("echo", "t", &change(1.0)).await.expect("changed");
    assert!(TcpStream::connect(address).await.is_err(), "shut when the call answers");
    assert!(touched() > 0, "asked before the call answers");
    server.api.update_toxic("echo", "t", &change(0.0)).await.expect("changed");
    round_trip(&mut connect(address).await, b"open when the call answers").await;
}

#[tokio::test]
async fn a_disabled_proxy_gives_a_refusal_no_evidence_and_an_enabled_one_does() {
    let server = Server::spawn().await;
    server.echo().await;
    let proxy = server.registry.get("echo").expect("a proxy");
    let enable = |enabled| chaos::client::ProxyChange { enabled: Some(enabled), ..Default::default() };
    server.api.update("echo", &enable(false)).await.expect("disabled");
    server.api.add_fault("echo", None, &json!({"refuse": {"existing": "keep"}})).await.expect("a fault");
    assert_eq!(proxy.faults()[0].evidence.refused, 0);
    server.api.update("echo", &enable(true)).await.expect("enabled");
    eventually("it is asked", || proxy.faults()[0].evidence.refused > 0).await;
}
