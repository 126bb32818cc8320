//! The proxy and its faults with real sockets, on live connections and on new ones.

mod proxy_support;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chaos::fault::{Direction, Existing, NetworkFault};
use chaos::proxy::{Proxy, ProxyConfig};
use proxy_support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

async fn proxy_to(upstream: SocketAddr) -> Proxy {
    let config = ProxyConfig {
        name: "link".into(),
        listen: "127.0.0.1:0".into(),
        upstream: upstream.to_string(),
        seed: 7,
        protocol: None,
        udp: None,
        tls: None,
        dial_failure: None,
    };
    Proxy::start(config).await.expect("a proxy")
}

async fn echo_proxy() -> Proxy {
    proxy_to(echo().await).await
}

/// A connection through the proxy that has carried bytes both ways.
async fn live(proxy: &Proxy) -> TcpStream {
    let mut client = connect(proxy.listen_address()).await;
    round_trip(&mut client, b"hello").await;
    client
}

async fn refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Carries a byte from the client to the server, so that the proxy has both sockets for sure.
async fn establish(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"x").await.expect("written");
    assert_eq!(read_bytes(server, 1).await, b"x");
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 % 251) as u8).collect()
}

const REFUSE_ALL: NetworkFault = NetworkFault::Refuse { existing: Existing::Reset };

fn latency(millis: u64, direction: Direction) -> NetworkFault {
    NetworkFault::Latency { delay: Duration::from_millis(millis), jitter: Duration::ZERO, direction }
}

fn blackhole(sticky: bool) -> NetworkFault {
    NetworkFault::Blackhole { sticky, direction: Direction::Both }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_megabytes_pass_both_ways_unchanged_and_a_half_close_ends_one_way_only() {
    let proxy = echo_proxy().await;
    let bytes = pattern(5_000_000);
    let (mut reading, mut writing) = connect(proxy.listen_address()).await.into_split();
    let sent = bytes.clone();
    let writer = tokio::spawn(async move {
        writing.write_all(&sent).await.expect("written");
        writing.shutdown().await.expect("half closed");
        writing
    });
    let mut answer = Vec::new();
    timeout(DEADLINE, reading.read_to_end(&mut answer)).await.expect("in time").expect("the answer");
    assert!(answer == bytes, "{} bytes came back of {}", answer.len(), bytes.len());
    writer.await.expect("the writer");
    eventually("the connection is over", || proxy.counters().active == 0).await;
    let counters = proxy.counters();
    assert_eq!((counters.bytes_upstream, counters.bytes_downstream), (5_000_000, 5_000_000));
    assert_eq!((counters.accepted, counters.reset, counters.refused_dials), (1, 0, 0));
}

#[tokio::test]
async fn an_answer_after_the_clients_half_close_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = proxy_to(listener.local_addr().expect("an address")).await;
    let mut client = connect(proxy.listen_address()).await;
    client.write_all(b"question").await.expect("written");
    client.shutdown().await.expect("half closed");
    let (mut server, _) = listener.accept().await.expect("a connection");
    let mut question = String::new();
    server.read_to_string(&mut question).await.expect("the question and its end");
    server.write_all(b"answer").await.expect("written");
    drop(server);
    let mut answer = String::new();
    timeout(DEADLINE, client.read_to_string(&mut answer)).await.expect("in time").expect("the answer");
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
}

#[tokio::test]
async fn a_dial_that_fails_closes_the_client_and_a_new_upstream_serves_the_next() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let proxy = proxy_to(gone).await;
    let mut client = connect(proxy.listen_address()).await;
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);
    assert_eq!(proxy.counters().refused_dials, 1);
    proxy.set_upstream(echo().await.to_string());
    live(&proxy).await;
}

#[tokio::test]
async fn a_reset_by_the_server_reaches_the_client_as_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = proxy_to(listener.local_addr().expect("an address")).await;
    let mut client = connect(proxy.listen_address()).await;
    let (mut server, _) = listener.accept().await.expect("a connection");
    establish(&mut client, &mut server).await;
    server.set_zero_linger().expect("linger");
    drop(server);
    assert_reset(&mut client).await;
    assert_eq!(proxy.counters().reset, 0, "it was not the proxy's doing");
}

