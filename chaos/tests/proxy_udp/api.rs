//! What the API shows of proxies of datagrams, and what it refuses.

use std::collections::BTreeSet;

use chaos::client::Error;
use chaos::fault::{Direction, NetworkFault};
use chaos::toxic::{Transport, Type};
use serde_json::{Value, json};

use crate::support::*;

/// Not where the clients of other tests are, who are given ports at random.
const QUIET: &str = "127.0.0.77:0";

#[tokio::test]
async fn toxics_without_a_meaning_are_refused_and_the_others_named() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    link.api.create("tcp", "127.0.0.1:0", "127.0.0.1:1").await.expect("a proxy");
    let mut refused = BTreeSet::new();
    for (proxy, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp)] {
        for kind in Type::ALL {
            match link.try_add(proxy, kind.name(), "downstream", json!({})).await {
                Ok(_) => link.api.remove_toxic(proxy, "t").await.expect("removed"),
                Err(Error::Refused { status, message }) => {
                    refused.insert((transport.name(), kind.name()));
                    let start =
                        format!("{} has no meaning on a {proxy} proxy; these have: noop, ", kind.name());
                    assert!(status == 400 && message.starts_with(&start), "{status} {message}");
                    assert!(message.contains("packet_loss, ") && message.contains("latency, "), "{message}");
                }
                Err(other) => panic!("{}: {other}", kind.name()),
            }
        }
    }
    let of_tcp = [
        "blackhole",
        "connect_blackhole",
        "fail_first",
        "flap",
        "limit_data",
        "refuse",
        "reset",
        "reset_peer",
        "shared_bandwidth",
        "slicer",
        "slow_close",
        "stall",
        "timeout",
        "truncate",
    ];
    let mut expected: BTreeSet<_> = of_tcp.into_iter().map(|kind| ("udp", kind)).collect();
    expected.insert(("tcp", "reorder"));
    assert_eq!(refused, expected);
    let silence = NetworkFault::Blackhole { sticky: true, direction: Direction::Both };
    let error = link.proxy().inject(silence).await.expect_err("no such thing for datagrams");
    assert_eq!(error.to_string(), "blackhole has no meaning on a udp proxy");
}

