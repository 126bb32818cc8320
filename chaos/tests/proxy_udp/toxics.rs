//! Forwarding, and what each toxic does to datagrams.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chaos::client::ToxicChange;
use chaos::fault::{Direction, NetworkFault};
use serde_json::{Map, json};

use crate::support::*;

#[tokio::test]
async fn several_clients_are_answered_each_by_a_session_of_its_own() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(link.client().await);
    }
    for round in 0..20 {
        for (index, client) in (0..).zip(&clients) {
            send(client, [index * 100 + round]).await;
        }
    }
    for (index, client) in (0..).zip(&clients) {
        let wanted: Vec<u32> = (0..20).map(|round| index * 100 + round).collect();
        assert_eq!(receive_numbers(client, 20).await, wanted, "client {index}");
    }
    let sessions: BTreeSet<_> = upstream.heard.lock().iter().map(|(from, _)| *from).collect();
    assert_eq!(sessions.len(), 5, "an upstream socket for each client");
    let counters = link.proxy().counters();
    assert_eq!((counters.accepted, counters.active), (5, 5));
    assert_eq!((counters.bytes_upstream, counters.received_downstream), (400, 400));
    let datagrams = counters.datagrams;
    assert_eq!((datagrams.received_upstream, datagrams.sent_upstream), (100, 100));
    assert_eq!((datagrams.received_downstream, datagrams.dropped), (100, 0));
}

#[tokio::test]
async fn datagrams_keep_their_bounds_whether_they_are_empty_or_large() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    for size in [0, 1, 1_472, 9_000, 65_000] {
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        ask(&client, &payload).await;
    }
}

#[tokio::test]
async fn a_loss_of_everything_loses_all_and_one_of_nothing_none() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    for stream in ["upstream", "downstream"] {
        link.add("packet_loss", stream, json!({"loss_rate": 1.0})).await;
        send(&client, 0..20).await;
        eventually("all are lost", || link.touched().lost == 20).await;
        let change =
            ToxicChange { attributes: Map::from_iter([("loss_rate".into(), json!(0.0))]), toxicity: None };
        link.api.update_toxic("udp", "t", &change).await.expect("updated");
        send(&client, 100..120).await;
        assert_eq!(receive_numbers(&client, 20).await, (100..120).collect::<Vec<_>>());
        assert_eq!(link.touched().lost, 20);
        let evidence = link.proxy().toxic_evidence()[0].1;
        assert_eq!((evidence.swallowed_bytes, evidence.connections), (80, 1));
        link.remove().await;
    }
    assert_eq!(upstream.numbers().len(), 60, "what is lost on its way back has arrived");
}

/// Which of 64 numbers pass a loss of one half.
async fn survivors(seed: u64) -> Vec<u32> {
    let upstream = Upstream::echo().await;
    let link = Link::with(upstream.address, seed, None).await;
    link.add("packet_loss", "upstream", json!({"loss_rate": 0.5})).await;
    send(&link.client().await, 0..64).await;
    let all = || upstream.heard.lock().len() as u64 + link.touched().lost == 64;
    eventually("each has passed or is lost", all).await;
    upstream.numbers()
}

#[tokio::test]
async fn the_same_seed_loses_the_same_datagrams() {
    let first = survivors(3).await;
    assert!((8..56).contains(&first.len()), "{first:?}");
    assert_eq!(survivors(3).await, first);
    assert_ne!(survivors(4).await, first);
}

#[tokio::test]
async fn duplicates_come_twice_in_each_direction() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    link.add("duplicate", "downstream", json!({"rate": MILLION})).await;
    send(&client, 0..3).await;
    assert_eq!(receive_numbers(&client, 6).await, [0, 0, 1, 1, 2, 2]);
    assert_eq!((link.touched().duplicated, upstream.numbers().len()), (3, 3));
    link.remove().await;
    link.add("duplicate", "upstream", json!({"rate": MILLION})).await;
    send(&client, 3..4).await;
    assert_eq!(receive_numbers(&client, 2).await, [3, 3]);
    assert_eq!(upstream.numbers()[3..], [3, 3]);
}

#[tokio::test]
async fn reorder_lets_others_pass() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    // A hold that does not end within the test.
    link.add("reorder", "upstream", json!({"rate": MILLION, "gap": 2, "hold": 3_600_000})).await;
    send(&client, 0..6).await;
    assert_eq!(receive_numbers(&client, 6).await, [1, 2, 0, 4, 5, 3]);
    assert_eq!(link.touched().reordered, 2);
    // One that nobody passes is delivered by the removal.
    send(&client, [6]).await;
    eventually("it is held back", || link.touched().delayed == 3).await;
    link.remove().await;
    assert_eq!(receive_numbers(&client, 1).await, [6]);
}

#[tokio::test]
async fn reorder_delivers_the_last_one_after_its_hold() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    link.add("reorder", "downstream", json!({"rate": MILLION, "gap": 3, "hold": 80})).await;
    let start = Instant::now();
    ask(&client, b"last").await;
    assert!(start.elapsed() >= Duration::from_millis(80));
    assert_eq!((link.touched().reordered, link.touched().delayed), (0, 1));
}