#[tokio::test]
async fn refuse_resets_live_connections_refuses_new_ones_and_heals_on_the_same_port() {
    let proxy = echo_proxy().await;
    let address = proxy.listen_address();
    let mut client = live(&proxy).await;
    let guard = proxy.inject(REFUSE_ALL).await.expect("a guard");
    assert_reset(&mut client).await;
    assert!(refused(address).await);
    assert_eq!(proxy.active_faults(), 1);
    eventually("refusals are counted again and again", || guard.evidence().refused >= 2).await;
    let evidence = guard.heal().await;
    assert_eq!((evidence.reset, evidence.connections), (1, 1));
    assert_eq!((proxy.listen_address(), proxy.active_faults()), (address, 0));
    live(&proxy).await;
}

#[tokio::test]
async fn refuse_can_keep_live_connections() {
    let proxy = echo_proxy().await;
    let mut client = live(&proxy).await;
    let guard = proxy.inject(NetworkFault::Refuse { existing: Existing::Keep }).await.expect("a guard");
    round_trip(&mut client, b"still here").await;
    assert!(refused(proxy.listen_address()).await);
    assert_eq!(guard.heal().await.reset, 0);
}

#[tokio::test]
async fn the_port_opens_only_when_the_last_of_two_refusals_heals() {
    let proxy = echo_proxy().await;
    let first = proxy.inject(REFUSE_ALL).await.expect("a guard");
    let second = proxy.inject(REFUSE_ALL).await.expect("a guard");
    first.heal().await;
    assert!(refused(proxy.listen_address()).await);
    second.heal().await;
    live(&proxy).await;
}

#[tokio::test]
async fn a_guard_that_is_dropped_heals() {
    let proxy = echo_proxy().await;
    drop(proxy.inject(REFUSE_ALL).await.expect("a guard"));
    assert_eq!(proxy.active_faults(), 0);
    let reopened = timeout(DEADLINE, async {
        while TcpStream::connect(proxy.listen_address()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    reopened.await.expect("the port is open again");
    live(&proxy).await;
}

#[tokio::test]
async fn reset_ends_idle_connections_and_new_ones_with_rst_on_both_sides() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = proxy_to(listener.local_addr().expect("an address")).await;
    let mut idle = connect(proxy.listen_address()).await;
    let (mut server, _) = listener.accept().await.expect("a connection");
    establish(&mut idle, &mut server).await;
    let guard = proxy.inject(NetworkFault::Reset {}).await.expect("a guard");
    assert_eq!(guard.evidence().reset, 1, "the live one, when inject returns");
    assert_reset(&mut idle).await;
    assert_reset(&mut server).await;
    let mut new = connect(proxy.listen_address()).await;
    assert_reset(&mut new).await;
    let evidence = guard.heal().await;
    assert_eq!((evidence.reset, proxy.counters().reset), (2, 2));
    let mut healed = connect(proxy.listen_address()).await;
    let (mut server, _) = listener.accept().await.expect("a connection");
    healed.write_all(b"x").await.expect("written");
    assert_eq!(read_bytes(&mut server, 1).await, b"x");
}

#[tokio::test]
async fn a_sticky_blackhole_outlives_its_heal_on_the_connections_that_it_silenced() {
    let proxy = echo_proxy().await;
    let mut old = live(&proxy).await;
    let guard = proxy.inject(blackhole(true)).await.expect("a guard");
    let mut during = connect(proxy.listen_address()).await;
    for client in [&mut old, &mut during] {
        client.write_all(b"lost").await.expect("the peer acknowledges");
    }
    eventually("both were swallowed", || guard.evidence().swallowed_bytes == 8).await;
    assert_silent(&mut old).await;
    assert_silent(&mut during).await;
    let evidence = guard.heal().await;
    assert_eq!((evidence.connections, evidence.reset), (2, 0));
    for client in [&mut old, &mut during] {
        client.write_all(b"lost too").await.expect("the peer acknowledges");
        assert_silent(client).await;
    }
    live(&proxy).await;
    eventually("the healthy one is freed", || proxy.counters().active == 2).await;
    drop((old, during));
    eventually("silenced connections are freed when their client closes", || proxy.counters().active == 0)
        .await;
}

#[tokio::test]
async fn a_client_behind_a_blackhole_does_not_hear_that_its_server_went_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = proxy_to(listener.local_addr().expect("an address")).await;
    let mut client = connect(proxy.listen_address()).await;
    let (mut server, _) = listener.accept().await.expect("a connection");
    establish(&mut client, &mut server).await;
    let down = NetworkFault::Blackhole { sticky: true, direction: Direction::Downstream };
    let guard = proxy.inject(down).await.expect("a guard");
    eventually("the connection is silenced", || guard.evidence().connections == 1).await;
    server.set_zero_linger().expect("linger");
    drop((server, listener));
    assert_silent(&mut client).await;
    client.write_all(b"into the void").await.expect("the peer acknowledges");
    assert_silent(&mut client).await;
    let mut new = connect(proxy.listen_address()).await;
    assert_silent(&mut new).await;
    drop((client, new));
    eventually("both are freed", || proxy.counters().active == 0).await;
}

#[tokio::test]
async fn a_blackhole_that_does_not_stick_delivers_what_it_held() {
    let proxy = echo_proxy().await;
    let mut old = live(&proxy).await;
    let guard = proxy.inject(blackhole(false)).await.expect("a guard");
    let mut new = connect(proxy.listen_address()).await;
    old.write_all(b"held 1").await.expect("written");
    new.write_all(b"held 2").await.expect("written");
    eventually("both are held", || guard.evidence().delayed_bytes >= 12).await;
    assert_silent(&mut old).await;
    assert_silent(&mut new).await;
    guard.heal().await;
    assert_eq!(read_bytes(&mut old, 6).await, b"held 1");
    assert_eq!(read_bytes(&mut new, 6).await, b"held 2");
}

#[tokio::test]
async fn a_blackhole_of_one_direction_lets_the_other_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = proxy_to(listener.local_addr().expect("an address")).await;
    let mut client = connect(proxy.listen_address()).await;
    let (mut server, _) = listener.accept().await.expect("a connection");
    let up = NetworkFault::Blackhole { sticky: true, direction: Direction::Upstream };
    let _guard = proxy.inject(up).await.expect("a guard");
    server.write_all(b"down").await.expect("written");
    assert_eq!(read_bytes(&mut client, 4).await, b"down");
    client.write_all(b"up").await.expect("written");
    assert_silent(&mut server).await;
}

