//! What changes of a proxy do to its connections and toxics; reset.

use serde_json::json;

use crate::case::cases;
use crate::server::{Server, Setup};
use crate::tcp::*;

cases!("life", ours: false, Setup { seed: 1, metrics: false, token: false }, [
    disabling_ends_connections_in_good_order_and_refuses_new_ones,
    enabling_what_is_enabled_keeps_connections,
    a_proxy_goes_off_and_on_many_times,
    toxics_survive_disabling,
    toxics_can_be_added_while_disabled,
    the_same_address_by_name_is_no_change,
    a_changed_listen_moves_the_proxy_and_keeps_its_toxics,
    a_changed_upstream_ends_connections_and_keeps_toxics,
    an_update_can_move_and_disable_at_once,
    a_client_without_an_upstream_is_closed,
    an_upstream_that_comes_back_is_used,
    an_upstream_by_name_is_dialled,
    reset_enables_everything_and_removes_toxics,
    reset_keeps_connections_and_proxies,
    reset_ignores_its_body,
    reset_fails_where_an_address_is_taken,
    reset_without_proxies_is_204,
    many_connections_end_together,
]);

fn disabling_ends_connections_in_good_order_and_refuses_new_ones(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut clients = [connect(proxy.address), connect(proxy.address)];
    clients.iter_mut().for_each(|client| {
        round_trip(client, b"hello");
    });
    proxy.enable(false);
    clients.iter_mut().for_each(assert_end);
    assert!(refused(proxy.address));
    proxy.enable(true);
    round_trip(&mut connect(proxy.address), b"again");
    assert_eq!(proxy.show()["listen"], proxy.address.to_string(), "the port stays");
}

fn enabling_what_is_enabled_keeps_connections(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    proxy.enable(true);
    round_trip(&mut client, b"after");
}

fn a_proxy_goes_off_and_on_many_times(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for _ in 0..20 {
        let mut client = connect(proxy.address);
        round_trip(&mut client, b"on");
        proxy.enable(false);
        assert_end(&mut client);
        assert!(refused(proxy.address));
        proxy.enable(true);
    }
}

fn toxics_survive_disabling(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 50}}));
    proxy.enable(false);
    proxy.enable(true);
    assert_eq!(proxy.show()["toxics"][0]["name"], "latency_downstream");
    assert!(round_trip(&mut connect(proxy.address), b"hello") >= millis(50));
}

fn toxics_can_be_added_while_disabled(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.enable(false);
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 50}}));
    proxy.update_toxic("latency_downstream", json!({"attributes": {"latency": 60}}));
    proxy.enable(true);
    assert!(round_trip(&mut connect(proxy.address), b"hello") >= millis(60));
}

fn the_same_address_by_name_is_no_change(server: &Server) {
    let (proxy, upstream) = server.echo();
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    let same = json!({"listen": format!("localhost:{}", proxy.address.port()), "upstream": upstream.text()});
    let shown = proxy.update(same).json();
    assert_eq!(shown["listen"], proxy.address.to_string());
    round_trip(&mut client, b"after");
}

fn a_changed_listen_moves_the_proxy_and_keeps_its_toxics(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "kept"}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"hello");
    let answer = proxy.update(json!({"listen": "127.0.0.1:0"}));
    assert_eq!(answer.status, 200);
    assert_end(&mut client);
    let shown = answer.json();
    assert_eq!((&shown["toxics"][0]["name"], &shown["enabled"]), (&json!("kept"), &json!(true)));
    assert!(refused(proxy.address));
    let address = shown["listen"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    round_trip(&mut connect(address), b"moved");
}

fn a_changed_upstream_ends_connections_and_keeps_toxics(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "kept"}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"hello");
    let other = Upstream::source(b"other".to_vec());
    let shown = proxy.update(json!({"upstream": other.text()})).json();
    assert_end(&mut client);
    assert_eq!((&shown["upstream"], &shown["toxics"][0]["name"]), (&json!(other.text()), &json!("kept")));
    assert_eq!(receive(&mut connect(proxy.address), 5), b"other");
}

fn an_update_can_move_and_disable_at_once(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let shown = proxy.update(json!({"listen": "localhost:0", "enabled": false})).json();
    assert_eq!((&shown["listen"], &shown["enabled"]), (&json!("localhost:0"), &json!(false)));
    assert!(refused(proxy.address));
}

fn a_client_without_an_upstream_is_closed(server: &Server) {
    let (_kept, address) = closed_port();
    let proxy = server.proxy("down", &address.to_string());
    for _ in 0..3 {
        assert_end(&mut connect(proxy.address));
    }
    assert_eq!(proxy.show()["enabled"], true);
}

fn an_upstream_that_comes_back_is_used(server: &Server) {
    let (kept, address) = closed_port();
    let proxy = server.proxy("down", &address.to_string());
    assert_end(&mut connect(proxy.address));
    kept.listen(16).expect("it listens now");
    let accept = std::thread::spawn(move || {
        let (socket, _) = kept.accept().expect("a connection");
        std::io::Write::write_all(&mut &socket, b"back").expect("sent");
        socket
    });
    assert_eq!(receive(&mut connect(proxy.address), 4), b"back");
    drop(accept.join());
}

fn an_upstream_by_name_is_dialled(server: &Server) {
    let upstream = Upstream::echo();
    let proxy = server.proxy("named", &format!("localhost:{}", upstream.address.port()));
    round_trip(&mut connect(proxy.address), b"hello");
}

fn reset_enables_everything_and_removes_toxics(server: &Server) {
    let upstream = Upstream::echo();
    let proxies = ["a", "b", "c"].map(|name| server.proxy(name, &upstream.text()));
    for proxy in &proxies {
        proxy.toxic(json!({"type": "latency", "attributes": {"latency": 60_000}}));
        proxy.toxic(json!({"type": "noop", "stream": "upstream"}));
    }
    proxies[0].enable(false);
    proxies[2].enable(false);
    assert_eq!(server.post("/reset", "").pair(), (204, String::new()));
    for proxy in &proxies {
        let shown = proxy.show();
        assert_eq!((&shown["enabled"], &shown["toxics"]), (&json!(true), &json!([])));
        round_trip(&mut connect(proxy.address), b"hello");
    }
}

fn reset_keeps_connections_and_proxies(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 1}}));
    let mut client = connect(proxy.address);
    round_trip(&mut client, b"before");
    assert_eq!(server.post("/reset", "").status, 204);
    round_trip(&mut client, b"after");
}

fn reset_ignores_its_body(server: &Server) {
    for body in ["", "broken", "{}", "[1"] {
        assert_eq!(server.post("/reset", body).pair(), (204, String::new()), "{body}");
    }
}

fn reset_fails_where_an_address_is_taken(server: &Server) {
    let taken = taken_port();
    let address = taken.local_addr().expect("an address").to_string();
    let body = json!({"name": "a", "listen": address, "upstream": "x:1", "enabled": false}).to_string();
    assert_eq!(server.post("/proxies", &body).status, 201);
    let answer = server.post("/reset", "");
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"], format!("listen tcp {address}: bind: address already in use"));
    release(taken);
    assert_eq!(server.post("/reset", "").status, 204);
}

fn reset_without_proxies_is_204(server: &Server) {
    assert_eq!(server.post("/reset", "").pair(), (204, String::new()));
}

fn many_connections_end_together(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let mut clients: Vec<_> = (0..100).map(|_| connect(proxy.address)).collect();
    clients.iter_mut().for_each(|client| {
        round_trip(client, b"hello");
    });
    assert_eq!(server.delete("/proxies/echo").status, 204);
    clients.iter_mut().for_each(assert_end);
}
