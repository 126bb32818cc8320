//! Nothing that a client or an upstream does makes the server crash, hang or wait: what Toxiproxy 2.12 does not hold.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::case::cases;
use crate::metrics::series;
use crate::server::{Server, Setup};
use crate::tcp::*;

cases!("safety", ours: true, Setup { seed: 1, metrics: true, token: false }, [
    attributes_that_crash_toxiproxy_are_harmless,
    extreme_attributes_of_every_type_are_harmless,
    a_negative_rate_lets_nothing_pass,
    an_upstream_that_does_not_answer_holds_no_call_up,
    an_upstream_that_does_not_answer_delays_nobody_else,
    a_client_that_does_not_read_holds_no_call_up,
    a_pending_reset_holds_no_call_up,
    a_sleeping_latency_holds_no_call_up,
    downloads_that_clients_leave_are_forgotten,
    uploads_that_servers_leave_are_forgotten,
    proxies_come_and_go_while_clients_connect,
    toxics_of_one_proxy_change_from_many_clients,
    a_name_with_a_slash_can_be_created_and_not_addressed,
]);

/// What a call may take on a machine under load; without load it is below 100 ms, and a hang is 25 s.
const CALL_MAX: Duration = Duration::from_secs(8);

fn at_once(what: &str, call: impl FnOnce() -> u16) {
    let start = Instant::now();
    let status = call();
    assert!((200..300).contains(&status), "{what}: {status}");
    assert!(start.elapsed() < CALL_MAX, "{what} took {:?}", start.elapsed());
}

