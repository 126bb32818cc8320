//! Populate: a list of proxies at once.

use serde_json::{Value, json};

use crate::case::cases;
use crate::http::Answer;
use crate::server::{Server, Setup};
use crate::tcp::*;

cases!("populate", ours: false, Setup { seed: 1, metrics: false, token: false }, [
    proxies_are_created_in_order,
    an_answer_is_json_in_success_and_failure,
    proxies_are_enabled_unless_said_otherwise,
    nothing_is_null,
    an_unchanged_proxy_is_left_alone_with_its_connections_and_toxics,
    an_unchanged_proxy_keeps_its_state,
    a_changed_proxy_is_replaced_and_loses_its_toxics,
    a_proxy_that_is_not_named_stays,
    a_missing_field_is_told_with_its_place_and_creates_nothing,
    a_list_that_is_no_list_is_named,
    a_list_that_is_broken_is_named,
    the_first_that_cannot_listen_ends_it_and_those_before_stay,
    a_replacement_that_cannot_listen_leaves_the_old_one_disabled,
    an_address_that_cannot_be_is_told,
    toxics_can_be_added_to_a_populated_proxy,
]);

fn populate(server: &Server, list: Value) -> Answer {
    server.post("/populate", &list.to_string())
}

fn proxies_are_created_in_order(server: &Server) {
    let upstream = Upstream::echo();
    let answer = populate(
        server,
        json!([
            {"name": "two", "listen": "127.0.0.1:0", "upstream": upstream.text()},
            {"name": "one", "listen": "localhost:0", "upstream": upstream.text()},
        ]),
    );
    assert_eq!(answer.status, 201);
    let shown = answer.json();
    assert_eq!(shown.as_object().map(serde_json::Map::len), Some(1), "only `proxies`");
    let names: Vec<&Value> =
        shown["proxies"].as_array().expect("a list").iter().map(|proxy| &proxy["name"]).collect();
    assert_eq!(names, ["two", "one"]);
    for proxy in shown["proxies"].as_array().expect("a list") {
        assert_eq!(*proxy, server.show(&format!("/proxies/{}", proxy["name"].as_str().expect("a name"))));
        let address =
            proxy["listen"].as_str().and_then(|text| text.parse().ok()).expect("a resolved address");
        round_trip(&mut connect(address), b"hello");
    }
}

fn an_answer_is_json_in_success_and_failure(server: &Server) {
    let good = populate(server, json!([{"name": "a", "upstream": "x:1", "enabled": false}]));
    let bad = populate(server, json!([{"name": "a"}]));
    for (answer, status) in [(good, 201), (bad, 400)] {
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")));
        assert_eq!(answer.header("x-content-type-options"), None);
        assert!(!answer.text().ends_with('\n'));
    }
}

fn proxies_are_enabled_unless_said_otherwise(server: &Server) {
    let answer = populate(
        server,
        json!([
            {"name": "a", "listen": "127.0.0.1:0", "upstream": "x:1"},
            {"name": "b", "listen": "127.0.0.1:0", "upstream": "x:1", "enabled": null},
            {"name": "c", "listen": "127.0.0.1:0", "upstream": "x:1", "enabled": false},
        ]),
    );
    let shown = answer.json();
    let enabled: Vec<&Value> =
        shown["proxies"].as_array().expect("a list").iter().map(|proxy| &proxy["enabled"]).collect();
    assert_eq!(enabled, [&json!(true), &json!(true), &json!(false)]);
    assert_eq!(shown["proxies"][2]["listen"], "127.0.0.1:0");
}

