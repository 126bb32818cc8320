//! Toxiproxy's HTTP API as its clients see it.

mod proxy_support;

use std::time::{Duration, Instant};

use chaos::api;
use chaos::fault::{Existing, NetworkFault};
use chaos::proxy::Registry;
use proxy_support::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Api {
    base: String,
    registry: Registry,
    client: reqwest::Client,
    _cancel: tokio_util::sync::DropGuard,
}

impl Api {
    async fn spawn() -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let registry = Registry::new(7);
        let cancel = CancellationToken::new();
        tokio::spawn(api::serve(registry.clone(), listener, cancel.clone()));
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
        Api { base, registry, client, _cancel: cancel.drop_guard() }
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.client
            .request(method, format!("{}{path}", self.base))
            .body(body)
            .send()
            .await
            .expect("an answer")
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.send(method, path, body.to_string()).await;
        let status = response.status();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, Value::Null).await
    }

    /// A proxy named `echo`; its address.
    async fn echo_proxy(&self) -> std::net::SocketAddr {
        let upstream = echo().await.to_string();
        let body = json!({"name": "echo", "listen": "127.0.0.1:0", "upstream": upstream});
        let (status, proxy) = self.post("/proxies", body).await;
        assert_eq!(status, 201, "{proxy}");
        proxy["listen"].as_str().and_then(|listen| listen.parse().ok()).expect("a resolved address")
    }
}

fn error(status: u16, message: &str) -> (StatusCode, Value) {
    (StatusCode::from_u16(status).expect("a status"), json!({"error": message, "status": status}))
}

#[tokio::test]
async fn a_proxy_is_created_shown_changed_and_deleted() {
    let api = Api::spawn().await;
    assert_eq!(api.get("/proxies").await, (StatusCode::OK, json!({})));
    let address = api.echo_proxy().await;
    let mut client = connect(address).await;
    round_trip(&mut client, b"hello").await;
    let (_, proxies) = api.get("/proxies").await;
    assert_eq!(proxies["echo"]["enabled"], true);
    assert_eq!(proxies["echo"]["toxics"], json!([]));
    let (status, proxy) = api.call(Method::PATCH, "/proxies/echo", json!({"enabled": false})).await;
    assert_eq!((status, &proxy["enabled"]), (StatusCode::OK, &json!(false)));
    assert_eq!(next_read(&mut client).await.expect("an end, not a reset"), 0);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let (_, proxy) = api.post("/proxies/echo", json!({"enabled": true})).await;
    assert_eq!(proxy["listen"], address.to_string());
    round_trip(&mut connect(address).await, b"again").await;
    let proxy = api.registry.get("echo").expect("the proxy");
    eventually("no connection is left", || proxy.counters().active == 0).await;
    let deleted = api.send(Method::DELETE, "/proxies/echo", "").await;
    assert_eq!((deleted.status().as_u16(), deleted.text().await.expect("a body")), (204, String::new()));
    assert_eq!(api.get("/proxies/echo").await, error(404, "proxy not found"));
    assert!(api.registry.list().is_empty());
}

#[tokio::test]
async fn errors_have_toxiproxys_statuses_and_messages() {
    let api = Api::spawn().await;
    let address = api.echo_proxy().await.to_string();
    let cases = [
        ("/proxies", json!({"upstream": "x:1"}), error(400, "missing required field: name")),
        ("/proxies", json!({"name": "x"}), error(400, "missing required field: upstream")),
        ("/proxies", json!({"name": "echo", "upstream": "x:1"}), error(409, "proxy already exists")),
        (
            "/proxies",
            json!({"name": "x", "listen": address, "upstream": "x:1"}),
            error(500, &format!("listen tcp {address}: bind: address already in use")),
        ),
        (
            "/proxies",
            json!({"name": "x", "listen": "local373", "upstream": "x:1"}),
            error(500, "listen tcp: address local373: missing port in address"),
        ),
        ("/proxies/none", json!({}), error(404, "proxy not found")),
        ("/proxies/none/toxics", json!({}), error(404, "proxy not found")),
        ("/proxies/echo/toxics/none", json!({}), error(404, "toxic not found")),
        (
            "/proxies/echo/toxics",
            json!({"type": "latency", "stream": "sideways"}),
            error(400, "stream was invalid, can be either upstream or downstream"),
        ),
        ("/proxies/echo/toxics", json!({"type": "nope"}), error(400, "invalid toxic type")),
    ];
    for (path, body, expected) in cases {
        assert_eq!(api.post(path, body.clone()).await, expected, "{path} {body}");
    }
    let broken = api.send(Method::POST, "/proxies", "").await;
    assert_eq!(broken.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        broken.text().await.expect("a body"),
        "{\"error\":\"bad request body: EOF\",\"status\":400}\n"
    );
    assert_eq!(
        api.get("/proxies").await.1.as_object().map(serde_json::Map::len),
        Some(1),
        "nothing left behind"
    );
}

