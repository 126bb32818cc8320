//! What becomes of a client whose upstream cannot be reached, as the proxy was told.

mod api_support;
mod proxy_support;
#[expect(dead_code, reason = "tests of TLS need more of it")]
mod tls_support;

use std::net::SocketAddr;
use std::time::Duration;

use chaos::fault::NetworkFault;
use chaos::proxy::{DialFailure, Proxy, ProxyConfig};
use proxy_support::*;
use serde_json::{Value, json};
use socket2::SockRef;
use tls_support::{Authority, config, rest, terminating};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An address where nobody listens, until somebody does.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address")
}

async fn proxy(upstream: SocketAddr, dial_failure: DialFailure) -> Proxy {
    let config = ProxyConfig {
        name: "link".into(),
        listen: "127.0.0.1:0".into(),
        upstream: upstream.to_string(),
        seed: 1,
        protocol: None,
        udp: None,
        tls: None,
        dial_failure: Some(dial_failure),
    };
    Proxy::start(config).await.expect("a proxy")
}

#[tokio::test]
async fn a_client_is_closed_or_reset_as_it_was_said() {
    let upstream = nobody().await;
    let closing = proxy(upstream, DialFailure::Close).await;
    let mut client = connect(closing.listen_address()).await;
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);

    let resetting = proxy(upstream, DialFailure::Reset).await;
    assert_reset(&mut connect(resetting.listen_address()).await).await;
    assert_eq!(resetting.counters().reset, 0, "no toxic reset it");
    eventually("the dial is counted", || resetting.counters().refused_dials == 1).await;
}

#[tokio::test]
async fn an_upstream_that_answers_is_reached_whatever_was_said() {
    let upstream = echo().await;
    for dial_failure in DialFailure::ALL {
        let proxy = proxy(upstream, dial_failure).await;
        round_trip(&mut connect(proxy.listen_address()).await, b"through").await;
        assert_eq!(proxy.counters().refused_dials, 0, "{dial_failure:?}");
    }
}

#[tokio::test]
async fn a_client_waits_for_an_upstream_that_comes_up() {
    let upstream = nobody().await;
    let retrying = proxy(upstream, DialFailure::Retry).await;
    let mut client = connect(retrying.listen_address()).await;
    assert_silent(&mut client).await;
    eventually("it is dialled again", || retrying.counters().refused_dials > 1).await;
    let listener = TcpListener::bind(upstream).await.expect("the port is still free");
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("the proxy dials");
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await.expect("an echo");
    });
    round_trip(&mut client, b"at last").await;
}

#[tokio::test]
async fn a_proxy_that_ends_does_not_wait_for_a_client_that_waits() {
    let retrying = proxy(nobody().await, DialFailure::Retry).await;
    let mut client = connect(retrying.listen_address()).await;
    assert_silent(&mut client).await;
    timeout(Duration::from_secs(5), retrying.stop()).await.expect("at once");
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);
}

/// The proxy lets go of the only client, long before it would give the upstream up.
async fn assert_let_go(retrying: &Proxy) {
    let waited = timeout(Duration::from_secs(10), async {
        while retrying.counters().active > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("a client that left is let go");
}

/// Takes the connection that the proxy dials at last, and returns what comes there up to the end.
async fn answered_late(upstream: SocketAddr, answer: &'static [u8]) -> JoinHandle<Vec<u8>> {
    let listener = TcpListener::bind(upstream).await.expect("the port is still free");
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("the proxy dials");
        let mut came = Vec::new();
        socket.read_to_end(&mut came).await.expect("an orderly end");
        socket.write_all(answer).await.expect("written");
        came
    })
}

