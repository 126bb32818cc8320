//! Bytes through a proxy, with toxics that change what arrives.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc;

use serde_json::json;

use crate::case::cases;
use crate::server::{Server, Setup};
use crate::tcp::*;

cases!("traffic", ours: false, Setup { seed: 1, metrics: false, token: false }, [
    a_message_comes_back,
    two_parts_arrive_in_order,
    megabytes_pass_unchanged_in_both_ways,
    a_server_that_speaks_first_is_heard,
    connections_are_apart,
    noop_changes_nothing,
    limit_data_passes_exactly_so_much_and_ends,
    limit_data_of_zero_ends_at_the_first_byte,
    limit_data_above_what_is_sent_changes_nothing,
    limit_data_counts_for_each_connection,
    limit_data_counts_from_when_it_was_added,
    limit_data_keeps_its_count_over_an_update,
    limit_data_upstream_limits_what_the_server_gets,
    a_slicer_cuts_and_loses_nothing,
    a_slicer_without_variation_cuts_too,
    reset_peer_resets_after_the_first_byte,
    reset_peer_on_the_way_up_resets_too,
    timeout_drops_everything,
    timeout_closes_its_connections_when_it_is_removed,
    timeout_closes_its_connections_at_a_reset,
    a_timeout_on_one_way_leaves_the_other_until_it_closes,
    bandwidth_of_zero_holds_everything_and_loses_nothing,
    toxicity_zero_acts_on_nothing_and_one_on_everything,
    toxics_act_only_on_their_way,
    a_connection_lives_through_adding_and_removing_toxics,
    no_byte_is_lost_while_toxics_come_and_go,
    a_toxic_on_a_broken_connection_can_be_removed,
]);

fn a_message_comes_back(server: &Server) {
    let (proxy, _upstream) = server.echo();
    round_trip(&mut connect(proxy.address), b"hello world");
}

fn two_parts_arrive_in_order(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    send(&mut client, b"hello ");
    send(&mut client, b"world");
    assert_eq!(receive(&mut client, 11), b"hello world");
}

fn megabytes_pass_unchanged_in_both_ways(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let bytes = pattern(4_000_000);
    let mut client = connect(proxy.address);
    let (mut writing, sent) = (client.try_clone().expect("a second handle"), bytes.clone());
    let writer = std::thread::spawn(move || writing.write_all(&sent).expect("sent"));
    assert!(receive(&mut client, bytes.len()) == bytes, "what came back is not what was sent");
    writer.join().expect("the writer");
}

fn a_server_that_speaks_first_is_heard(server: &Server) {
    let upstream = Upstream::source(pattern(100_000));
    let proxy = server.proxy("source", &upstream.text());
    assert!(receive(&mut connect(proxy.address), 100_000) == pattern(100_000));
}

fn connections_are_apart(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut clients: Vec<_> = (0..30).map(|_| connect(proxy.address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        send(client, &[number as u8; 100]);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(receive(client, 100), [number as u8; 100]);
    }
    drop(clients.remove(0));
    clients.iter_mut().for_each(|client| {
        round_trip(client, b"still there");
    });
}

fn noop_changes_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop"}));
    proxy.toxic(json!({"type": "noop", "stream": "upstream"}));
    round_trip(&mut connect(proxy.address), &pattern(50_000));
}

fn limit_data_passes_exactly_so_much_and_ends(server: &Server) {
    let upstream = Upstream::source(pattern(1_000));
    let proxy = server.proxy("limited", &upstream.text());
    for limit in [1, 99, 999] {
        proxy.toxic(json!({"type": "limit_data", "attributes": {"bytes": limit}}));
        assert_eq!(rest(&mut connect(proxy.address)), pattern(1_000)[..limit]);
        proxy.remove_toxic("limit_data_downstream");
    }
}

fn limit_data_of_zero_ends_at_the_first_byte(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "limit_data", "attributes": {"bytes": 0}}));
    let mut client = connect(proxy.address);
    assert_silent(&mut client);
    send(&mut client, b"x");
    assert_end(&mut client);
}

fn limit_data_above_what_is_sent_changes_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "limit_data", "attributes": {"bytes": 1_000}}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, &pattern(900));
    assert_silent(&mut client);
}

