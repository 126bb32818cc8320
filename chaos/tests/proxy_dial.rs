//! What becomes of a client whose upstream cannot be reached, as the proxy was told.

mod api_support;
mod proxy_support;

use std::net::SocketAddr;
use std::time::Duration;

use chaos::proxy::{DialFailure, Proxy, ProxyConfig};
use proxy_support::*;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

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
    tokio::time::timeout(Duration::from_secs(5), retrying.stop()).await.expect("at once");
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);
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
