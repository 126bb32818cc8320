//! A server that demands a token.

use crate::case::cases;
use crate::server::{Server, Setup, TOKEN};

cases!("token", ours: true, Setup { seed: 1, metrics: true, token: true }, [
    every_route_demands_the_token,
    a_wrong_token_is_refused,
    the_right_token_opens_every_route,
    the_scheme_is_read_in_any_case,
]);

const CALLS: [(&str, &str); 9] = [
    ("GET", "/proxies"),
    ("POST", "/proxies"),
    ("GET", "/proxies/a"),
    ("DELETE", "/proxies/a/toxics/b"),
    ("POST", "/populate"),
    ("POST", "/reset"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", "/nope"),
];

fn every_route_demands_the_token(server: &Server) {
    let body = "{\"error\":\"missing or wrong token: send the header `Authorization: Bearer TOKEN`\",\"status\":401}\n";
    for (method, path) in CALLS {
        let answer = server.request(method, path, "", "");
        assert_eq!(answer.pair(), (401, body.to_owned()), "{method} {path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

fn a_wrong_token_is_refused(server: &Server) {
    for value in [
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        TOKEN,
        "Basic YTpi",
        &format!("Bearer {TOKEN}x"),
        &format!("Bearer  {TOKEN}"),
    ] {
        let answer = server.request("GET", "/proxies", &format!("Authorization: {value}\r\n"), "");
        assert_eq!(answer.status, 401, "{value}");
    }
}

fn the_right_token_opens_every_route(server: &Server) {
    for (method, path) in CALLS {
        let answer = server.request(method, path, &format!("Authorization: Bearer {TOKEN}\r\n"), "");
        assert_ne!(answer.status, 401, "{method} {path}");
    }
}

fn the_scheme_is_read_in_any_case(server: &Server) {
    let answer = server.request("GET", "/version", &format!("authorization: bearer {TOKEN}\r\n"), "");
    assert_eq!(answer.status, 200);
}
