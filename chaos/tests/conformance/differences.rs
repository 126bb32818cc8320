//! Where we differ on purpose: each case is named in docs/toxiproxy-compatibility.md, with the reason.

use std::net::Shutdown;

use serde_json::{Value, json};

use crate::case::cases;
use crate::metrics::series;
use crate::server::{Server, Setup};
use crate::tcp::*;

cases!("differences", ours: true, Setup { seed: 7, metrics: true, token: false }, [
    a_half_close_is_passed_on,
    a_server_that_half_closes_can_still_be_spoken_to,
    reset_peer_resets_connections_that_were_there_before,
    reset_peer_of_toxicity_zero_leaves_ends_in_good_order,
    a_reset_is_passed_on_as_a_reset,
    the_same_seed_draws_the_same,
    another_seed_draws_another,
    counters_move_while_a_connection_is_open,
    connections_and_toxics_are_counted,
    counters_end_with_their_proxy,
    no_logger_is_shown,
    an_empty_listen_is_the_loopback_interface,
    an_empty_host_is_every_ipv4_interface,
    a_failed_update_applies_nothing,
    a_proxy_is_created_with_its_toxics,
    a_proxy_with_a_wrong_toxic_is_not_created,
    populate_creates_with_toxics,
    populate_with_a_wrong_toxic_creates_nothing,
    populate_leaves_the_toxics_of_an_unchanged_proxy_alone,
    packet_loss_has_defaults_of_its_own,
    packet_loss_drops_chunks,
    packet_loss_of_correlation_one_drops_everything_after_the_first,
    a_body_of_more_than_16_megabytes_is_413,
]);

fn a_half_close_is_passed_on(server: &Server) {
    // Answers only when it has heard everything.
    let upstream = Upstream::start(|mut socket| {
        let mut got = Vec::new();
        let _ = std::io::Read::read_to_end(&mut socket, &mut got);
        send(&mut socket, &got);
    });
    let proxy = server.proxy("late", &upstream.text());
    let mut client = connect(proxy.address);
    send(&mut client, &pattern(10_000));
    client.shutdown(Shutdown::Write).expect("half closed");
    assert!(rest(&mut client) == pattern(10_000), "the answer is lost");
}

fn a_server_that_half_closes_can_still_be_spoken_to(server: &Server) {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let upstream = Upstream::start(move |mut socket| {
        let _ = socket.shutdown(Shutdown::Write);
        let mut got = Vec::new();
        let _ = std::io::Read::read_to_end(&mut socket, &mut got);
        let _ = tell.lock().expect("no panic").send(got);
    });
    let proxy = server.proxy("early", &upstream.text());
    let mut client = connect(proxy.address);
    assert_end(&mut client);
    send(&mut client, b"still here");
    drop(client);
    assert_eq!(told.recv_timeout(DEADLINE).expect("the server's bytes"), b"still here");
}

fn reset_peer_resets_connections_that_were_there_before(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    proxy.toxic(json!({"type": "reset_peer"}));
    send(&mut client, b"x");
    assert_reset(&mut client);
}

fn reset_peer_of_toxicity_zero_leaves_ends_in_good_order(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "reset_peer", "toxicity": 0}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"hello");
    client.shutdown(Shutdown::Write).expect("half closed");
    assert_end(&mut client);
}

fn a_reset_is_passed_on_as_a_reset(server: &Server) {
    let upstream = Upstream::start(|mut socket| {
        receive(&mut socket, 1);
        let socket = socket2::SockRef::from(&socket);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
    });
    let proxy = server.proxy("resets", &upstream.text());
    let mut client = connect(proxy.address);
    send(&mut client, b"x");
    assert_reset(&mut client);
}

/// For 24 connections, whether a toxic of toxicity 0.5 acted.
fn draws(server: &Server) -> Vec<bool> {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "limit_data", "toxicity": 0.5, "attributes": {"bytes": 0}}));
    (0..24)
        .map(|_| {
            let mut client = connect(proxy.address);
            send(&mut client, b"x");
            let mut answer = [0; 1];
            std::io::Read::read(&mut client, &mut answer).expect("an answer or an end") == 0
        })
        .collect()
}

fn the_same_seed_draws_the_same(server: &Server) {
    let first = draws(server);
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(draws(&server.another(Setup { seed: 7, ..Setup::default() })), first);
}

fn another_seed_draws_another(server: &Server) {
    assert_ne!(draws(&server.another(Setup { seed: 8, ..Setup::default() })), draws(server));
}

fn counters_move_while_a_connection_is_open(server: &Server) {
    let (proxy, upstream) = server.echo();
    let mut client = connect(proxy.address);
    round_trip(&mut client, &pattern(700));
    for kind in ["received", "sent"] {
        let name = format!(
            "toxiproxy_proxy_{kind}_bytes_total{{direction=\"downstream\",listener=\"{}\",proxy=\"echo\",upstream=\"{}\"}}",
            proxy.address,
            upstream.text()
        );
        eventually(&name, || series(server, &name) == Some(700.0));
    }
    round_trip(&mut client, b"still open");
}