#[tokio::test]
async fn latency_delays_live_and_new_connections_by_at_least_its_amount() {
    let proxy = echo_proxy().await;
    let mut old = live(&proxy).await;
    let guard = proxy.inject(latency(60, Direction::Both)).await.expect("a guard");
    for client in [&mut old, &mut connect(proxy.listen_address()).await] {
        let start = Instant::now();
        round_trip(client, b"slow").await;
        assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
    }
    let evidence = guard.heal().await;
    assert_eq!((evidence.delayed_bytes, evidence.forwarded_bytes, evidence.connections), (16, 16, 2));
}

#[tokio::test]
async fn healing_latency_delivers_sleeping_bytes_at_once() {
    let proxy = echo_proxy().await;
    let mut client = live(&proxy).await;
    let guard = proxy.inject(latency(3_600_000, Direction::Upstream)).await.expect("a guard");
    client.write_all(b"asleep").await.expect("written");
    eventually("the bytes sleep", || guard.evidence().delayed_bytes == 6).await;
    guard.heal().await;
    assert_eq!(read_bytes(&mut client, 6).await, b"asleep");
}

#[tokio::test]
async fn latency_is_pipelined_and_keeps_the_order_under_jitter() {
    let proxy = echo_proxy().await;
    let fault = NetworkFault::Latency {
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(25),
        direction: Direction::Upstream,
    };
    let _guard = proxy.inject(fault).await.expect("a guard");
    let (mut reading, mut writing) = connect(proxy.listen_address()).await.into_split();
    let bytes = pattern(2_000_000);
    let sent = bytes.clone();
    let writer = tokio::spawn(async move {
        writing.write_all(&sent).await.expect("written");
        writing
    });
    let mut answer = vec![0; bytes.len()];
    // 30 chunks of 64 KiB, one after the other, would take a second; the deadline is that of a busy machine.
    timeout(DEADLINE, reading.read_exact(&mut answer)).await.expect("in time").expect("the answer");
    assert!(answer == bytes);
    writer.await.expect("the writer");
}

