//! HTTP itself: routes, methods, headers, content types, ids, browsers, connections.

use std::io::Write;
use std::time::Instant;

use serde_json::json;

use crate::case::cases;
use crate::http;
use crate::server::{Server, Setup};
use crate::tcp::millis;

cases!("transport", ours: false, Setup { seed: 1, metrics: true, token: false }, [
    the_version_has_its_exact_bytes,
    an_unknown_path_is_404_in_plain_text,
    a_wrong_method_is_405_without_a_body,
    head_is_405_everywhere,
    a_slash_at_the_end_is_404,
    a_doubled_slash_is_moved_to_the_shortest_path,
    dots_in_a_path_are_moved_with_the_query,
    every_call_has_a_request_id_of_its_own,
    errors_of_the_router_have_no_request_id,
    browsers_are_refused,
    only_agents_that_begin_as_browsers_are_refused,
    a_browser_on_an_unknown_path_is_404,
    success_is_json_without_a_line_end,
    an_error_is_json_under_the_type_of_plain_text,
    the_content_type_of_a_request_does_not_matter,
    one_connection_takes_several_requests,
    a_chunked_body_is_read,
    a_body_that_is_announced_is_asked_for,
    http_1_0_is_answered,
    a_broken_escape_is_400,
    names_are_decoded,
    a_query_is_ignored,
    nonsense_instead_of_http_does_no_harm,
    twenty_clients_at_once_are_served,
    a_body_that_never_comes_is_given_up_after_15_seconds,
]);

/// The case that waits longest, and only waits.
pub const LONGEST: &str = "a_body_that_never_comes_is_given_up_after_15_seconds";

const ROUTES: [&str; 7] =
    ["/proxies", "/proxies/a", "/proxies/a/toxics", "/proxies/a/toxics/b", "/reset", "/populate", "/version"];

fn the_version_has_its_exact_bytes(server: &Server) {
    let answer = server.get("/version");
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    let version = answer.json()["version"].as_str().expect("a version").to_owned();
    assert_eq!(answer.pair(), (200, format!("{{\"version\": \"{version}\"}}\n")));
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(parts >= vec![2, 12, 0], "clients take {version} for an old one");
}

fn an_unknown_path_is_404_in_plain_text(server: &Server) {
    for path in ["/nope", "/", "/proxies/a/nope", "/proxies/a/toxics/b/c", "/version/x"] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = server.request(method, path, "", "");
            assert_eq!(answer.pair(), (404, "404 page not found\n".to_owned()), "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
    }
}

fn a_wrong_method_is_405_without_a_body(server: &Server) {
    let wrong = [
        ("GET", "/reset"),
        ("GET", "/populate"),
        ("POST", "/version"),
        ("PATCH", "/proxies"),
        ("DELETE", "/proxies"),
    ];
    let everywhere = ROUTES.iter().flat_map(|path| [("PUT", *path), ("OPTIONS", *path)]);
    for (method, path) in wrong.into_iter().chain(everywhere) {
        let answer = server.request(method, path, "", "");
        assert_eq!(answer.pair(), (405, String::new()), "{method} {path}");
        assert_eq!((answer.header("allow"), answer.header("content-type")), (None, None));
    }
}

fn head_is_405_everywhere(server: &Server) {
    for path in ROUTES {
        assert_eq!(server.request("HEAD", path, "", "").status, 405, "{path}");
    }
}

fn a_slash_at_the_end_is_404(server: &Server) {
    for path in ROUTES {
        let answer = server.get(&format!("{path}/"));
        assert_eq!(answer.pair(), (404, "404 page not found\n".to_owned()), "{path}/");
    }
}

fn a_doubled_slash_is_moved_to_the_shortest_path(server: &Server) {
    for (path, shortest) in
        [("//proxies", "/proxies"), ("/proxies//a", "/proxies/a"), ("/proxies//", "/proxies/")]
    {
        for method in ["GET", "POST"] {
            let answer = server.request(method, path, "", "");
            assert_eq!((answer.status, answer.header("location")), (301, Some(shortest)), "{method} {path}");
            assert_eq!(answer.text(), "");
        }
    }
}

