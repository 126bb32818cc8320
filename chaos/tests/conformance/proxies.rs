//! Proxies through the API: creating, showing, changing, deleting.

use serde_json::{Value, json};

use crate::case::cases;
use crate::server::{Server, Setup};
use crate::tcp::*;

cases!("proxies", ours: false, Setup { seed: 1, metrics: false, token: false }, [
    at_first_there_are_none,
    a_new_proxy_is_answered_and_shown,
    a_name_is_needed,
    an_upstream_is_needed,
    a_name_can_be_taken_once,
    an_address_that_is_taken_is_500_and_leaves_nothing,
    two_proxies_on_one_address_conflict,
    an_address_without_a_port_is_500,
    addresses_that_cannot_be_are_named,
    a_hostname_is_resolved_in_the_answer,
    a_missing_listen_takes_a_free_port,
    a_disabled_proxy_keeps_its_string_and_its_hands_off_the_port,
    a_disabled_proxy_is_enabled_later,
    proxies_are_listed_by_name,
    an_update_keeps_what_is_not_given,
    an_update_ignores_the_name,
    patch_does_what_post_does,
    an_empty_upstream_is_taken_by_an_update,
    an_unknown_proxy_is_404_before_the_body_is_read,
    an_address_that_cannot_be_changes_nothing,
    an_address_that_is_taken_leaves_the_proxy_disabled_with_it,
    a_proxy_whose_address_was_taken_can_be_enabled_when_it_is_free,
    deleting_frees_the_name_and_the_port,
    deleting_twice_is_404,
    an_empty_listen_moves_to_a_free_port,
]);

fn create(server: &Server, body: Value) -> (u16, String) {
    server.post("/proxies", &body.to_string()).pair()
}

fn error(status: u16, message: &str) -> (u16, String) {
    (status, format!("{}\n", json!({"error": message, "status": status})))
}

fn at_first_there_are_none(server: &Server) {
    assert_eq!(server.get("/proxies").pair(), (200, "{}".to_owned()));
}

fn a_new_proxy_is_answered_and_shown(server: &Server) {
    let upstream = Upstream::echo();
    let proxy = server.proxy("a", &upstream.text());
    let shown = server.show("/proxies/a");
    assert_eq!((&shown["name"], &shown["upstream"]), (&json!("a"), &json!(upstream.text())));
    assert_eq!((&shown["listen"], &shown["enabled"]), (&json!(proxy.address.to_string()), &json!(true)));
    assert_eq!(shown["toxics"], json!([]));
    assert_eq!(server.show("/proxies")["a"], shown);
    round_trip(&mut connect(proxy.address), b"hello");
}

fn a_name_is_needed(server: &Server) {
    for body in
        [json!({}), json!({"name": ""}), json!({"upstream": "x:1"}), json!({"name": "", "upstream": "x:1"})]
    {
        assert_eq!(create(server, body), error(400, "missing required field: name"));
    }
}

fn an_upstream_is_needed(server: &Server) {
    for body in [json!({"name": "a"}), json!({"name": "a", "upstream": "", "listen": "nonsense"})] {
        assert_eq!(create(server, body), error(400, "missing required field: upstream"));
    }
    assert_eq!(server.get("/proxies").text(), "{}");
}

fn a_name_can_be_taken_once(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let body = json!({"name": "echo", "listen": proxy.address.to_string(), "upstream": "x:1"});
    assert_eq!(create(server, body), error(409, "proxy already exists"), "told before the address");
    let body = json!({"name": "echo", "listen": "nonsense", "upstream": "x:1"});
    assert_eq!(create(server, body), error(409, "proxy already exists"));
    round_trip(&mut connect(proxy.address), b"untouched");
}

fn an_address_that_is_taken_is_500_and_leaves_nothing(server: &Server) {
    let taken = taken_port();
    let address = taken.local_addr().expect("an address").to_string();
    let body = json!({"name": "a", "listen": address, "upstream": "x:1"});
    assert_eq!(
        create(server, body.clone()),
        error(500, &format!("listen tcp {address}: bind: address already in use"))
    );
    assert_eq!(server.get("/proxies").text(), "{}");
    release(taken);
    assert_eq!(create(server, body).0, 201);
}