fn limit_data_counts_for_each_connection(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "limit_data", "attributes": {"bytes": 100}}));
    let mut clients = [connect(proxy.address), connect(proxy.address)];
    for client in &mut clients {
        round_trip(client, &pattern(60));
    }
    for client in &mut clients {
        send(client, &pattern(60));
        assert_eq!(rest(client), pattern(60)[..40]);
    }
}

fn limit_data_counts_from_when_it_was_added(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    round_trip(&mut client, &pattern(500));
    proxy.toxic(json!({"type": "limit_data", "attributes": {"bytes": 100}}));
    send(&mut client, &pattern(300));
    assert_eq!(rest(&mut client), pattern(300)[..100]);
}

fn limit_data_keeps_its_count_over_an_update(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "limit_data", "attributes": {"bytes": 100}}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, &pattern(60));
    proxy.update_toxic("limit_data_downstream", json!({"attributes": {"bytes": 150}}));
    send(&mut client, &pattern(300));
    assert_eq!(rest(&mut client), pattern(300)[..90]);
}

fn limit_data_upstream_limits_what_the_server_gets(server: &Server) {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let upstream = Upstream::start(move |mut socket| {
        let mut got = Vec::new();
        // However it ends, what came counts.
        let _ = std::io::Read::read_to_end(&mut socket, &mut got);
        let _ = tell.lock().expect("no panic").send(got);
    });
    let proxy = server.proxy("sink", &upstream.text());
    proxy.toxic(json!({"type": "limit_data", "stream": "upstream", "attributes": {"bytes": 70}}));
    let mut client = connect(proxy.address);
    send(&mut client, &pattern(500));
    assert_eq!(told.recv_timeout(DEADLINE).expect("the server's bytes"), pattern(500)[..70]);
}

fn slices(server: &Server, average: u64, variation: u64) -> Vec<usize> {
    let upstream = Upstream::source(pattern(8_000));
    let proxy = server.proxy("sliced", &upstream.text());
    // The pause lets each slice be read by itself.
    let attributes = json!({"average_size": average, "size_variation": variation, "delay": 8_000});
    proxy.toxic(json!({"type": "slicer", "attributes": attributes}));
    let mut client = connect(proxy.address);
    let (mut all, mut sizes, mut chunk) = (Vec::new(), Vec::new(), [0; 8_192]);
    while all.len() < 8_000 {
        let count = std::io::Read::read(&mut client, &mut chunk).expect("a slice");
        all.extend_from_slice(&chunk[..count]);
        sizes.push(count);
    }
    assert!(all == pattern(8_000), "bytes are lost or out of order");
    sizes
}

fn a_slicer_cuts_and_loses_nothing(server: &Server) {
    let sizes = slices(server, 500, 100);
    // Halving 8,000 ends between 200 and 600; slow machines may read two slices at once.
    assert!(sizes.len() >= 8, "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size <= 600).count() >= 4, "{sizes:?}");
}

fn a_slicer_without_variation_cuts_too(server: &Server) {
    if matches!(server.mode, crate::server::Mode::Foreign(_)) {
        // Toxiproxy 2.12 ends here: see the case about hostile attributes.
        return;
    }
    let sizes = slices(server, 1_000, 0);
    assert!(sizes.len() >= 5, "{sizes:?}");
}

fn reset_peer_resets_after_the_first_byte(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "reset_peer"}));
    let mut client = connect(proxy.address);
    send(&mut client, b"x");
    assert_reset(&mut client);
}

fn reset_peer_on_the_way_up_resets_too(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "reset_peer", "stream": "upstream"}));
    let mut client = connect(proxy.address);
    send(&mut client, b"x");
    assert_reset(&mut client);
}

fn timeout_drops_everything(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "timeout", "attributes": {"timeout": 0}}));
    let mut client = connect(proxy.address);
    for _ in 0..3 {
        send(&mut client, b"hello");
        assert_silent(&mut client);
    }
}

fn timeout_closes_its_connections_when_it_is_removed(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "timeout", "attributes": {"timeout": 0}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"hello");
    assert_silent(&mut client);
    proxy.remove_toxic("timeout_downstream");
    assert_end(&mut client);
    round_trip(&mut connect(proxy.address), b"hello");
}

