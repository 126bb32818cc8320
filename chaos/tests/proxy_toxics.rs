//! Our own toxics through the API: each acts on real connections, on those that are meant, and heals when it is removed.

mod api_support;
mod proxy_support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use chaos::client::{Client, Toxic};
use chaos::proxy::Registry;
use proxy_support::*;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::DropGuard;

/// A proxy before an echo, and the API's client.
struct Link {
    api: Client,
    address: SocketAddr,
    registry: Registry,
    _cancel: DropGuard,
}

impl Link {
    async fn spawn() -> Link {
        let (address, registry, end) = api_support::serve().await;
        let api = Client::new(&address).expect("a client");
        let upstream = echo().await.to_string();
        let proxy = api.create("echo", "127.0.0.1:0", &upstream).await.expect("a proxy");
        let address = proxy.listen.parse().expect("an address");
        Link { api, address, registry, _cancel: end }
    }

    /// Adds a toxic named `t` on what the server sends.
    async fn add(&self, kind: &str, attributes: Value, clients: &[&str]) {
        self.try_add(kind, attributes, clients).await.expect("a toxic");
    }

    async fn try_add(&self, kind: &str, attributes: Value, clients: &[&str]) -> Result<Toxic, String> {
        let attributes: Map<String, Value> = serde_json::from_value(attributes).expect("an object");
        let toxic = Toxic {
            name: "t".into(),
            kind: kind.into(),
            stream: "downstream".into(),
            toxicity: 1.0,
            attributes,
            clients: clients.iter().map(|client| (*client).to_owned()).collect(),
        };
        self.api.add_toxic("echo", &toxic).await.map_err(|error| error.to_string())
    }

    async fn remove(&self) {
        self.api.remove_toxic("echo", "t").await.expect("removed");
    }

    async fn assert_passes(&self) {
        round_trip(&mut connect(self.address).await, b"through").await;
    }

    fn evidence(&self) -> chaos::fault::Evidence {
        self.registry.get("echo").expect("the proxy").toxic_evidence()[0].1
    }
}

#[tokio::test]
async fn refuse_closes_the_port_keeps_connections_and_opens_again() {
    let link = Link::spawn().await;
    let mut open = connect(link.address).await;
    round_trip(&mut open, b"before").await;
    link.add("refuse", json!({}), &[]).await;
    let refused = TcpStream::connect(link.address).await.expect_err("a refusal");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    round_trip(&mut open, b"still").await;
    assert!(link.evidence().refused > 0);
    link.remove().await;
    link.assert_passes().await;
}

#[tokio::test]
async fn refuse_resets_what_is_open_when_it_is_told_to() {
    let link = Link::spawn().await;
    let mut open = connect(link.address).await;
    round_trip(&mut open, b"before").await;
    link.add("refuse", json!({"reset_existing": 1}), &[]).await;
    assert_reset(&mut open).await;
}

#[tokio::test]
async fn a_disabled_proxy_gives_no_evidence_of_refusals() {
    let link = Link::spawn().await;
    link.registry.get("echo").expect("the proxy").stop().await;
    link.add("refuse", json!({}), &[]).await;
    assert_eq!(link.evidence().refused, 0);
}

#[tokio::test]
async fn connect_blackhole_answers_nobody_and_opens_again() {
    let link = Link::spawn().await;
    let mut open = connect(link.address).await;
    link.add("connect_blackhole", json!({}), &[]).await;
    let asked = timeout(Duration::from_millis(300), TcpStream::connect(link.address)).await;
    assert!(asked.is_err(), "answered: {asked:?}");
    round_trip(&mut open, b"still").await;
    assert!(link.evidence().unanswered > 0);
    link.api.reset().await.expect("reset");
    link.assert_passes().await;
}

#[tokio::test]
async fn reset_strikes_the_clients_that_are_meant_and_no_others() {
    let link = Link::spawn().await;
    let mut open = connect(link.address).await;
    round_trip(&mut open, b"before").await;
    link.add("reset", json!({}), &["10.0.0.0/8"]).await;
    round_trip(&mut open, b"not meant").await;
    link.assert_passes().await;
    link.remove().await;
    link.add("reset", json!({}), &["127.0.0.0/8"]).await;
    assert_reset(&mut open).await;
    assert_reset(&mut connect(link.address).await).await;
    eventually("both resets are counted", || link.evidence().reset == 2).await;
}

#[tokio::test]
async fn fail_first_fails_so_many_and_then_recovers() {
    let link = Link::spawn().await;
    link.add("fail_first", json!({"connections": 2}), &[]).await;
    for _ in 0..2 {
        assert_reset(&mut connect(link.address).await).await;
    }
    link.assert_passes().await;
}

#[tokio::test]
async fn a_toxic_on_bytes_acts_on_the_clients_that_are_meant() {
    let link = Link::spawn().await;
    link.add("blackhole", json!({"sticky": 0}), &["192.0.2.1"]).await;
    link.assert_passes().await;
    link.remove().await;
    link.add("blackhole", json!({"sticky": 0}), &["127.0.0.1"]).await;
    let mut silent = connect(link.address).await;
    silent.write_all(b"kept").await.expect("written");
    assert_silent(&mut silent).await;
    link.remove().await;
    assert_eq!(read_bytes(&mut silent, 4).await, b"kept");
}