fn two_proxies_on_one_address_conflict(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let address = proxy.address;
    let body = json!({"name": "b", "listen": address.to_string(), "upstream": "x:1"});
    assert_eq!(
        create(server, body),
        error(500, &format!("listen tcp {address}: bind: address already in use"))
    );
    round_trip(&mut connect(address), b"untouched");
}

fn an_address_without_a_port_is_500(server: &Server) {
    let body = json!({"name": "a", "listen": "local373", "upstream": "x:1"});
    assert_eq!(create(server, body), error(500, "listen tcp: address local373: missing port in address"));
    assert_eq!(server.get("/proxies").text(), "{}");
}

fn addresses_that_cannot_be_are_named(server: &Server) {
    for (listen, message) in [
        ("a:b:1", "address a:b:1: too many colons in address"),
        ("127.0.0.1:70000", "address 70000: invalid port"),
        ("[::1]", "address [::1]: missing port in address"),
        ("[::1:80", "address [::1:80: missing ']' in address"),
    ] {
        let body = json!({"name": "a", "listen": listen, "upstream": "x:1"});
        assert_eq!(create(server, body), error(500, &format!("listen tcp: {message}")), "{listen}");
    }
}

fn a_hostname_is_resolved_in_the_answer(server: &Server) {
    let body = json!({"name": "a", "listen": "localhost:0", "upstream": "x:1"}).to_string();
    let listen = server.post("/proxies", &body).json()["listen"].as_str().expect("an address").to_owned();
    assert!(listen.starts_with("127.0.0.1:") && !listen.ends_with(":0"), "{listen}");
}

fn a_missing_listen_takes_a_free_port(server: &Server) {
    let upstream = Upstream::echo();
    for (name, listen) in [("a", Value::Null), ("b", json!(""))] {
        let body = json!({"name": name, "listen": listen, "upstream": upstream.text()}).to_string();
        let listen = server.post("/proxies", &body).json()["listen"].as_str().expect("an address").to_owned();
        let port: u16 = listen.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        round_trip(&mut connect(([127, 0, 0, 1], port).into()), b"hello");
    }
}

fn a_disabled_proxy_keeps_its_string_and_its_hands_off_the_port(server: &Server) {
    let taken = taken_port();
    let port = taken.local_addr().expect("an address").port();
    for (name, listen) in
        [("a", format!("localhost:{port}")), ("b", "nonsense".to_owned()), ("c", String::new())]
    {
        let body = json!({"name": name, "listen": listen, "upstream": "x:1", "enabled": false}).to_string();
        let answer = server.post("/proxies", &body);
        assert_eq!((answer.status, &answer.json()["listen"]), (201, &json!(listen)));
        assert_eq!(answer.json()["enabled"], false);
    }
}