#[tokio::test]
async fn a_client_that_leaves_without_a_byte_is_not_waited_with() {
    let retrying = proxy(nobody().await, DialFailure::Retry).await;
    let mut client = connect(retrying.listen_address()).await;
    assert_silent(&mut client).await;
    drop(client);
    assert_let_go(&retrying).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_a_dial_is_not_answered_is_not_waited_with() {
    let deaf = proxy(echo().await, DialFailure::Close).await;
    let _fault = deaf.inject(NetworkFault::ConnectBlackhole {}).await.expect("a fault");
    let retrying = proxy(deaf.listen_address(), DialFailure::Retry).await;
    let mut client = connect(retrying.listen_address()).await;
    assert_silent(&mut client).await;
    drop(client);
    assert_let_go(&retrying).await;
    assert_eq!(retrying.counters().refused_dials, 0, "the first dial was still waiting");
}

#[tokio::test]
async fn a_client_that_resets_is_not_waited_with_whatever_it_sent() {
    let retrying = proxy(nobody().await, DialFailure::Retry).await;
    let mut client = connect(retrying.listen_address()).await;
    client.write_all(b"too early").await.expect("written");
    assert_silent(&mut client).await;
    assert_eq!(retrying.counters().active, 1, "what it sent is no end");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a reset");
    drop(client);
    assert_let_go(&retrying).await;
}

#[tokio::test]
async fn what_a_client_sent_before_its_end_is_kept_for_the_upstream() {
    let upstream = nobody().await;
    let retrying = proxy(upstream, DialFailure::Retry).await;
    let mut client = connect(retrying.listen_address()).await;
    client.write_all(b"one ").await.expect("written");
    eventually("it is dialled again", || retrying.counters().refused_dials > 1).await;
    client.write_all(b"two").await.expect("written");
    client.shutdown().await.expect("an end");
    assert_silent(&mut client).await;
    let came = answered_late(upstream, b"both").await;
    assert_eq!(read_bytes(&mut client, 4).await, b"both");
    assert_eq!(came.await.expect("a server"), b"one two");
}

#[tokio::test]
async fn an_encrypted_client_is_watched_and_kept_as_a_plain_one() {
    let (upstream, authority) = (nobody().await, Authority::new());
    let config =
        ProxyConfig { dial_failure: Some(DialFailure::Retry), ..config(upstream, terminating(&authority)) };
    let retrying = Proxy::start(config).await.expect("a proxy");
    let mut leaving = authority.connect(retrying.listen_address()).await.expect("a handshake");
    eventually("it is dialled again", || retrying.counters().refused_dials > 1).await;
    leaving.shutdown().await.expect("a farewell");
    assert_let_go(&retrying).await;
    drop(leaving);

    // Without a word of farewell.
    let (leaving, _) = authority.connect(retrying.listen_address()).await.expect("a handshake").into_inner();
    eventually("it is served", || retrying.counters().active == 1).await;
    drop(leaving);
    assert_let_go(&retrying).await;

    let mut client = authority.connect(retrying.listen_address()).await.expect("a handshake");
    client.write_all(b"kept").await.expect("written");
    client.shutdown().await.expect("the end of the requests");
    let dialled = retrying.counters().refused_dials;
    eventually("it is dialled again", || retrying.counters().refused_dials > dialled + 1).await;
    let came = answered_late(upstream, b"answer").await;
    assert_eq!(rest(&mut client).await.expect("an orderly end"), b"answer");
    assert_eq!(came.await.expect("a server"), b"kept");
}

async fn post(address: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{address}{path}");
    let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn the_api_takes_it_at_creation_shows_it_and_tells_what_there_is() {
    let (api, _registry, _end) = api_support::serve().await;
    let upstream = nobody().await.to_string();
    let body = json!({"name": "p", "listen": "127.0.0.1:0", "upstream": upstream, "dial_failure": "reset"});
    let (status, made) = post(&api, "/proxies", body).await;
    assert_eq!((status, &made["dial_failure"]), (201, &json!("reset")));
    let listen: SocketAddr = made["listen"].as_str().expect("an address").parse().expect("an address");
    assert_reset(&mut TcpStream::connect(listen).await.expect("a connection")).await;

    let (status, told) = post(&api, "/proxies/p", json!({"dial_failure": "retry"})).await;
    assert_eq!(status, 400);
    assert_eq!(told["error"], "bad request body: dial_failure: stays; delete the proxy and create it again");
    let (status, shown) = post(&api, "/proxies/p", json!({"dial_failure": "RESET"})).await;
    assert_eq!((status, &shown["dial_failure"]), (200, &json!("reset")));

    let wrong = json!({"name": "q", "upstream": "h:1", "dial_failure": "give-up"});
    let (status, told) = post(&api, "/proxies", wrong).await;
    let message = "bad request body: dial_failure: `give-up` is none of close, reset, retry";
    assert_eq!((status, &told["error"]), (400, &json!(message)));
    let datagrams = json!({"name": "q", "upstream": "h:1", "protocol": "udp", "dial_failure": "close"});
    assert_eq!(post(&api, "/proxies", datagrams).await.0, 400);
    let plain = json!({"name": "r", "upstream": "h:1", "dial_failure": "close"});
    let (status, made) = post(&api, "/proxies", plain).await;
    assert!(status == 201 && made.get("dial_failure").is_none(), "{made}");
}

#[tokio::test]
async fn populate_leaves_what_it_says_nothing_of_and_replaces_what_differs() {
    let (api, registry, _end) = api_support::serve().await;
    let upstream = nobody().await.to_string();
    let body = json!({"name": "p", "listen": "127.0.0.1:0", "upstream": upstream, "dial_failure": "reset"});
    let (_, made) = post(&api, "/proxies", body).await;
    let again = |dial_failure: Value| json!([{"name": "p", "listen": made["listen"], "upstream": upstream, "dial_failure": dial_failure}]);
    let is = || registry.get("p").expect("the proxy").dial_failure();
    assert_eq!(post(&api, "/populate", again(json!(null))).await.0, 201);
    assert_eq!(is(), DialFailure::Reset);
    assert_eq!(post(&api, "/populate", again(json!("close"))).await.0, 201);
    assert_eq!(is(), DialFailure::Close);
}