#[tokio::test]
async fn toxics_are_created_listed_changed_and_deleted() {
    let api = Api::spawn().await;
    api.echo_proxy().await;
    let latency = json!({"type": "latency", "attributes": {"latency": 100, "jitter": 10}});
    let shown = json!({
        "attributes": {"latency": 100, "jitter": 10},
        "name": "latency_downstream", "type": "latency", "stream": "downstream", "toxicity": 1,
    });
    assert_eq!(api.post("/proxies/echo/toxics", latency.clone()).await, (StatusCode::OK, shown.clone()));
    assert_eq!(api.post("/proxies/echo/toxics", latency).await, error(409, "toxic already exists"));
    let slicer = json!({"name": "cut", "type": "slicer", "stream": "upstream", "toxicity": 0.2});
    assert_eq!(api.post("/proxies/echo/toxics", slicer).await.0, 200);
    let (_, list) = api.get("/proxies/echo/toxics").await;
    assert_eq!((&list[0]["name"], &list[0]["toxicity"], &list[1]), (&json!("cut"), &json!(0.2), &shown));
    let change = json!({"attributes": {"latency": 5}, "toxicity": 0.5});
    let (_, changed) = api.call(Method::PATCH, "/proxies/echo/toxics/latency_downstream", change).await;
    assert_eq!(
        (&changed["attributes"], &changed["toxicity"]),
        (&json!({"latency": 5, "jitter": 10}), &json!(0.5))
    );
    let wrong = json!({"attributes": {"latency": 9, "jitter": "much"}});
    assert_eq!(api.post("/proxies/echo/toxics/latency_downstream", wrong).await.0, 400);
    assert_eq!(api.get("/proxies/echo/toxics/latency_downstream").await.1, changed, "nothing half applied");
    assert_eq!(api.call(Method::DELETE, "/proxies/echo/toxics/cut", json!(null)).await.0, 204);
    assert_eq!(api.get("/proxies/echo/toxics/cut").await, error(404, "toxic not found"));
}