#[tokio::test]
async fn bandwidth_bounds_a_live_and_a_new_connection_each() {
    let proxy = echo_proxy().await;
    let old = live(&proxy).await;
    let fault = NetworkFault::Bandwidth {
        bytes_per_second: 200_000,
        shared: false,
        direction: Direction::Downstream,
    };
    let guard = proxy.inject(fault).await.expect("a guard");
    for mut client in [old, connect(proxy.listen_address()).await] {
        let start = Instant::now();
        round_trip(&mut client, &pattern(60_000)).await;
        assert!(start.elapsed() >= Duration::from_millis(285), "{:?}", start.elapsed());
    }
    let evidence = guard.heal().await;
    assert_eq!((evidence.delayed_bytes, evidence.connections), (120_000, 2));
}

#[tokio::test]
async fn several_faults_act_on_one_proxy_at_once() {
    let proxy = echo_proxy().await;
    let mut client = live(&proxy).await;
    let slow = proxy.inject(latency(40, Direction::Upstream)).await.expect("a guard");
    let thin = NetworkFault::Bandwidth {
        bytes_per_second: 100_000,
        shared: false,
        direction: Direction::Downstream,
    };
    let thin = proxy.inject(thin).await.expect("a guard");
    assert_eq!(proxy.active_faults(), 2);
    let start = Instant::now();
    round_trip(&mut client, &pattern(10_000)).await;
    assert!(start.elapsed() >= Duration::from_millis(40 + 90), "{:?}", start.elapsed());
    assert_eq!(slow.heal().await.delayed_bytes, 10_000);
    assert_eq!(thin.heal().await.delayed_bytes, 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_come_and_go_and_none_stays() {
    let proxy = echo_proxy().await;
    for round in 0..100 {
        let clients = futures_of(10, || connect(proxy.listen_address())).await;
        for (index, mut client) in clients.into_iter().enumerate() {
            match (round + index) % 3 {
                0 => round_trip(&mut client, b"x").await,
                1 => client.set_zero_linger().expect("linger"),
                _ => {}
            }
        }
    }
    eventually("all were accepted and none is left", || {
        let counters = proxy.counters();
        counters.accepted == 1000 && counters.active == 0
    })
    .await;
}

#[tokio::test]
async fn clients_that_abort_a_download_leave_nothing_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = proxy_to(listener.local_addr().expect("an address")).await;
    let mut client = connect(proxy.listen_address()).await;
    let (mut server, _) = listener.accept().await.expect("a connection");
    let sending = tokio::spawn(async move { while server.write_all(&[1; 65_536]).await.is_ok() {} });
    read_bytes(&mut client, 100_000).await;
    drop(client);
    eventually("the connection is gone", || proxy.counters().active == 0).await;
    timeout(DEADLINE, sending).await.expect("the server hears of it").expect("the server");
}

#[tokio::test]
async fn an_upstream_that_never_answers_delays_nobody_else_and_stopping_frees_its_clients() {
    // A full backlog: the kernel answers no further SYN.
    let full = tokio::net::TcpSocket::new_v4().expect("a socket");
    full.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let full = full.listen(1).expect("a listener");
    let dead = full.local_addr().expect("an address");
    let _fillers = futures_of(2, || connect(dead)).await;
    let proxy = proxy_to(dead).await;
    let mut waiting = connect(proxy.listen_address()).await;
    eventually("the first is accepted", || proxy.counters().active == 1).await;
    proxy.set_upstream(echo().await.to_string());
    live(&proxy).await;
    timeout(DEADLINE, proxy.stop()).await.expect("stopping does not wait for the dial");
    assert_eq!(next_read(&mut waiting).await.expect("an end"), 0);
    assert!(refused(proxy.listen_address()).await);
    assert_eq!(proxy.counters().active, 0);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let proxy = echo_proxy().await;
    let listen = proxy.listen_address().to_string();
    let config = ProxyConfig {
        name: "second".into(),
        listen: listen.clone(),
        upstream: listen.clone(),
        seed: 0,
        protocol: None,
        udp: None,
        tls: None,
        dial_failure: None,
    };
    let error = Proxy::start(config).await.expect_err("the port is taken");
    assert_eq!(error.to_string(), format!("listen tcp {listen}: bind: address already in use"));
}

async fn futures_of<T, F: Future<Output = T>>(count: usize, mut make: impl FnMut() -> F) -> Vec<T> {
    let mut results = Vec::new();
    for _ in 0..count {
        results.push(make().await);
    }
    results
}