fn connections_and_toxics_are_counted(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 1}}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, &pattern(100));
    let labels = "{proxy=\"echo\",stream=\"downstream\",toxic=\"latency_downstream\",type=\"latency\"}";
    for (name, value) in [
        ("chaos_proxy_connections_total{proxy=\"echo\"}".to_owned(), 1.0),
        ("chaos_proxy_connections{proxy=\"echo\"}".to_owned(), 1.0),
        ("chaos_proxy_failed_dials_total{proxy=\"echo\"}".to_owned(), 0.0),
        (format!("chaos_toxic_connections_total{labels}"), 1.0),
        (format!("chaos_toxic_delayed_bytes_total{labels}"), 100.0),
    ] {
        eventually(&name, || series(server, &name) == Some(value));
    }
    drop(client);
    eventually("no connection is open", || {
        series(server, "chaos_proxy_connections{proxy=\"echo\"}") == Some(0.0)
    });
}

fn counters_end_with_their_proxy(server: &Server) {
    let (proxy, _upstream) = server.echo();
    round_trip(&mut connect(proxy.address), b"hello");
    assert!(server.get("/metrics").text().contains("proxy=\"echo\""));
    server.delete("/proxies/echo");
    assert!(!server.get("/metrics").text().contains("proxy=\"echo\""));
}

fn no_logger_is_shown(server: &Server) {
    let (proxy, upstream) = server.echo();
    let expected = format!(
        r#"{{"name":"echo","listen":"{}","upstream":"{}","enabled":true,"toxics":[]}}"#,
        proxy.address,
        upstream.text()
    );
    assert_eq!(server.get("/proxies/echo").text(), expected);
    assert_eq!(server.get("/proxies").text(), format!(r#"{{"echo":{expected}}}"#));
}

fn listen_of(server: &Server, listen: &str) -> String {
    let body = json!({"name": format!("at {listen}"), "listen": listen, "upstream": "x:1"}).to_string();
    server.post("/proxies", &body).json()["listen"].as_str().expect("an address").to_owned()
}

fn an_empty_listen_is_the_loopback_interface(server: &Server) {
    let listen = listen_of(server, "");
    assert!(listen.starts_with("127.0.0.1:"), "{listen}");
}

fn an_empty_host_is_every_ipv4_interface(server: &Server) {
    let listen = listen_of(server, ":0");
    assert!(listen.starts_with("0.0.0.0:"), "{listen}");
}

fn a_failed_update_applies_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 1, "jitter": 0}, "toxicity": 0.5}));
    let before = proxy.show();
    for body in [
        r#"{"attributes":{"latency":9,"jitter":"x"},"toxicity":1}"#,
        r#"{"attributes":{"latency":9},"toxicity":"x"}"#,
    ] {
        assert_eq!(server.post("/proxies/echo/toxics/latency_downstream", body).status, 400);
        assert_eq!(proxy.show(), before);
    }
}

fn a_proxy_is_created_with_its_toxics(server: &Server) {
    let upstream = Upstream::echo();
    let proxy = server.proxy_with(json!({
        "name": "born", "listen": "127.0.0.1:0", "upstream": upstream.text(),
        "toxics": [
            {"type": "latency", "attributes": {"latency": 80}},
            {"type": "noop", "name": "first", "stream": "upstream", "toxicity": 0.5},
        ],
    }));
    // The first connection of all meets them.
    assert!(round_trip(&mut connect(proxy.address), b"hello") >= millis(80));
    let shown = proxy.show();
    assert_eq!(
        (&shown["toxics"][0]["name"], &shown["toxics"][1]["name"]),
        (&json!("first"), &json!("latency_downstream"))
    );
    assert_eq!(shown["toxics"][0]["toxicity"], 0.5);
}

fn a_proxy_with_a_wrong_toxic_is_not_created(server: &Server) {
    for (toxics, message) in [
        (json!([{"type": "noop"}, {"type": "nope"}]), "invalid toxic type at toxic 2"),
        (json!([{"type": "noop"}, {"type": "noop"}]), "toxic already exists at toxic 2"),
        (
            json!([{"type": "noop", "stream": "both"}]),
            "stream was invalid, can be either upstream or downstream at toxic 1",
        ),
        (
            json!([{"type": "bandwidth", "attributes": {"rate": "fast"}}]),
            "bad request body: json: cannot unmarshal string into Go struct field \
             BandwidthToxic.attributes.rate of type int at toxic 1",
        ),
        (
            json!("latency"),
            "bad request body: json: cannot unmarshal string into Go struct field Proxy.toxics of type \
             []toxics.ToxicWrapper",
        ),
    ] {
        let body = json!({"name": "a", "listen": "127.0.0.1:0", "upstream": "x:1", "toxics": toxics});
        let answer = server.post("/proxies", &body.to_string());
        assert_eq!(answer.json()["error"], message);
        assert!((400..500).contains(&answer.status));
    }
    assert_eq!(server.get("/proxies").text(), "{}");
}