#[tokio::test]
async fn populate_creates_keeps_replaces_and_tells_what_it_did_before_it_failed() {
    let api = Api::spawn().await;
    let upstream = echo().await.to_string();
    let address = api.echo_proxy().await.to_string();
    let kept = api.registry.get("echo").expect("the proxy").upstream();
    api.post("/proxies/echo/toxics", json!({"type": "latency"})).await;
    let list = json!([
        {"name": "echo", "listen": address, "upstream": kept, "enabled": false},
        {"name": "two", "listen": "127.0.0.1:0", "upstream": upstream, "toxics": []},
    ]);
    let (status, answer) = api.post("/populate", list).await;
    assert_eq!(status, 201);
    assert_eq!(answer["proxies"][0]["enabled"], true, "an unchanged proxy is left alone");
    assert_eq!(answer["proxies"][0]["toxics"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["proxies"][1]["name"], "two");
    let replaced = json!([{"name": "echo", "listen": address, "upstream": upstream}]);
    let (_, answer) = api.post("/populate", replaced).await;
    assert_eq!(answer["proxies"][0]["toxics"], json!([]));
    round_trip(&mut connect(address.parse().expect("an address")).await, b"hello").await;
    let failing = json!([
        {"name": "three", "listen": "127.0.0.1:0", "upstream": upstream},
        {"name": "four", "listen": address, "upstream": upstream},
    ]);
    let (status, answer) = api.post("/populate", failing).await;
    assert_eq!((status.as_u16(), &answer["proxies"][0]["name"]), (500, &json!("three")));
    let unnamed = json!([{"name": "five", "upstream": upstream}, {"upstream": upstream}]);
    let (status, answer) = api.post("/populate", unnamed).await;
    assert_eq!((status.as_u16(), &answer["error"]), (400, &json!("missing required field: name at proxy 2")));
    assert!(api.registry.get("five").is_none(), "nothing is created from a list that is wrong");
    assert_eq!(api.post("/populate", json!([])).await, (StatusCode::CREATED, json!({"proxies": null})));
}

#[tokio::test]
async fn reset_enables_every_proxy_and_removes_toxics_but_not_the_faults_of_guards() {
    let api = Api::spawn().await;
    let address = api.echo_proxy().await;
    let proxy = api.registry.get("echo").expect("the proxy");
    api.post("/proxies/echo/toxics", json!({"type": "timeout"})).await;
    api.post("/proxies/echo", json!({"enabled": false})).await;
    let guard = proxy.inject(NetworkFault::Refuse { existing: Existing::Keep }).await.expect("a guard");
    assert_eq!(api.post("/reset", json!(null)).await.0, 204);
    assert_eq!(proxy.active_faults(), 1);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    guard.heal().await;
    round_trip(&mut connect(address).await, b"hello").await;
}

#[tokio::test]
async fn a_changed_address_keeps_the_toxics_and_ends_the_connections() {
    let api = Api::spawn().await;
    let address = api.echo_proxy().await;
    api.post("/proxies/echo/toxics", json!({"type": "noop"})).await;
    let mut client = connect(address).await;
    round_trip(&mut client, b"hello").await;
    let same = json!({"listen": format!("localhost:{}", address.port())});
    assert_eq!(api.post("/proxies/echo", same).await.0, 200);
    round_trip(&mut client, b"kept").await;
    let (status, moved) = api.post("/proxies/echo", json!({"listen": "127.0.0.1:0"})).await;
    assert_eq!(status, 200);
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);
    assert_eq!(moved["toxics"].as_array().map(Vec::len), Some(1));
    let address = moved["listen"].as_str().expect("an address").parse().expect("an address");
    round_trip(&mut connect(address).await, b"moved").await;
}

#[tokio::test]
async fn toxics_act_on_connections() {
    let api = Api::spawn().await;
    let address = api.echo_proxy().await;
    let toxic = async |body: Value| {
        api.post("/reset", json!(null)).await;
        assert_eq!(api.post("/proxies/echo/toxics", body).await.0, 200);
        connect(address).await
    };
    let mut client = toxic(json!({"type": "latency", "attributes": {"latency": 50}})).await;
    let start = Instant::now();
    round_trip(&mut client, b"slow").await;
    assert!(start.elapsed() >= Duration::from_millis(50));

    let limit = json!({"type": "limit_data", "attributes": {"bytes": 3}});
    let mut client = toxic(limit).await;
    client.write_all(b"abcdef").await.expect("written");
    assert_eq!(read_bytes(&mut client, 3).await, b"abc");
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);

    let mut client = toxic(json!({"type": "reset_peer", "stream": "upstream"})).await;
    client.write_all(b"x").await.expect("written");
    assert_reset(&mut client).await;

    let mut client = toxic(json!({"type": "timeout", "attributes": {"timeout": 40}})).await;
    let start = Instant::now();
    client.write_all(b"x").await.expect("written");
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);
    assert!(start.elapsed() >= Duration::from_millis(30));

    let slicer =
        json!({"type": "slicer", "attributes": {"average_size": 10, "size_variation": 3, "delay": 1000}});
    let mut client = toxic(slicer).await;
    let start = Instant::now();
    round_trip(&mut client, &[5; 200]).await;
    assert!(start.elapsed() >= Duration::from_millis(14), "at least 15 slices: {:?}", start.elapsed());

    let mut client = toxic(json!({"type": "slow_close", "attributes": {"delay": 60}})).await;
    round_trip(&mut client, b"x").await;
    let start = Instant::now();
    client.shutdown().await.expect("half closed");
    assert_eq!(next_read(&mut client).await.expect("an end"), 0);
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn attributes_that_crash_toxiproxy_are_harmless() {
    let api = Api::spawn().await;
    let address = api.echo_proxy().await;
    let cases = [
        json!({"type": "slicer"}),
        json!({"type": "slicer", "attributes": {"average_size": -5, "size_variation": 900}}),
        json!({"type": "slicer", "attributes": {"average_size": 5, "size_variation": 9_000_000_000_000_i64}}),
        json!({"type": "latency", "attributes": {"jitter": 5_000_000_000_000_000_000_i64}, "toxicity": -1}),
        json!({"type": "latency", "attributes": {"latency": i64::MIN}, "toxicity": 9}),
    ];
    for case in cases {
        api.post("/reset", json!(null)).await;
        assert_eq!(api.post("/proxies/echo/toxics", case.clone()).await.0, 200, "{case}");
        round_trip(&mut connect(address).await, b"alive").await;
    }
    api.post("/reset", json!(null)).await;
    let never = json!({"type": "bandwidth", "attributes": {"rate": -1}});
    assert_eq!(api.post("/proxies/echo/toxics", never).await.0, 200);
    let mut client = connect(address).await;
    client.write_all(b"late").await.expect("written");
    assert_silent(&mut client).await;
    api.post("/reset", json!(null)).await;
    assert_eq!(read_bytes(&mut client, 4).await, b"late");
}

