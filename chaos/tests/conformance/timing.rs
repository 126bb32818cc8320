//! Toxics that delay. Lower bounds are exact; upper bounds are only there to tell a delay from a hang.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::case::cases;
use crate::server::{Proxy, Server, Setup};
use crate::tcp::*;

cases!("timing", ours: false, Setup { seed: 1, metrics: false, token: false }, [
    a_plain_proxy_adds_next_to_nothing,
    latency_downstream_delays,
    latency_upstream_delays,
    latencies_of_both_ways_add_up,
    two_latencies_on_one_way_add_up,
    latency_of_zero_delays_nothing,
    negative_latency_delays_nothing,
    jitter_stays_within_its_bounds,
    latency_delays_many_messages_at_once,
    megabytes_under_latency_are_not_slowed_down,
    removing_latency_delivers_at_once,
    an_end_waits_for_what_latency_holds,
    a_changed_latency_counts_for_what_comes_then,
    bandwidth_takes_its_time,
    bandwidth_counts_for_each_connection,
    bandwidth_upstream_takes_its_time,
    a_changed_bandwidth_counts_for_what_waits,
    slow_close_delays_the_end_and_no_data,
    timeout_closes_when_nothing_came_for_so_long,
    timeout_begins_anew_with_each_chunk,
    reset_peer_waits_its_time,
    a_slicer_pauses_after_each_slice,
]);

/// Sets the one toxic of the case and measures a round trip of a new connection.
fn with_toxic(proxy: &Proxy<'_>, stream: &str, latency: i64, jitter: i64) -> Duration {
    let attributes = json!({"latency": latency, "jitter": jitter});
    proxy.toxic(json!({"type": "latency", "name": "one", "stream": stream, "attributes": attributes}));
    let took = round_trip(&mut connect(proxy.address), b"hello");
    proxy.remove_toxic("one");
    took
}

fn a_plain_proxy_adds_next_to_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    let fastest = (0..100).map(|_| round_trip(&mut client, b"ping")).min().expect("measured");
    assert!(fastest < millis(20), "the fastest of 100 round trips took {fastest:?}");
}

fn latency_downstream_delays(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for latency in [10, 100, 300] {
        let took = with_toxic(&proxy, "downstream", latency, 0);
        assert!(took >= millis(latency.unsigned_abs()), "{latency}: {took:?}");
    }
}

fn latency_upstream_delays(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for latency in [10, 100, 300] {
        let took = with_toxic(&proxy, "upstream", latency, 0);
        assert!(took >= millis(latency.unsigned_abs()), "{latency}: {took:?}");
    }
}

fn latencies_of_both_ways_add_up(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for (up, down) in [(100, 100), (150, 20), (20, 150)] {
        proxy.toxic(json!({"type": "latency", "stream": "upstream", "attributes": {"latency": up}}));
        proxy.toxic(json!({"type": "latency", "attributes": {"latency": down}}));
        let took = round_trip(&mut connect(proxy.address), b"hello");
        assert!(took >= millis(up + down), "{up} and {down}: {took:?}");
        proxy.remove_toxic("latency_upstream");
        proxy.remove_toxic("latency_downstream");
    }
}

fn two_latencies_on_one_way_add_up(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for (name, latency) in [("a", 90), ("b", 60)] {
        proxy.toxic(json!({"type": "latency", "name": name, "attributes": {"latency": latency}}));
    }
    let took = round_trip(&mut connect(proxy.address), b"hello");
    assert!(took >= millis(150), "{took:?}");
}

fn latency_of_zero_delays_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    assert!(with_toxic(&proxy, "downstream", 0, 0) < DEADLINE);
}

fn negative_latency_delays_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    assert!(with_toxic(&proxy, "downstream", -60_000, 0) < DEADLINE);
}

fn jitter_stays_within_its_bounds(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 60, "jitter": 30}}));
    let mut client = connect(proxy.address);
    let times: Vec<Duration> = (0..15).map(|_| round_trip(&mut client, b"hello")).collect();
    assert!(times.iter().all(|time| *time >= millis(30)), "{times:?}");
    let (fastest, slowest) = (times.iter().min().expect("some"), times.iter().max().expect("some"));
    assert!(*slowest - *fastest >= millis(2), "no jitter in {times:?}");
}

fn latency_delays_many_messages_at_once(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 200}}));
    let mut client = connect(proxy.address);
    let start = Instant::now();
    for _ in 0..50 {
        send(&mut client, b"message");
        std::thread::sleep(millis(1));
    }
    receive(&mut client, 50 * 7);
    let took = start.elapsed();
    assert!(
        took >= millis(200) && took < Duration::from_secs(8),
        "one after the other would take 10 s: {took:?}"
    );
}

fn megabytes_under_latency_are_not_slowed_down(server: &Server) {
    let upstream = Upstream::source(pattern(20_000_000));
    let proxy = server.proxy("source", &upstream.text());
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 100}}));
    let start = Instant::now();
    let bytes = receive(&mut connect(proxy.address), 20_000_000);
    let took = start.elapsed();
    assert!(bytes == pattern(20_000_000), "bytes are lost or out of order");
    assert!(took >= millis(100) && took < Duration::from_secs(15), "{took:?}");
}