fn nothing_is_null(server: &Server) {
    for body in ["[]", "null"] {
        assert_eq!(server.post("/populate", body).pair(), (201, r#"{"proxies":null}"#.to_owned()), "{body}");
    }
}

fn an_unchanged_proxy_is_left_alone_with_its_connections_and_toxics(server: &Server) {
    let (proxy, upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "kept"}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    for listen in [proxy.address.to_string(), format!("localhost:{}", proxy.address.port())] {
        let answer =
            populate(server, json!([{"name": "echo", "listen": listen, "upstream": upstream.text()}]));
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json()["proxies"][0], proxy.show());
        assert_eq!(proxy.show()["toxics"][0]["name"], "kept");
        round_trip(&mut client, b"after");
    }
}

fn an_unchanged_proxy_keeps_its_state(server: &Server) {
    let (proxy, upstream) = server.echo();
    let same = |enabled: bool| json!([{"name": "echo", "listen": proxy.address.to_string(), "upstream": upstream.text(), "enabled": enabled}]);
    assert_eq!(populate(server, same(false)).json()["proxies"][0]["enabled"], true);
    proxy.enable(false);
    assert_eq!(populate(server, same(true)).json()["proxies"][0]["enabled"], false);
}

fn a_changed_proxy_is_replaced_and_loses_its_toxics(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop"}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    let other = Upstream::source(b"other".to_vec());
    let list = json!([{"name": "echo", "listen": proxy.address.to_string(), "upstream": other.text()}]);
    let shown = populate(server, list).json();
    assert_eq!(shown["proxies"][0]["toxics"], json!([]));
    assert_end(&mut client);
    assert_eq!(receive(&mut connect(proxy.address), 5), b"other");
}

fn a_proxy_that_is_not_named_stays(server: &Server) {
    let (proxy, _upstream) = server.echo();
    assert_eq!(populate(server, json!([{"name": "b", "upstream": "x:1", "enabled": false}])).status, 201);
    round_trip(&mut connect(proxy.address), b"hello");
    assert_eq!(server.show("/proxies").as_object().map(serde_json::Map::len), Some(2));
}

fn a_missing_field_is_told_with_its_place_and_creates_nothing(server: &Server) {
    let good = json!({"name": "good", "listen": "127.0.0.1:0", "upstream": "x:1"});
    for (bad, message) in [
        (json!({"upstream": "x:1"}), "missing required field: name at proxy 2"),
        (json!({"name": "", "upstream": "x:1"}), "missing required field: name at proxy 2"),
        (json!({"name": "b"}), "missing required field: upstream at proxy 2"),
        (Value::Null, "missing required field: name at proxy 2"),
    ] {
        let expected = format!(r#"{{"error":"{message}","status":400,"proxies":null}}"#);
        assert_eq!(populate(server, json!([good, bad])).pair(), (400, expected));
        assert_eq!(server.get("/proxies").text(), "{}");
    }
}

fn a_list_that_is_no_list_is_named(server: &Server) {
    for (body, kind) in [("{}", "object"), ("5", "number"), ("\"a\"", "string")] {
        let answer = server.post("/populate", body);
        assert_eq!(answer.status, 400);
        let shown = answer.json();
        let message = shown["error"].as_str().expect("a message");
        let start =
            format!("bad request body: json: cannot unmarshal {kind} into Go value of type []struct {{ ");
        assert!(message.starts_with(&start), "{message}");
        assert_eq!(shown["proxies"], Value::Null);
    }
}

fn a_list_that_is_broken_is_named(server: &Server) {
    for (body, message) in [
        ("", "EOF"),
        ("[{\"name\":\"a\"", "unexpected EOF"),
        ("[,]", "invalid character ',' looking for beginning of value"),
    ] {
        let expected =
            json!({"error": format!("bad request body: {message}"), "status": 400, "proxies": null});
        assert_eq!(server.post("/populate", body).json(), expected, "{body}");
    }
}

fn the_first_that_cannot_listen_ends_it_and_those_before_stay(server: &Server) {
    let taken = taken_port();
    let address = taken.local_addr().expect("an address").to_string();
    let answer = populate(
        server,
        json!([
            {"name": "a", "listen": "127.0.0.1:0", "upstream": "x:1"},
            {"name": "b", "listen": address, "upstream": "x:1"},
            {"name": "c", "listen": "127.0.0.1:0", "upstream": "x:1"},
        ]),
    );
    let shown = answer.json();
    assert_eq!(answer.status, 500);
    assert_eq!(shown["status"], 500);
    assert_eq!(shown["error"], format!("listen tcp {address}: bind: address already in use"));
    assert_eq!(shown["proxies"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["proxies"][0], server.show("/proxies/a"));
    assert_eq!(server.show("/proxies").as_object().map(serde_json::Map::len), Some(1));
}

fn a_replacement_that_cannot_listen_leaves_the_old_one_disabled(server: &Server) {
    let (proxy, upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "kept"}));
    let taken = taken_port();
    let address = taken.local_addr().expect("an address").to_string();
    let answer = populate(server, json!([{"name": "echo", "listen": address, "upstream": upstream.text()}]));
    assert_eq!((answer.status, &answer.json()["proxies"]), (500, &Value::Null));
    let shown = proxy.show();
    assert_eq!((&shown["enabled"], &shown["listen"]), (&json!(false), &json!(proxy.address.to_string())));
    assert_eq!(shown["toxics"][0]["name"], "kept");
    proxy.enable(true);
    round_trip(&mut connect(proxy.address), b"hello");
}

fn an_address_that_cannot_be_is_told(server: &Server) {
    let answer = populate(server, json!([{"name": "a", "listen": "bad", "upstream": "x:1"}]));
    let shown = answer.json();
    assert_eq!((answer.status, &shown["proxies"]), (500, &Value::Null));
    assert_eq!(shown["error"], "listen tcp: address bad: missing port in address");
    assert_eq!(server.get("/proxies").text(), "{}");
}

fn toxics_can_be_added_to_a_populated_proxy(server: &Server) {
    let upstream = Upstream::echo();
    let shown =
        populate(server, json!([{"name": "a", "listen": "127.0.0.1:0", "upstream": upstream.text()}])).json();
    let toxic = json!({"type": "latency", "attributes": {"latency": 40}}).to_string();
    assert_eq!(server.post("/proxies/a/toxics", &toxic).status, 200);
    let address =
        shown["proxies"][0]["listen"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    assert!(round_trip(&mut connect(address), b"hello") >= millis(40));
}