fn timeout_closes_its_connections_at_a_reset(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"hello");
    assert_silent(&mut client);
    assert_eq!(server.post("/reset", "").status, 204);
    assert_end(&mut client);
}

fn a_timeout_on_one_way_leaves_the_other_until_it_closes(server: &Server) {
    let upstream = Upstream::source(b"greeting".to_vec());
    let proxy = server.proxy("source", &upstream.text());
    proxy.toxic(json!({"type": "timeout", "stream": "upstream", "attributes": {"timeout": 400}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"dropped");
    assert_eq!(rest(&mut client), b"greeting");
}

fn bandwidth_of_zero_holds_everything_and_loses_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    proxy.toxic(json!({"type": "bandwidth", "attributes": {"rate": 0}}));
    let bytes = pattern(20_000);
    send(&mut client, &bytes);
    assert_silent(&mut client);
    proxy.remove_toxic("bandwidth_downstream");
    assert!(receive(&mut client, bytes.len()) == bytes, "what came is not what was sent");
}

fn toxicity_zero_acts_on_nothing_and_one_on_everything(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "timeout", "toxicity": 0, "attributes": {"timeout": 0}}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"untouched");
    proxy.update_toxic("timeout_downstream", json!({"toxicity": 1}));
    send(&mut client, b"dropped");
    assert_silent(&mut client);
}

fn toxics_act_only_on_their_way(server: &Server) {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let upstream = Upstream::start(move |mut socket| {
        let got = receive(&mut socket, 5);
        let _ = tell.lock().expect("no panic").send(got);
        let _ = std::io::Read::read_to_end(&mut socket, &mut Vec::new());
    });
    let proxy = server.proxy("sink", &upstream.text());
    proxy.toxic(json!({"type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}));
    proxy.toxic(json!({"type": "limit_data", "stream": "downstream", "attributes": {"bytes": 0}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"hello");
    assert_eq!(told.recv_timeout(DEADLINE).expect("the server's bytes"), b"hello");
}

fn a_connection_lives_through_adding_and_removing_toxics(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    for round in 0..10 {
        proxy.toxic(json!({"type": "latency", "attributes": {"latency": 10}}));
        assert!(round_trip(&mut client, b"slow") >= millis(10), "round {round}");
        proxy.toxic(json!({"type": "noop", "stream": "upstream"}));
        round_trip(&mut client, b"both");
        proxy.remove_toxic("latency_downstream");
        proxy.remove_toxic("noop_upstream");
        round_trip(&mut client, b"fast");
    }
}

fn no_byte_is_lost_while_toxics_come_and_go(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    let mut writing = client.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || {
        for number in 0_u32..40_000 {
            writing.write_all(&number.to_be_bytes()).expect("sent");
        }
        writing
    });
    let reader = std::thread::spawn(move || receive(&mut client, 160_000));
    let mut rounds = 0;
    while !reader.is_finished() && rounds < 40 {
        proxy.toxic(json!({"type": "latency", "attributes": {"latency": 20, "jitter": 10}}));
        proxy.toxic(json!({"type": "slicer", "stream": "upstream", "attributes":
            {"average_size": 100, "size_variation": 30, "delay": 10}}));
        proxy.update_toxic("latency_downstream", json!({"attributes": {"latency": 5}}));
        proxy.remove_toxic("latency_downstream");
        proxy.remove_toxic("slicer_upstream");
        rounds += 1;
    }
    let got = reader.join().expect("the reader");
    let expected: Vec<u8> = (0_u32..40_000).flat_map(u32::to_be_bytes).collect();
    assert!(got == expected, "bytes are lost or out of order");
    drop(writer.join());
}

fn a_toxic_on_a_broken_connection_can_be_removed(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "bandwidth", "attributes": {"rate": 1}}));
    let mut client = connect(proxy.address);
    send(&mut client, &pattern(50_000));
    let _ = client.shutdown(Shutdown::Both);
    drop(client);
    proxy.remove_toxic("bandwidth_downstream");
    round_trip(&mut connect(proxy.address), b"hello");
}