/// Status and body of a request.
async fn post(link: &Link, path: &str, body: Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
    let url = format!("http://{}{path}", link.base);
    let answer = client.post(url).body(body.to_string()).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn the_protocol_is_shown_where_it_is_not_tcp_and_stays() {
    let link = Link::to("127.0.0.1:9".parse().expect("an address")).await;
    let tcp = json!({"name": "tcp", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "protocol": "tcp"});
    let (status, shown) = post(&link, "/proxies", tcp).await;
    let keys: Vec<_> = shown.as_object().expect("a proxy").keys().cloned().collect();
    assert_eq!((status, keys.len()), (201, 5), "{shown}");
    let (_, shown) = post(&link, "/proxies/udp", json!({"protocol": "UDP", "idle_timeout": 60_000})).await;
    let listen = link.address.to_string();
    let wanted = json!({"name": "udp", "listen": listen, "upstream": "127.0.0.1:9", "enabled": true, "toxics": [],
        "protocol": "udp", "idle_timeout": 60_000});
    assert_eq!(shown, wanted);
    for (path, body, message) in [
        ("/proxies/udp", json!({"protocol": "tcp"}), "protocol: stays; delete the proxy and create it again"),
        (
            "/proxies/udp",
            json!({"idle_timeout": 1}),
            "idle_timeout: stays; delete the proxy and create it again",
        ),
        ("/proxies/tcp", json!({"protocol": "udp"}), "protocol: stays; delete the proxy and create it again"),
        (
            "/proxies",
            json!({"name": "a", "protocol": "sctp"}),
            "protocol: `sctp` is none of tcp, udp, pg, redis, nats",
        ),
        ("/proxies", json!({"name": "a", "idle_timeout": 5}), "idle_timeout: only a udp proxy has one"),
        ("/proxies", json!({"protocol": "udp", "idle_timeout": 0}), "idle_timeout: at least 1 millisecond"),
    ] {
        let error = format!("bad request body: {message}");
        assert_eq!(post(&link, path, body).await, (400, json!({"error": error, "status": 400})));
    }
}

#[tokio::test]
async fn tls_is_refused_when_it_is_made_and_when_it_is_changed() {
    let link = Link::to("127.0.0.1:9".parse().expect("an address")).await;
    let tls = json!({"originate": {"server_name": "a.test", "insecure": true}});
    let made = json!({"name": "a", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "protocol": "udp", "tls": tls});
    let refused = json!({"error": "tls has no meaning on a udp proxy; leave it out", "status": 400});
    assert_eq!(post(&link, "/proxies", made.clone()).await, (400, refused.clone()));
    assert_eq!(post(&link, "/proxies/udp", json!({"tls": tls})).await, (400, refused));
    assert!(post(&link, "/populate", json!([made])).await.0 == 400);
    assert_eq!(link.api.proxies().await.expect("a list").len(), 1);
}

#[tokio::test]
async fn a_port_that_is_taken_and_an_address_that_is_none_are_told() {
    let link = Link::to("127.0.0.1:9".parse().expect("an address")).await;
    let made = link.api.create_udp("quiet", QUIET, "127.0.0.1:9", None).await.expect("a proxy");
    let listen = made.listen;
    for (listen, message) in [
        (listen.as_str(), format!("listen udp {listen}: bind: address already in use")),
        ("nowhere", "listen udp: address nowhere: missing port in address".to_owned()),
    ] {
        let body = json!({"name": "a", "listen": listen, "upstream": "127.0.0.1:9", "protocol": "udp"});
        let (status, error) = post(&link, "/proxies", body).await;
        assert_eq!((status, error["error"].as_str()), (500, Some(message.as_str())));
    }
    // The same port of TCP is another one.
    link.api.create("b", &listen, "127.0.0.1:9").await.expect("a proxy of TCP beside it");
}

#[tokio::test]
async fn populate_creates_leaves_alone_and_replaces_by_protocol() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let entry = |extra: Value| {
        let mut entry = json!({"name": "dns", "listen": QUIET, "upstream": upstream.address.to_string()});
        let fields = entry.as_object_mut().expect("an object");
        fields.extend(extra.as_object().expect("an object").clone());
        json!([entry])
    };
    let wrong = entry(json!({"protocol": "udp", "toxics": [{"type": "noop"}, {"type": "slicer"}]}));
    let (status, answer) = post(&link, "/populate", wrong).await;
    let message = answer["error"].as_str().expect("a message");
    assert!(status == 400 && message.starts_with("slicer has no meaning"), "{message}");
    assert!(message.ends_with("at toxic 2 at proxy 1"), "{message}");
    assert!(link.registry.get("dns").is_none());
    let toxic = json!({"type": "duplicate", "attributes": {"rate": MILLION}});
    let (status, made) = post(&link, "/populate", entry(json!({"protocol": "udp", "toxics": [toxic]}))).await;
    assert_eq!((status, &made["proxies"][0]["protocol"]), (201, &json!("udp")));
    let listen = made["proxies"][0]["listen"].as_str().expect("an address").to_owned();
    let client = client(listen.parse().expect("an address")).await;
    send(&client, [1]).await;
    assert_eq!(receive_numbers(&client, 2).await, [1, 1]);
    let (_, same) = post(&link, "/populate", entry(json!({"protocol": "udp", "listen": listen}))).await;
    assert_eq!(same["proxies"][0]["toxics"][0]["type"], "duplicate", "left alone");
    let (_, other) = post(&link, "/populate", entry(json!({"listen": listen}))).await;
    assert_eq!(
        (&other["proxies"][0]["toxics"], &other["proxies"][0]["protocol"]),
        (&json!([]), &Value::Null)
    );
    tokio::net::TcpStream::connect(&listen).await.expect("it takes connections now");
}