fn dots_in_a_path_are_moved_with_the_query(server: &Server) {
    let answer = server.get("/proxies/../proxies/./a%20b?x=1");
    assert_eq!((answer.status, answer.header("location")), (301, Some("/proxies/a%20b?x=1")));
}

fn every_call_has_a_request_id_of_its_own(server: &Server) {
    let mut ids = std::collections::BTreeSet::new();
    let answers = [
        server.get("/proxies"),
        server.get("/version"),
        server.post("/reset", ""),
        server.get("/proxies/none"),
        server.post("/proxies", "broken"),
        server.request("GET", "/proxies", "User-Agent: Mozilla/5.0\r\n", ""),
        server.post("/populate", "broken"),
        server.get("/metrics"),
    ];
    let count = answers.len();
    for answer in answers {
        let id = answer.header("x-toxiproxy-request-id").expect("an id").to_owned();
        assert!(
            id.len() == 20 && id.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()),
            "{id}"
        );
        ids.insert(id);
    }
    assert_eq!(ids.len(), count, "ids came twice: {ids:?}");
}

fn errors_of_the_router_have_no_request_id(server: &Server) {
    for (method, path) in [("GET", "/nope"), ("PUT", "/proxies"), ("GET", "//proxies")] {
        let answer = server.request(method, path, "", "");
        assert_eq!(answer.header("x-toxiproxy-request-id"), None, "{method} {path}");
    }
}