#[tokio::test]
async fn truncate_and_duplicate_and_corrupt_change_what_arrives() {
    let link = Link::spawn().await;
    for (kind, attributes, expected) in [
        ("truncate", json!({"bytes": 3}), &b"abc"[..]),
        ("duplicate", json!({"rate": 1_000_000}), b"abcdabcd"),
    ] {
        link.add(kind, attributes, &[]).await;
        let mut client = connect(link.address).await;
        client.write_all(b"abcd").await.expect("written");
        client.shutdown().await.expect("half closed");
        let mut got = Vec::new();
        timeout(DEADLINE, client.read_to_end(&mut got)).await.expect("in time").expect("an orderly end");
        assert_eq!(got, expected, "{kind}");
        link.remove().await;
    }
    link.add("corrupt", json!({"rate": 1_000_000}), &[]).await;
    let mut client = connect(link.address).await;
    client.write_all(b"abcd").await.expect("written");
    let got = read_bytes(&mut client, 4).await;
    assert!(got.iter().zip(b"abcd").all(|(got, sent)| (got ^ sent).count_ones() == 1), "{got:?}");
    assert_eq!(link.evidence().corrupted_bytes, 4);
}

/// Lower bounds alone: a machine that is busy makes everything later, and nothing earlier.
#[tokio::test]
async fn a_stall_keeps_back_what_follows_the_first_bytes_until_it_is_removed() {
    let link = Link::spawn().await;
    link.add("stall", json!({"after": 4}), &[]).await;
    let mut client = connect(link.address).await;
    client.write_all(b"abcdefgh").await.expect("written");
    assert_eq!(read_bytes(&mut client, 4).await, b"abcd");
    assert_silent(&mut client).await;
    link.remove().await;
    assert_eq!(read_bytes(&mut client, 4).await, b"efgh");
    link.add("stall", json!({"after": 0, "duration": 300}), &[]).await;
    let mut client = connect(link.address).await;
    let began = Instant::now();
    round_trip(&mut client, b"late").await;
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    round_trip(&mut client, b"at once").await;
    assert!(link.evidence().delayed_bytes >= 4);
}

#[tokio::test]
async fn a_flap_that_is_down_keeps_everything_back_until_it_is_up() {
    let link = Link::spawn().await;
    let mut client = connect(link.address).await;
    round_trip(&mut client, b"before").await;
    // Down at once and for as long as the test may take.
    link.add("flap", json!({"up": 0, "down": 600_000}), &[]).await;
    client.write_all(b"kept").await.expect("written");
    assert_silent(&mut client).await;
    link.remove().await;
    assert_eq!(read_bytes(&mut client, 4).await, b"kept");
    link.add("flap", json!({"up": 600_000, "down": 1}), &[]).await;
    link.assert_passes().await;
    link.remove().await;
    // Whoever asks at any time is answered within a turn.
    link.add("flap", json!({"up": 50, "down": 50}), &[]).await;
    for _ in 0..5 {
        link.assert_passes().await;
    }
}

#[tokio::test]
async fn a_shared_bandwidth_is_one_for_all_connections() {
    const EACH: usize = 10_000;
    let link = Link::spawn().await;
    // 40 kB a second: four times 10 kB take a second together, whoever they belong to.
    link.add("shared_bandwidth", json!({"rate": 40}), &[]).await;
    let began = Instant::now();
    let clients = (0..4).map(|_| async {
        let mut client = connect(link.address).await;
        client.write_all(&[7; EACH]).await.expect("written");
        read_bytes(&mut client, EACH).await
    });
    let all = futures::future::join_all(clients).await;
    assert!(all.iter().all(|got| got == &[7; EACH]));
    // A connection with the rate to itself would be done in a quarter of it.
    assert!(began.elapsed() >= Duration::from_millis(990), "{:?}", began.elapsed());
}

#[tokio::test]
async fn delays_are_drawn_from_what_was_given() {
    let link = Link::spawn().await;
    for (kind, attributes, least) in [
        ("latency_normal", json!({"mean": 200, "deviation": 0}), 200),
        ("latency_pareto", json!({"minimum": 150, "shape": 1_000_000}), 150),
        (
            "latency_quantiles",
            json!({"p0": 120, "p50": 130, "p90": 130, "p99": 130, "p999": 130, "p100": 130}),
            120,
        ),
    ] {
        link.add(kind, attributes, &[]).await;
        let mut client = connect(link.address).await;
        for _ in 0..3 {
            let began = Instant::now();
            round_trip(&mut client, b"late").await;
            assert!(began.elapsed() >= Duration::from_millis(least), "{kind}: {:?}", began.elapsed());
        }
        assert_eq!(link.evidence().delayed_bytes, 12, "{kind}");
        link.remove().await;
    }
}

#[tokio::test]
async fn clients_that_cannot_be_are_refused_with_their_field_and_nothing_is_added() {
    let link = Link::spawn().await;
    let wrong = link.try_add("latency", json!({}), &["db.example"]).await.expect_err("no network");
    assert!(wrong.contains("clients: `db.example` is no address"), "{wrong}");
    let port = link.try_add("refuse", json!({}), &["127.0.0.1"]).await.expect_err("a port has no clients");
    assert!(port.contains("clients: refuse acts on the port"), "{port}");
    assert_eq!(link.api.proxy("echo").await.expect("the proxy").toxics, []);
}

#[tokio::test]
async fn clients_are_shown_as_they_were_given_and_not_where_there_are_none() {
    let link = Link::spawn().await;
    let added = link.try_add("latency", json!({}), &["10.0.0.0/8", "::1"]).await.expect("a toxic");
    assert_eq!(added.clients, ["10.0.0.0/8", "::1"]);
    link.remove().await;
    assert!(link.try_add("latency", json!({}), &[]).await.expect("a toxic").clients.is_empty());
}