fn a_disabled_proxy_is_enabled_later(server: &Server) {
    let upstream = Upstream::echo();
    let body = json!({"name": "a", "listen": "localhost:0", "upstream": upstream.text(), "enabled": false});
    assert_eq!(create(server, body).0, 201);
    let shown = server.post("/proxies/a", r#"{"enabled":true}"#).json();
    assert_eq!(shown["enabled"], true);
    let address = shown["listen"].as_str().and_then(|text| text.parse().ok()).expect("a resolved address");
    round_trip(&mut connect(address), b"hello");
}

fn proxies_are_listed_by_name(server: &Server) {
    for name in ["b", "a b", "é", "A", "a"] {
        let body = json!({"name": name, "upstream": "x:1", "enabled": false});
        assert_eq!(create(server, body).0, 201);
    }
    let text = server.get("/proxies").text();
    let places: Vec<usize> = ["A", "a", "a b", "b", "é"]
        .iter()
        .map(|name| text.find(&format!("\"{name}\":{{")).expect("listed"))
        .collect();
    assert!(places.is_sorted(), "{text}");
}

fn an_update_keeps_what_is_not_given(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let before = proxy.show();
    for body in ["{}", "null", r#"{"enabled":true}"#, r#"{"upstream":null}"#] {
        let answer = server.post("/proxies/echo", body);
        assert_eq!((answer.status, answer.json()), (200, before.clone()), "{body}");
    }
}

fn an_update_ignores_the_name(server: &Server) {
    let (proxy, _upstream) = server.echo();
    assert_eq!(proxy.update(json!({"name": "other", "toxics": []})).json()["name"], "echo");
    assert_eq!(server.get("/proxies/other").status, 404);
}

fn patch_does_what_post_does(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let answer = server.patch("/proxies/echo", r#"{"enabled":false}"#);
    assert_eq!((answer.status, &answer.json()["enabled"]), (200, &json!(false)));
    assert!(refused(proxy.address));
}

fn an_empty_upstream_is_taken_by_an_update(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let answer = proxy.update(json!({"upstream": ""}));
    assert_eq!((answer.status, &answer.json()["upstream"]), (200, &json!("")));
}

fn an_unknown_proxy_is_404_before_the_body_is_read(server: &Server) {
    let calls = [
        ("GET", "/proxies/none"),
        ("POST", "/proxies/none"),
        ("PATCH", "/proxies/none"),
        ("DELETE", "/proxies/none"),
        ("GET", "/proxies/none/toxics"),
        ("POST", "/proxies/none/toxics"),
        ("GET", "/proxies/none/toxics/x"),
        ("POST", "/proxies/none/toxics/x"),
        ("DELETE", "/proxies/none/toxics/x"),
    ];
    for (method, path) in calls {
        let answer = server.request(method, path, "", "broken");
        assert_eq!(answer.pair(), error(404, "proxy not found"), "{method} {path}");
    }
}

fn an_address_that_cannot_be_changes_nothing(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let before = proxy.show();
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    let answer = proxy.update(json!({"listen": "bad", "upstream": "x:1", "enabled": false}));
    assert_eq!(answer.pair(), error(500, "address bad: missing port in address"));
    assert_eq!(proxy.show(), before);
    round_trip(&mut client, b"after");
}

fn an_address_that_is_taken_leaves_the_proxy_disabled_with_it(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let taken = taken_port();
    let address = taken.local_addr().expect("an address").to_string();
    let answer = proxy.update(json!({"listen": address}));
    assert_eq!(answer.pair(), error(500, &format!("listen tcp {address}: bind: address already in use")));
    let shown = proxy.show();
    assert_eq!((&shown["enabled"], &shown["listen"]), (&json!(false), &json!(address)));
    assert!(refused(proxy.address), "the old port is closed");
}

fn a_proxy_whose_address_was_taken_can_be_enabled_when_it_is_free(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let taken = taken_port();
    let address = taken.local_addr().expect("an address");
    assert_eq!(proxy.update(json!({"listen": address.to_string()})).status, 500);
    assert_eq!(proxy.update(json!({"enabled": true})).status, 500, "still taken");
    release(taken);
    proxy.enable(true);
    round_trip(&mut connect(address), b"hello");
}

fn deleting_frees_the_name_and_the_port(server: &Server) {
    let (proxy, upstream) = server.echo();
    let address = proxy.address;
    let mut client = connect(address);
    round_trip(&mut client, b"hello");
    assert_eq!(server.delete("/proxies/echo").pair(), (204, String::new()));
    assert_end(&mut client);
    assert!(refused(address));
    assert_eq!(server.get("/proxies").text(), "{}");
    let again = json!({"name": "echo", "listen": address.to_string(), "upstream": upstream.text()});
    round_trip(&mut connect(server.proxy_with(again).address), b"again");
}

fn deleting_twice_is_404(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    assert_eq!(server.delete("/proxies/echo").status, 204);
    assert_eq!(server.delete("/proxies/echo").pair(), error(404, "proxy not found"));
}

fn an_empty_listen_moves_to_a_free_port(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let shown = proxy.update(json!({"listen": ""})).json();
    assert_ne!(shown["listen"], proxy.address.to_string());
    assert_eq!(shown["enabled"], true);
    assert!(refused(proxy.address));
}