fn browsers_are_refused(server: &Server) {
    for (method, path) in [("GET", "/proxies"), ("POST", "/reset"), ("GET", "/version"), ("GET", "/metrics")]
    {
        let answer = server.request(method, path, "User-Agent: Mozilla/5.0 (X11)\r\n", "");
        assert_eq!(answer.pair(), (403, "User agent not allowed\n".to_owned()), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

fn only_agents_that_begin_as_browsers_are_refused(server: &Server) {
    for agent in ["mozilla/5.0", "X Mozilla/5.0", "Mozilla", "", "toxiproxy-cli/2.12.0 (linux/amd64)"] {
        let answer = server.request("GET", "/proxies", &format!("User-Agent: {agent}\r\n"), "");
        assert_eq!(answer.pair(), (200, "{}".to_owned()), "{agent:?}");
    }
    assert_eq!(server.get("/proxies").status, 200, "no agent at all");
}

fn a_browser_on_an_unknown_path_is_404(server: &Server) {
    assert_eq!(server.request("GET", "/nope", "User-Agent: Mozilla/5.0\r\n", "").status, 404);
    assert_eq!(server.request("PUT", "/proxies", "User-Agent: Mozilla/5.0\r\n", "").status, 405);
}

fn success_is_json_without_a_line_end(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop"}));
    let shown = ["/proxies", "/proxies/echo", "/proxies/echo/toxics", "/proxies/echo/toxics/noop_downstream"];
    for path in shown {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{path}");
        assert!(!answer.text().ends_with('\n'), "{path}");
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    }
    let gone = server.delete("/proxies/echo");
    assert_eq!((gone.pair(), gone.header("content-type")), ((204, String::new()), None));
}

fn an_error_is_json_under_the_type_of_plain_text(server: &Server) {
    let answer = server.get("/proxies/none");
    assert_eq!(answer.pair(), (404, "{\"error\":\"proxy not found\",\"status\":404}\n".to_owned()));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

fn the_content_type_of_a_request_does_not_matter(server: &Server) {
    for (name, kind) in
        [("a", "text/html"), ("b", "application/xml"), ("c", "application/x-www-form-urlencoded")]
    {
        let body = json!({"name": name, "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"}).to_string();
        let answer = server.request("POST", "/proxies", &format!("Content-Type: {kind}\r\n"), &body);
        assert_eq!(answer.status, 201, "{kind}");
    }
}

fn one_connection_takes_several_requests(server: &Server) {
    let mut socket = http::open(server.api);
    for _ in 0..3 {
        let head = format!("GET /version HTTP/1.1\r\nHost: {}\r\n\r\n", server.api);
        socket.write_all(head.as_bytes()).expect("sent");
        assert_eq!(http::read_one(&mut socket).status, 200);
    }
    let head = format!("POST /proxies HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\n{{}}", server.api);
    socket.write_all(head.as_bytes()).expect("sent");
    assert_eq!(http::read_one(&mut socket).status, 400, "an error does not end the connection");
    let head = format!("DELETE /proxies/none HTTP/1.1\r\nHost: {}\r\n\r\n", server.api);
    socket.write_all(head.as_bytes()).expect("sent");
    assert_eq!(http::read_one(&mut socket).status, 404);
}

fn a_chunked_body_is_read(server: &Server) {
    let body = json!({"name": "chunked", "upstream": "127.0.0.1:1", "enabled": false}).to_string();
    let (a, b) = body.split_at(10);
    let request = format!(
        "POST /proxies HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    assert_eq!(http::raw(server.api, request.as_bytes()).status, 201);
}

fn a_body_that_is_announced_is_asked_for(server: &Server) {
    let mut socket = http::open(server.api);
    let body = json!({"name": "expected", "upstream": "127.0.0.1:1", "enabled": false}).to_string();
    let head = format!(
        "POST /proxies HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).expect("sent");
    let mut go_on = [0; 25];
    std::io::Read::read_exact(&mut socket, &mut go_on).expect("an interim answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(body.as_bytes()).expect("sent");
    assert_eq!(http::read_one(&mut socket).status, 201);
}

fn http_1_0_is_answered(server: &Server) {
    let answer = http::raw(server.api, b"GET /proxies HTTP/1.0\r\n\r\n");
    assert_eq!(answer.pair(), (200, "{}".to_owned()));
}

fn a_broken_escape_is_400(server: &Server) {
    assert_eq!(server.get("/proxies/%zz").status, 400);
    server.assert_alive();
}

fn names_are_decoded(server: &Server) {
    for (name, path) in
        [("a b", "a%20b"), ("é", "%C3%A9"), ("a+b", "a+b"), ("100%", "100%25"), ("q?", "q%3F")]
    {
        let body = json!({"name": name, "upstream": "127.0.0.1:1", "enabled": false}).to_string();
        assert_eq!(server.post("/proxies", &body).status, 201, "{name}");
        assert_eq!(server.show(&format!("/proxies/{path}"))["name"], name);
        assert_eq!(server.delete(&format!("/proxies/{path}")).status, 204, "{name}");
    }
}

fn a_query_is_ignored(server: &Server) {
    assert_eq!(server.get("/proxies?x=1&y").pair(), (200, "{}".to_owned()));
}

fn nonsense_instead_of_http_does_no_harm(server: &Server) {
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        let mut socket = http::open(server.api);
        socket.write_all(bytes).expect("sent");
        socket.shutdown(std::net::Shutdown::Write).expect("half closed");
        // An answer or none, an end or a reset: only that the server goes on matters.
        let _ = std::io::Read::read_to_end(&mut socket, &mut Vec::new());
    }
    server.assert_alive();
}

fn twenty_clients_at_once_are_served(server: &Server) {
    let api = server.api;
    let clients: Vec<_> = (0..20)
        .map(|number| {
            std::thread::spawn(move || {
                let body =
                    json!({"name": format!("p{number}"), "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"});
                let made = http::request(api, "POST", "/proxies", "", body.to_string().as_bytes());
                let again = http::request(api, "POST", "/proxies", "", body.to_string().as_bytes());
                (made.status, again.status)
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("a client"), (201, 409));
    }
    assert_eq!(server.show("/proxies").as_object().map(serde_json::Map::len), Some(20));
}

fn a_body_that_never_comes_is_given_up_after_15_seconds(server: &Server) {
    let mut socket = http::open(server.api);
    let start = Instant::now();
    socket.write_all(b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").expect("sent");
    let answer = http::read_one(&mut socket);
    assert!(start.elapsed() >= millis(14_900), "given up after {:?}", start.elapsed());
    let message = answer.json()["error"].as_str().expect("a message").to_owned();
    assert!(
        message.starts_with("bad request body: read tcp ") && message.ends_with(": i/o timeout"),
        "{message}"
    );
    assert_eq!(answer.status, 400);
}