fn removing_latency_delivers_at_once(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 600_000}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"held");
    assert_silent(&mut client);
    proxy.remove_toxic("latency_downstream");
    assert_eq!(receive(&mut client, 4), b"held");
    round_trip(&mut client, b"fast");
}

fn an_end_waits_for_what_latency_holds(server: &Server) {
    let upstream = Upstream::start(|mut socket| {
        let _ = socket.write_all(b"last words");
    });
    let proxy = server.proxy("short", &upstream.text());
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 150}}));
    let start = Instant::now();
    assert_eq!(rest(&mut connect(proxy.address)), b"last words");
    assert!(start.elapsed() >= millis(150), "{:?}", start.elapsed());
}

fn a_changed_latency_counts_for_what_comes_then(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 1}}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"fast");
    proxy.update_toxic("latency_downstream", json!({"attributes": {"latency": 120}}));
    assert!(round_trip(&mut client, b"slow") >= millis(120));
}

fn bandwidth_takes_its_time(server: &Server) {
    let upstream = Upstream::source(pattern(480_000));
    let proxy = server.proxy("source", &upstream.text());
    proxy.toxic(json!({"type": "bandwidth", "attributes": {"rate": 1_000}}));
    let start = Instant::now();
    assert!(receive(&mut connect(proxy.address), 480_000) == pattern(480_000));
    let took = start.elapsed();
    assert!(took >= millis(465) && took < Duration::from_secs(15), "480 kB at 1,000 kB/s took {took:?}");
}

fn bandwidth_counts_for_each_connection(server: &Server) {
    let upstream = Upstream::source(pattern(200_000));
    let proxy = server.proxy("source", &upstream.text());
    proxy.toxic(json!({"type": "bandwidth", "attributes": {"rate": 500}}));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let address = proxy.address;
            std::thread::spawn(move || {
                let start = Instant::now();
                receive(&mut connect(address), 200_000);
                start.elapsed()
            })
        })
        .collect();
    for client in clients {
        let took = client.join().expect("a client");
        assert!(took >= millis(385), "200 kB at 500 kB/s took {took:?}");
    }
}

fn bandwidth_upstream_takes_its_time(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "bandwidth", "stream": "upstream", "attributes": {"rate": 500}}));
    let took = round_trip(&mut connect(proxy.address), &pattern(100_000));
    assert!(took >= millis(185), "100 kB at 500 kB/s took {took:?}");
}

fn a_changed_bandwidth_counts_for_what_waits(server: &Server) {
    let upstream = Upstream::source(pattern(300_000));
    let proxy = server.proxy("source", &upstream.text());
    proxy.toxic(json!({"type": "bandwidth", "attributes": {"rate": 1}}));
    let mut client = connect(proxy.address);
    std::thread::sleep(millis(50));
    proxy.update_toxic("bandwidth_downstream", json!({"attributes": {"rate": 100_000}}));
    assert!(receive(&mut client, 300_000) == pattern(300_000), "300 s at the first rate");
}

fn slow_close_delays_the_end_and_no_data(server: &Server) {
    let upstream = Upstream::start(|mut socket| {
        let _ = socket.write_all(b"hello");
    });
    let proxy = server.proxy("short", &upstream.text());
    proxy.toxic(json!({"type": "slow_close", "attributes": {"delay": 300}}));
    let start = Instant::now();
    let mut client = connect(proxy.address);
    assert_eq!(receive(&mut client, 5), b"hello");
    assert_end(&mut client);
    assert!(start.elapsed() >= millis(300), "{:?}", start.elapsed());
}

fn timeout_closes_when_nothing_came_for_so_long(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "timeout", "attributes": {"timeout": 200}}));
    let start = Instant::now();
    let mut client = connect(proxy.address);
    assert_end(&mut client);
    assert!(start.elapsed() >= millis(195), "{:?}", start.elapsed());
}

fn timeout_begins_anew_with_each_chunk(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "timeout", "attributes": {"timeout": 400}}));
    let mut client = connect(proxy.address);
    for _ in 0..8 {
        send(&mut client, b"x");
        std::thread::sleep(millis(100));
    }
    send(&mut client, b"x");
    let start = Instant::now();
    assert_end(&mut client);
    assert!(start.elapsed() >= millis(380), "{:?} after the last chunk", start.elapsed());
}

fn reset_peer_waits_its_time(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for stream in ["upstream", "downstream"] {
        proxy.toxic(
            json!({"type": "reset_peer", "name": "r", "stream": stream, "attributes": {"timeout": 150}}),
        );
        let mut client = connect(proxy.address);
        let start = Instant::now();
        send(&mut client, b"x");
        assert_reset(&mut client);
        assert!(start.elapsed() >= millis(150), "{stream}: {:?}", start.elapsed());
        proxy.remove_toxic("r");
    }
}

fn a_slicer_pauses_after_each_slice(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let attributes = json!({"average_size": 100, "size_variation": 10, "delay": 5_000});
    proxy.toxic(json!({"type": "slicer", "attributes": attributes}));
    let mut client = connect(proxy.address);
    let start = Instant::now();
    send(&mut client, &pattern(1_000));
    receive(&mut client, 1_000);
    // 1,000 bytes cannot be fewer than ten slices of at most 110.
    assert!(start.elapsed() >= millis(45), "{:?}", start.elapsed());
}