#[tokio::test]
async fn latency_is_not_shorter_than_asked() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    ask(&client, b"before").await;
    link.add("latency", "upstream", json!({"latency": 60})).await;
    let start = Instant::now();
    ask(&client, b"one way").await;
    assert!(start.elapsed() >= Duration::from_millis(60));
    link.try_add("udp", "latency_quantiles", "downstream", json!({"p0": 50, "p100": 70}))
        .await
        .expect_err("the name is taken");
    let both = Map::from_iter([("p0".to_owned(), json!(50))]);
    let toxic = chaos::client::Toxic {
        name: "back".into(),
        kind: "latency_quantiles".into(),
        stream: "downstream".into(),
        toxicity: 1.0,
        attributes: both,
        clients: Vec::new(),
    };
    link.api.add_toxic("udp", &toxic).await.expect("a toxic");
    let start = Instant::now();
    ask(&client, b"both ways").await;
    assert!(start.elapsed() >= Duration::from_millis(110));
}

#[tokio::test]
async fn bandwidth_takes_its_time_for_each_byte() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    link.add("bandwidth", "upstream", json!({"rate": 10})).await;
    let start = Instant::now();
    for _ in 0..2 {
        client.send(&[7; 1_000]).await.expect("sent");
    }
    for _ in 0..2 {
        assert_eq!(receive(&client).await.expect("an answer"), [7; 1_000]);
    }
    assert!(start.elapsed() >= Duration::from_millis(200), "2000 bytes at 10 kB/s");
}

#[tokio::test]
async fn corrupt_flips_bits_and_keeps_the_size() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    link.add("corrupt", "upstream", json!({"rate": MILLION})).await;
    client.send(&[0; 100]).await.expect("sent");
    let answer = receive(&client).await.expect("an answer");
    assert_eq!(answer.len(), 100);
    assert!(answer.iter().all(|byte| byte.count_ones() == 1), "one bit of each byte: {answer:?}");
}

#[tokio::test]
async fn a_removed_or_changed_latency_delivers_what_it_kept_back() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    link.add("latency", "upstream", json!({"latency": 3_600_000})).await;
    send(&client, 0..5).await;
    eventually("all are kept back", || link.touched().delayed == 5).await;
    let change =
        ToxicChange { attributes: Map::from_iter([("latency".into(), json!(7_200_000))]), toxicity: None };
    link.api.update_toxic("udp", "t", &change).await.expect("updated");
    assert_eq!(receive_numbers(&client, 5).await, [0, 1, 2, 3, 4]);
    send(&client, 5..8).await;
    eventually("these too", || link.touched().delayed == 8).await;
    link.api.reset().await.expect("reset");
    assert_eq!(receive_numbers(&client, 3).await, [5, 6, 7]);
}

/// Asks again and again, one datagram at a time.
async fn ask_often(address: SocketAddr, first: u32) {
    let client = client(address).await;
    for number in first..first + 100 {
        send(&client, [number]).await;
        assert_eq!(receive_numbers(&client, 1).await, [number]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_while_toxics_come_change_and_go() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let clients: Vec<_> =
        (0..8).map(|client| tokio::spawn(ask_often(link.address, client * 1_000))).collect();
    let mut turns = (0..).zip(
        [
            ("latency", json!({"latency": 2, "jitter": 2})),
            ("reorder", json!({"rate": MILLION / 2, "gap": 2, "hold": 3})),
            ("bandwidth", json!({"rate": 100})),
            ("packet_loss", json!({"loss_rate": 0})),
        ]
        .into_iter()
        .cycle(),
    );
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        let (turn, (kind, attributes)) = turns.next().expect("it has no end");
        link.add(kind, if turn % 2 == 0 { "upstream" } else { "downstream" }, attributes).await;
        let change = ToxicChange { attributes: Map::new(), toxicity: Some(0.5) };
        link.api.update_toxic("udp", "t", &change).await.expect("updated");
        link.remove().await;
    }
    for client in clients {
        client.await.expect("every datagram was answered");
    }
    assert_eq!((upstream.numbers().len(), link.proxy().counters().datagrams.dropped), (800, 0));
}

#[tokio::test]
async fn toxics_act_on_the_clients_that_are_meant_and_by_their_toxicity() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    let toxic = |clients: &[&str], toxicity: f32| chaos::client::Toxic {
        name: "t".into(),
        kind: "packet_loss".into(),
        stream: "upstream".into(),
        toxicity,
        attributes: Map::from_iter([("loss_rate".to_owned(), json!(1))]),
        clients: clients.iter().map(|client| (*client).to_owned()).collect(),
    };
    for harmless in [toxic(&["10.0.0.0/8"], 1.0), toxic(&[], 0.0)] {
        link.api.add_toxic("udp", &harmless).await.expect("a toxic");
        ask(&client, b"not meant").await;
        link.remove().await;
    }
    link.api.add_toxic("udp", &toxic(&["127.0.0.1"], 1.0)).await.expect("a toxic");
    send(&client, [1]).await;
    eventually("it is lost", || link.touched().lost == 1).await;
}

#[tokio::test]
async fn a_fault_from_rust_acts_until_its_guard_heals() {
    let upstream = Upstream::echo().await;
    let link = Link::to(upstream.address).await;
    let client = link.client().await;
    let fault = NetworkFault::Duplicate { rate_ppm: MILLION, direction: Direction::Upstream };
    let guard = link.proxy().inject(fault).await.expect("a guard");
    send(&client, [1]).await;
    assert_eq!(receive_numbers(&client, 2).await, [1, 1]);
    assert_eq!(guard.heal().await.duplicated_bytes, 4);
    send(&client, [2, 3]).await;
    assert_eq!(receive_numbers(&client, 2).await, [2, 3]);
}