/// Each call that has to end what a proxy does, against a proxy in that state.
fn calls_that_end(server: &Server, state: impl Fn()) {
    state();
    at_once("disable", || server.post("/proxies/p", r#"{"enabled":false}"#).status);
    at_once("enable", || server.post("/proxies/p", r#"{"enabled":true}"#).status);
    state();
    at_once("reset", || server.post("/reset", "").status);
    state();
    at_once("update", || server.post("/proxies/p", r#"{"listen":"127.0.0.1:0"}"#).status);
    state();
    at_once("delete", || server.delete("/proxies/p").status);
}

fn listen(server: &Server) -> SocketAddr {
    server.show("/proxies/p")["listen"].as_str().and_then(|text| text.parse().ok()).expect("an address")
}

fn attributes_that_crash_toxiproxy_are_harmless(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for (kind, attributes) in [
        ("slicer", json!({})),
        ("slicer", json!({"average_size": 0, "size_variation": 0, "delay": 0})),
        ("slicer", json!({"average_size": -5, "size_variation": 900})),
        ("slicer", json!({"average_size": 5, "size_variation": 9_000_000_000_000_i64})),
        ("slicer", json!({"average_size": 10, "size_variation": 9})),
        ("slicer", json!({"average_size": 1, "size_variation": -1})),
        ("latency", json!({"latency": 0, "jitter": 1})),
        ("latency", json!({"jitter": -7})),
        ("latency", json!({"latency": i64::MIN})),
        ("limit_data", json!({"bytes": i64::MAX})),
        ("bandwidth", json!({"rate": i64::MAX})),
    ] {
        for stream in ["upstream", "downstream"] {
            proxy.toxic(json!({"type": kind, "name": "t", "stream": stream, "attributes": attributes}));
            round_trip(&mut connect(proxy.address), &pattern(3_000));
            proxy.remove_toxic("t");
        }
    }
    server.assert_alive();
}

fn extreme_attributes_of_every_type_are_harmless(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let types = [
        ("latency", &["latency", "jitter"][..]),
        ("bandwidth", &["rate"]),
        ("slow_close", &["delay"]),
        ("timeout", &["timeout"]),
        ("reset_peer", &["timeout"]),
        ("slicer", &["average_size", "size_variation", "delay"]),
        ("limit_data", &["bytes"]),
        ("packet_loss", &["loss_rate", "correlation"]),
    ];
    for value in [i64::MIN, i64::MIN + 1, -1, 1, i64::MAX] {
        for (kind, names) in types {
            let attributes: serde_json::Map<_, _> =
                names.iter().map(|name| ((*name).to_owned(), json!(value))).collect();
            proxy.toxic(json!({"type": kind, "name": "t", "toxicity": 1e30, "attributes": attributes}));
            let mut client = connect(proxy.address);
            send(&mut client, &pattern(1_000));
            client.set_read_timeout(Some(millis(20))).expect("a timeout");
            // Whether anything comes is the toxic's affair.
            let _ = std::io::Read::read(&mut client, &mut [0; 1_000]);
            proxy.remove_toxic("t");
        }
    }
    server.assert_alive();
    round_trip(&mut connect(proxy.address), b"hello");
}

fn a_negative_rate_lets_nothing_pass(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "bandwidth", "attributes": {"rate": -1}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"late");
    assert_silent(&mut client);
    proxy.remove_toxic("bandwidth_downstream");
    assert_eq!(receive(&mut client, 4), b"late");
}

/// A port whose queue is full: who dials it gets no answer.
struct Deaf {
    address: SocketAddr,
    _listener: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl Deaf {
    fn start() -> Deaf {
        let (listener, address) = closed_port();
        listener.listen(0).expect("it listens");
        let mut waiting = Vec::new();
        while let Ok(socket) = TcpStream::connect_timeout(&address, millis(300)) {
            waiting.push(socket);
            assert!(waiting.len() < 64, "the queue never fills");
        }
        Deaf { address, _listener: listener, _waiting: waiting }
    }
}

fn an_upstream_that_does_not_answer_holds_no_call_up(server: &Server) {
    let deaf = Deaf::start();
    let _proxy = server.proxy("p", &deaf.address.to_string());
    let held = std::cell::RefCell::new(Vec::new());
    calls_that_end(server, || {
        let mut client = connect(listen(server));
        send(&mut client, b"hello");
        held.borrow_mut().push(client);
        std::thread::sleep(millis(30));
    });
}

fn an_upstream_that_does_not_answer_delays_nobody_else(server: &Server) {
    let deaf = Deaf::start();
    let proxy = server.proxy("p", &deaf.address.to_string());
    let waiting: Vec<TcpStream> = (0..5).map(|_| connect(proxy.address)).collect();
    let upstream = Upstream::echo();
    let other = server.proxy("q", &upstream.text());
    let took = round_trip(&mut connect(other.address), b"hello");
    assert!(took < CALL_MAX, "{took:?}");
    drop(waiting);
}

fn a_client_that_does_not_read_holds_no_call_up(server: &Server) {
    let upstream = Upstream::start(|mut socket| while socket.write_all(&[1; 65_536]).is_ok() {});
    let _proxy = server.proxy("p", &upstream.text());
    let held = std::cell::RefCell::new(Vec::new());
    calls_that_end(server, || {
        held.borrow_mut().push(connect(listen(server)));
        let name = "chaos_proxy_connections{proxy=\"p\"}";
        eventually("the connection is there", || series(server, name).is_some_and(|open| open >= 1.0));
        std::thread::sleep(millis(100));
    });
}

fn a_pending_reset_holds_no_call_up(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "reset_peer", "attributes": {"timeout": 600_000}}));
    let mut client = connect(proxy.address);
    send(&mut client, b"x");
    assert_silent(&mut client);
    at_once("removal", || server.delete("/proxies/echo/toxics/reset_peer_downstream").status);
    at_once("delete", || server.delete("/proxies/echo").status);
}

fn a_sleeping_latency_holds_no_call_up(server: &Server) {
    let upstream = Upstream::echo();
    let _proxy = server.proxy("p", &upstream.text());
    let held = std::cell::RefCell::new(Vec::new());
    calls_that_end(server, || {
        let toxic = json!({"type": "latency", "attributes": {"latency": 600_000}}).to_string();
        let status = server.post("/proxies/p/toxics", &toxic).status;
        assert!(status == 200 || status == 409);
        let mut client = connect(listen(server));
        send(&mut client, b"held");
        held.borrow_mut().push(client);
        std::thread::sleep(millis(30));
    });
}

fn downloads_that_clients_leave_are_forgotten(server: &Server) {
    let upstream = Upstream::source(pattern(2_000_000));
    let proxy = server.proxy("p", &upstream.text());
    for _ in 0..100 {
        receive(&mut connect(proxy.address), 1_000);
    }
    eventually("no connection is left", || {
        series(server, "chaos_proxy_connections{proxy=\"p\"}") == Some(0.0)
    });
    assert_eq!(series(server, "chaos_proxy_connections_total{proxy=\"p\"}"), Some(100.0));
}

fn uploads_that_servers_leave_are_forgotten(server: &Server) {
    let upstream = Upstream::start(|mut socket| drop(receive(&mut socket, 10)));
    let proxy = server.proxy("p", &upstream.text());
    for _ in 0..30 {
        let mut client = connect(proxy.address);
        // The server leaves while it is being sent to.
        let _ = client.write_all(&pattern(200_000));
    }
    eventually("no connection is left", || {
        series(server, "chaos_proxy_connections{proxy=\"p\"}") == Some(0.0)
    });
}

fn proxies_come_and_go_while_clients_connect(server: &Server) {
    let upstream = Upstream::echo();
    for round in 0..15 {
        let proxy = server.proxy("p", &upstream.text());
        let address = proxy.address;
        let clients: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    while let Ok(mut client) = TcpStream::connect(address) {
                        if client.write_all(b"x").is_err() {
                            break;
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(millis(round % 5));
        at_once("delete", || server.delete("/proxies/p").status);
        for client in clients {
            client.join().expect("a client");
        }
    }
}

fn toxics_of_one_proxy_change_from_many_clients(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let api = server.api;
    let changers: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                for _ in 0..15 {
                    let body =
                        format!(r#"{{"type":"latency","name":"t{number}","attributes":{{"latency":1}}}}"#);
                    let call = |method: &str, path: &str, body: &str| {
                        crate::http::request(api, method, path, "", body.as_bytes()).status
                    };
                    assert_eq!(call("POST", "/proxies/echo/toxics", &body), 200);
                    let path = format!("/proxies/echo/toxics/t{number}");
                    assert_eq!(call("PATCH", &path, r#"{"toxicity":0.5}"#), 200);
                    assert_eq!(call("DELETE", &path, ""), 204);
                }
            })
        })
        .collect();
    let mut client = connect(proxy.address);
    while changers.iter().any(|changer| !changer.is_finished()) {
        round_trip(&mut client, &pattern(2_000));
    }
    for changer in changers {
        changer.join().expect("a changer");
    }
    assert_eq!(proxy.show()["toxics"], json!([]));
}

/// The same in Toxiproxy, but another server is not asked: the proxy stays there and nobody can delete it.
fn a_name_with_a_slash_can_be_created_and_not_addressed(server: &Server) {
    let body = json!({"name": "a/b", "upstream": "x:1", "enabled": false}).to_string();
    assert_eq!(server.post("/proxies", &body).status, 201);
    for path in ["/proxies/a/b", "/proxies/a%2Fb"] {
        assert_eq!(server.get(path).pair(), (404, "404 page not found\n".to_owned()), "{path}");
    }
    assert_eq!(server.show("/proxies")["a/b"]["name"], "a/b");
}
