//! Sessions of proxies of datagrams: their begin and end, their bounds, and what is told of them.

use std::io::ErrorKind;
use std::time::Duration;

use chaos::client::ProxyChange;
use chaos::fault::{Direction, NetworkFault};
use chaos::proxy::event::{How, What};
use chaos::proxy::{Event, Proxy, ProxyConfig, udp};
use serde_json::json;
use tokio::sync::broadcast::Receiver;

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// A proxy without the API.
async fn proxy(upstream: &str, udp: udp::Config) -> Proxy {
    let config = ProxyConfig {
        name: "udp".into(),
        listen: "127.0.0.1:0".into(),
        upstream: upstream.into(),
        seed: 7,
        protocol: None,
        udp: Some(udp),
        tls: None,
        dial_failure: None,
    };
    Proxy::start(config).await.expect("a proxy")
}

/// The next event that is wanted.
async fn event<T>(events: &mut Receiver<Event>, wanted: impl Fn(&What) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.recv().await.expect("the next event");
            if let Some(found) = wanted(&event.what) {
                return found;
            }
        }
    };
    tokio::time::timeout(DEADLINE, search).await.expect("the event in time")
}

fn ended(what: &What) -> Option<How> {
    match what {
        What::Ended { how, .. } => Some(*how),
        _ => None,
    }
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_the_next_datagram_begins_another() {
    let upstream = Upstream::echo().await;
    let link = Link::with(upstream.address, 7, Some(Duration::from_secs(1))).await;
    let mut events = link.registry.events();
    let client = link.client().await;
    ask(&client, b"first").await;
    assert_eq!(event(&mut events, ended).await, How::Idle);
    eventually("none is left", || link.proxy().counters().active == 0).await;
    ask(&client, b"second").await;
    assert_eq!(link.proxy().counters().accepted, 2);
    assert_eq!(event(&mut events, ended).await, How::Idle);
}

#[tokio::test]
async fn a_session_whose_datagrams_wait_is_not_idle() {
    let upstream = Upstream::echo().await;
    let idle = Duration::from_millis(300);
    let proxy = proxy(&upstream.address.to_string(), udp::Config { idle, ..udp::Config::default() }).await;
    let latency = NetworkFault::Latency {
        delay: Duration::from_millis(1_200),
        jitter: Duration::ZERO,
        direction: Direction::Upstream,
    };
    let _guard = proxy.inject(latency).await.expect("a guard");
    let client = client(proxy.listen_address()).await;
    ask(&client, b"four times as long").await;
    assert_eq!(proxy.counters().accepted, 1);
}

#[tokio::test]
async fn the_session_that_was_idle_for_longest_makes_room() {
    let upstream = Upstream::echo().await;
    let proxy =
        proxy(&upstream.address.to_string(), udp::Config { sessions_max: 2, ..udp::Config::default() }).await;
    let mut events = proxy.events();
    let (first, second, third) = (
        client(proxy.listen_address()).await,
        client(proxy.listen_address()).await,
        client(proxy.listen_address()).await,
    );
    ask(&first, b"first").await;
    ask(&second, b"second").await;
    ask(&first, b"first again").await;
    ask(&third, b"third").await;
    let displaced = async {
        loop {
            let event = events.recv().await.expect("the next event");
            if let What::Ended { how, .. } = event.what {
                return (event.connection, how);
            }
        }
    };
    let displaced = tokio::time::timeout(DEADLINE, displaced).await.expect("in time");
    assert_eq!(displaced, (Some(2), How::Displaced));
    eventually("two are left", || proxy.counters().active == 2).await;
    ask(&first, b"first is still there").await;
    assert_eq!(proxy.counters().accepted, 3);
    ask(&second, b"second begins another").await;
    assert_eq!(proxy.counters().accepted, 4);
    eventually("two are left", || proxy.counters().active == 2).await;
}

#[tokio::test]
async fn what_finds_no_room_is_dropped_and_counted() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(
        &upstream.address.to_string(),
        udp::Config { queue_bytes_max: 1_000, ..udp::Config::default() },
    )
    .await;
    let latency =
        NetworkFault::Latency { delay: HOUR, jitter: Duration::ZERO, direction: Direction::Upstream };
    let guard = proxy.inject(latency).await.expect("a guard");
    let client = client(proxy.listen_address()).await;
    for number in 0..10_u8 {
        client.send(&[number; 100]).await.expect("sent");
    }
    // With what each costs beside its bytes, there is room for two.
    eventually("eight are dropped", || proxy.counters().datagrams.dropped == 8).await;
    drop(guard);
    for number in 0..2 {
        assert_eq!(receive(&client).await.expect("an answer"), [number; 100]);
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_found_ends_the_session_and_not_the_proxy() {
    let upstream = Upstream::echo().await;
    let proxy = proxy("no.invalid:53", udp::Config::default()).await;
    let mut events = proxy.events();
    let client = client(proxy.listen_address()).await;
    send(&client, [1]).await;
    assert_eq!(event(&mut events, ended).await, How::NoUpstream);
    let counters = proxy.counters();
    assert_eq!((counters.refused_dials, counters.datagrams.dropped), (1, 1));
    eventually("none is left", || proxy.counters().active == 0).await;
    proxy.set_upstream(upstream.address.to_string());
    ask(&client, b"found").await;
}

#[tokio::test]
async fn events_and_metrics_tell_what_was_done() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let mut events = link.registry.events();
    link.add("packet_loss", "upstream", json!({"loss_rate": 1})).await;
    let client = link.client().await;
    send(&client, 0..3).await;
    let struck = event(&mut events, |what| match what {
        What::Struck { kind, .. } => Some(*kind),
        _ => None,
    });
    assert_eq!(struck.await, "packet_loss");
    eventually("all are lost", || link.touched().lost == 3).await;
    let page = link.api.metrics().await.expect("an answer").expect("a page");
    for line in [
        "chaos_proxy_connections{proxy=\"udp\"} 1",
        "chaos_proxy_received_datagrams_total{direction=\"upstream\",proxy=\"udp\"} 3",
        "chaos_proxy_sent_datagrams_total{direction=\"upstream\",proxy=\"udp\"} 0",
        "chaos_proxy_dropped_datagrams_total{proxy=\"udp\"} 0",
        "chaos_toxic_lost_datagrams_total{proxy=\"udp\",stream=\"upstream\",toxic=\"t\",type=\"packet_loss\"} 3",
        "chaos_toxic_dropped_bytes_total{proxy=\"udp\",stream=\"upstream\",toxic=\"t\",type=\"packet_loss\"} 12",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    link.remove().await;
    ask(&client, b"through").await;
    link.api.delete("udp").await.expect("deleted");
    let carried = event(&mut events, |what| match what {
        What::Datagrams { .. } => Some(what.clone()),
        _ => None,
    });
    let wanted = What::Datagrams { upstream: 1, downstream: 1, lost: 3, duplicated: 0, reordered: 0 };
    assert_eq!(carried.await, wanted);
    let bytes = event(&mut events, |what| match what {
        What::Ended { how, bytes_upstream, bytes_downstream, .. } => {
            Some((*how, *bytes_upstream, *bytes_downstream))
        }
        _ => None,
    });
    assert_eq!(bytes.await, (How::Closed, 7, 7));
}

#[tokio::test]
async fn disabling_closes_the_port_and_enabling_opens_it_again() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let before = link.client().await;
    ask(&before, b"before").await;
    link.add("latency", "upstream", json!({"latency": 3_600_000})).await;
    send(&before, 0..5).await;
    eventually("they wait", || link.touched().delayed == 5).await;
    let change = |enabled| ProxyChange { enabled: Some(enabled), ..ProxyChange::default() };
    link.api.update("udp", &change(false)).await.expect("disabled");
    assert_eq!(link.proxy().counters().active, 0);
    assert_eq!(link.proxy().counters().datagrams.dropped, 5, "what waited ended with its session");
    std::net::UdpSocket::bind(link.address).expect("the port is free");
    send(&before, [9]).await;
    assert_eq!(receive(&before).await.expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused);
    link.api.update("udp", &change(true)).await.expect("enabled");
    link.remove().await;
    ask(&before, b"again").await;
    link.api.update("udp", &change(false)).await.expect("disabled");
    link.api.reset().await.expect("reset");
    ask(&before, b"reset enables it").await;
    link.api.delete("udp").await.expect("deleted");
    std::net::UdpSocket::bind(link.address).expect("the port is free");
}

#[tokio::test]
async fn an_upstream_that_was_away_is_spoken_to_when_it_is_back() {
    let mut upstream = Upstream::echo().await;
    let address = upstream.address;
    let link = Link::to(address).await;
    let client = link.client().await;
    ask(&client, b"there").await;
    upstream.task.abort();
    (&mut upstream.task).await.expect_err("its port is closed now");
    let mut events = link.registry.events();
    // The first meets nobody; the refusal of the others is told no second time.
    send(&client, [1]).await;
    let reason = event(&mut events, |what| match what {
        What::DialFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.await, "connection refused");
    send(&client, [2]).await;
    eventually("both refusals are counted", || link.proxy().counters().refused_dials >= 2).await;
    let upstream = Upstream::echo_at(address).await;
    ask(&client, b"back").await;
    assert_eq!((upstream.heard.lock().len(), link.proxy().counters().accepted), (1, 1), "the same session");
    assert!(events.try_recv().is_err(), "nothing was told twice");
}