fn populate_creates_with_toxics(server: &Server) {
    let upstream = Upstream::echo();
    let list = json!([
        {"name": "a", "listen": "127.0.0.1:0", "upstream": upstream.text(), "toxics": null},
        {"name": "b", "listen": "127.0.0.1:0", "upstream": upstream.text(),
            "toxics": [{"type": "latency", "attributes": {"latency": 70}}]},
    ]);
    let shown = server.post("/populate", &list.to_string()).json();
    assert_eq!(shown["proxies"][0]["toxics"], json!([]));
    assert_eq!(shown["proxies"][1]["toxics"][0]["attributes"]["latency"], 70);
    let address =
        shown["proxies"][1]["listen"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    assert!(round_trip(&mut connect(address), b"hello") >= millis(70));
}

fn populate_with_a_wrong_toxic_creates_nothing(server: &Server) {
    let list = json!([
        {"name": "a", "listen": "127.0.0.1:0", "upstream": "x:1"},
        {"name": "b", "listen": "127.0.0.1:0", "upstream": "x:1", "toxics": [{"type": "nope"}]},
    ]);
    let expected =
        json!({"error": "invalid toxic type at toxic 1 at proxy 2", "status": 400, "proxies": null});
    assert_eq!(server.post("/populate", &list.to_string()).json(), expected);
    assert_eq!(server.get("/proxies").text(), "{}");
}

fn populate_leaves_the_toxics_of_an_unchanged_proxy_alone(server: &Server) {
    let (proxy, upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "kept"}));
    for toxics in [json!([]), json!([{"type": "latency"}])] {
        let list = json!([{"name": "echo", "listen": proxy.address.to_string(), "upstream": upstream.text(), "toxics": toxics}]);
        let shown = server.post("/populate", &list.to_string()).json();
        assert_eq!(shown["proxies"][0]["toxics"][0]["name"], "kept");
    }
}

fn packet_loss_has_defaults_of_its_own(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    let add = |body: &str| server.post("/proxies/echo/toxics", body).pair();
    let expected = r#"{"attributes":{"loss_rate":0.1,"correlation":0},"name":"packet_loss_downstream","type":"packet_loss","stream":"downstream","toxicity":1}"#;
    assert_eq!(add(r#"{"type":"packet_loss"}"#), (200, expected.to_owned()));
    let (status, body) =
        add(r#"{"type":"packet_loss","stream":"upstream","attributes":{"loss_rate":5e-1,"correlation":1}}"#);
    assert!(status == 200 && body.contains(r#"{"loss_rate":0.5,"correlation":1}"#), "{body}");
    let (status, body) = add(r#"{"type":"packet_loss","name":"x","attributes":{"loss_rate":"all"}}"#);
    let message =
        "cannot unmarshal string into Go struct field PacketLossToxic.attributes.loss_rate of type float64";
    assert!(status == 400 && body.contains(message), "{body}");
}

fn packet_loss_drops_chunks(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "packet_loss", "attributes": {"loss_rate": 1.0}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"dropped");
    assert_silent(&mut client);
    // A rate beyond what can be counts as the nearest that can.
    for none in [0.0, -3.0] {
        proxy.update_toxic("packet_loss_downstream", json!({"attributes": {"loss_rate": none}}));
        round_trip(&mut client, b"passed");
    }
    let name = "chaos_toxic_dropped_bytes_total{proxy=\"echo\",stream=\"downstream\",toxic=\"packet_loss_downstream\",type=\"packet_loss\"}";
    assert_eq!(series(server, name), Some(7.0));
}

fn packet_loss_of_correlation_one_drops_everything_after_the_first(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "packet_loss", "attributes": {"loss_rate": 0.5, "correlation": 1}}));
    let mut client = connect(proxy.address);
    client.set_nodelay(true).expect("a socket");
    // Each byte waits for the one before, so that each is a chunk of its own.
    let mut passed = 0;
    client.set_read_timeout(Some(millis(400))).expect("a timeout");
    while passed < 200 {
        send(&mut client, b"x");
        let mut answer = [0; 1];
        match std::io::Read::read(&mut client, &mut answer) {
            Ok(_) => passed += 1,
            Err(_) => break,
        }
    }
    assert!(passed < 200, "half of 200 chunks are to be lost");
    send(&mut client, b"more");
    assert_silent(&mut client);
}

fn a_body_of_more_than_16_megabytes_is_413(server: &Server) {
    let body = format!("[{}", " ".repeat(17 * 1024 * 1024));
    let answer = server.post("/populate", &body);
    assert_eq!((answer.status, &answer.json()["proxies"]), (413, &Value::Null));
    server.assert_alive();
}