#[tokio::test]
async fn version_request_ids_browsers_and_unknown_routes_are_as_clients_know_them() {
    let api = Api::spawn().await;
    let version = api.send(Method::GET, "/version", "").await;
    assert_eq!(version.headers()["content-type"], "application/json;charset=utf-8");
    assert_eq!(version.headers()["x-toxiproxy-request-id"].len(), 20);
    assert_eq!(version.text().await.expect("a body"), "{\"version\": \"2.12.0\"}\n");
    let unknown = api.send(Method::GET, "/nope", "").await;
    assert!(!unknown.headers().contains_key("x-toxiproxy-request-id"));
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.text().await.expect("a body"), "404 page not found\n");
    assert_eq!(api.send(Method::PUT, "/proxies", "").await.status(), 405);
    assert_eq!(api.send(Method::HEAD, "/version", "").await.status(), 405);
    let browser = api.client.get(format!("{}/proxies", api.base)).header("User-Agent", "Mozilla/5.0");
    let answer = browser.send().await.expect("an answer");
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.text().await.expect("a body"), "User agent not allowed\n");
}

/// Reads until `wanted` was read, and gives back everything so far.
async fn heard(client: &mut tokio::net::TcpStream, text: &mut String, wanted: &str) {
    use tokio::io::AsyncReadExt;
    let reading = async {
        let mut buffer = [0; 4096];
        while !text.contains(wanted) {
            let count = client.read(&mut buffer).await.expect("news");
            assert!(count > 0, "ended without {wanted}: {text}");
            text.push_str(std::str::from_utf8(&buffer[..count]).expect("text"));
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("news in time");
}

#[tokio::test]
async fn the_event_stream_tells_of_connections_and_toxics_and_ends_with_the_server() {
    use tokio::io::AsyncReadExt;

    let api = Api::spawn().await;
    let address = api.echo_proxy().await;
    let mut stream = connect(api.base.trim_start_matches("http://").parse().expect("an address")).await;
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("asked");
    let mut text = String::new();
    heard(&mut stream, &mut text, ": listening").await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("text/event-stream"), "{text}");

    api.post("/proxies/echo/toxics", json!({"type": "latency", "attributes": {"latency": 1}})).await;
    let mut client = connect(address).await;
    round_trip(&mut client, b"hello").await;
    drop(client);
    heard(&mut stream, &mut text, "event: ended").await;
    heard(&mut stream, &mut text, "\"bytes_upstream\":5").await;
    let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(told, ["began", "accepted", "dialled", "struck", "ended"], "{text}");
    assert!(text.contains("\"kind\":\"latency\""), "{text}");

    // The stream does not keep the server from ending.
    drop(api);
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut Vec::new()))
        .await
        .expect("in time")
        .expect("an end");
}
