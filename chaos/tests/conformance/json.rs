//! Bodies: what is read leniently, what is refused and in which words, what is written.

use serde_json::json;

use crate::case::cases;
use crate::http;
use crate::server::{Server, Setup};

cases!("json", ours: false, Setup { seed: 1, metrics: false, token: false }, [
    keys_are_read_in_any_case,
    null_is_absent,
    null_as_a_whole_is_an_empty_object,
    unknown_keys_are_ignored,
    what_follows_the_first_value_is_ignored,
    of_doubled_keys_the_last_counts,
    an_empty_body_is_eof,
    a_body_that_is_cut_is_an_unexpected_eof,
    broken_syntax_is_named,
    wrong_types_are_named,
    a_body_that_is_no_object_is_named,
    an_attribute_that_is_no_integer_is_named,
    negative_integers_are_taken,
    any_toxicity_is_taken_and_shown_short,
    a_toxicity_that_is_no_number_is_refused,
    attributes_that_are_no_object_are_refused,
    unknown_attributes_are_ignored,
    html_is_escaped_in_answers,
    escapes_and_surrogates_are_decoded,
    bytes_that_are_not_utf_8_are_replaced,
    nesting_without_end_is_refused,
    zero_is_zero_with_a_sign_too,
]);

fn error(message: &str) -> (u16, String) {
    (400, format!("{}\n", json!({"error": message, "status": 400})))
}

fn refused(server: &Server, path: &str, body: &str, message: &str) {
    assert_eq!(server.post(path, body).pair(), error(&format!("bad request body: {message}")), "{body}");
}

fn keys_are_read_in_any_case(server: &Server) {
    let body = r#"{"NAME":"a","Upstream":"127.0.0.1:1","LiStEn":"127.0.0.1:0","ENABLED":false}"#;
    let shown = server.post("/proxies", body).json();
    assert_eq!(
        (&shown["name"], &shown["enabled"], &shown["upstream"]),
        (&json!("a"), &json!(false), &json!("127.0.0.1:1"))
    );
    let toxic =
        server.post("/proxies/a/toxics", r#"{"TYPE":"latency","Attributes":{"LATENCY":7},"Toxicity":0.5}"#);
    let toxic = toxic.json();
    assert_eq!((&toxic["attributes"]["latency"], &toxic["toxicity"]), (&json!(7), &json!(0.5)));
}

fn null_is_absent(server: &Server) {
    let body = r#"{"name":"a","upstream":"127.0.0.1:1","listen":"127.0.0.1:0","enabled":null}"#;
    assert_eq!(server.post("/proxies", body).json()["enabled"], true);
    let toxic = r#"{"name":null,"type":"latency","stream":null,"toxicity":null,"attributes":{"latency":null,"jitter":3}}"#;
    let shown = server.post("/proxies/a/toxics", toxic).json();
    assert_eq!(
        shown,
        json!({"attributes": {"latency": 0, "jitter": 3}, "name": "latency_downstream", "type": "latency",
            "stream": "downstream", "toxicity": 1})
    );
    let update =
        server.post("/proxies/a/toxics/latency_downstream", r#"{"attributes":null,"toxicity":null}"#);
    assert_eq!(update.json(), shown);
    let kept = server.post("/proxies/a", r#"{"enabled":null,"listen":null,"upstream":null}"#).json();
    assert_eq!((&kept["enabled"], &kept["upstream"]), (&json!(true), &json!("127.0.0.1:1")));
}

fn null_as_a_whole_is_an_empty_object(server: &Server) {
    assert_eq!(server.post("/proxies", "null").pair(), error("missing required field: name"));
}

fn unknown_keys_are_ignored(server: &Server) {
    let body = r#"{"name":"a","upstream":"127.0.0.1:1","enabled":false,"colour":{"x":[1]},"Logger":{}}"#;
    assert_eq!(server.post("/proxies", body).status, 201);
    assert_eq!(server.post("/proxies/a", r#"{"nothing":1}"#).status, 200);
}

fn what_follows_the_first_value_is_ignored(server: &Server) {
    for (name, rest) in [("a", " trailing"), ("b", "}"), ("c", "{\"name\":\"x\"}"), ("d", "\u{0}\u{1}")] {
        let body = json!({"name": name, "upstream": "127.0.0.1:1", "enabled": false}).to_string() + rest;
        assert_eq!(server.post("/proxies", &body).status, 201, "{rest:?}");
    }
}

fn of_doubled_keys_the_last_counts(server: &Server) {
    let body =
        r#"{"name":"a","NAME":"b","name":null,"upstream":"127.0.0.1:1","enabled":true,"enabled":false}"#;
    let shown = server.post("/proxies", body).json();
    assert_eq!((&shown["name"], &shown["enabled"]), (&json!("b"), &json!(false)));
}

fn an_empty_body_is_eof(server: &Server) {
    server.post("/proxies", r#"{"name":"a","upstream":"127.0.0.1:1","enabled":false}"#);
    for path in ["/proxies", "/proxies/a", "/proxies/a/toxics"] {
        refused(server, path, "", "EOF");
        refused(server, path, " \r\n\t", "EOF");
    }
}

fn a_body_that_is_cut_is_an_unexpected_eof(server: &Server) {
    for body in ["{", "{\"name\"", "{\"name\":\"a", "{\"name\":\"a\"", "[1,", "tru", "-", "1e"] {
        refused(server, "/proxies", body, "unexpected EOF");
    }
}

fn broken_syntax_is_named(server: &Server) {
    for (body, message) in [
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{name:1}", "invalid character 'n' looking for beginning of object key string"),
        ("{\"name\" 1}", "invalid character '1' after object key"),
        ("{\"name\":\"a\" \"b\":2}", "invalid character '\"' after object key:value pair"),
        ("{\"name\":\"a\",}", "invalid character '}' looking for beginning of object key string"),
        ("[1 2]", "invalid character '2' after array element"),
        ("{\"name\":01}", "invalid character '1' after object key:value pair"),
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("{'name':1}", "invalid character '\\'' looking for beginning of object key string"),
        ("[\"\\x\"]", "invalid character 'x' in string escape code"),
        ("[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        ("[\"a\nb\"]", "invalid character '\\n' in string literal"),
    ] {
        refused(server, "/proxies", body, message);
    }
}

fn wrong_types_are_named(server: &Server) {
    for (body, message) in [
        (r#"{"name":5}"#, "json: cannot unmarshal number into Go struct field Proxy.name of type string"),
        (
            r#"{"name":"a","enabled":"true"}"#,
            "json: cannot unmarshal string into Go struct field Proxy.enabled of type bool",
        ),
        (
            r#"{"name":"a","upstream":{}}"#,
            "json: cannot unmarshal object into Go struct field Proxy.upstream of type string",
        ),
        (
            r#"{"name":"a","listen":[]}"#,
            "json: cannot unmarshal array into Go struct field Proxy.listen of type string",
        ),
        (r#"{"name":true}"#, "json: cannot unmarshal bool into Go struct field Proxy.name of type string"),
    ] {
        refused(server, "/proxies", body, message);
    }
}

fn a_body_that_is_no_object_is_named(server: &Server) {
    for (body, kind) in [("[]", "array"), ("5", "number"), ("\"a\"", "string"), ("true", "bool")] {
        refused(
            server,
            "/proxies",
            body,
            &format!("json: cannot unmarshal {kind} into Go value of type toxiproxy.Proxy"),
        );
    }
}

fn an_attribute_that_is_no_integer_is_named(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let path = format!("{}/toxics", proxy.path());
    let cases = [
        ("1.5", "number 1.5"),
        ("1000.0", "number 1000.0"),
        ("1e3", "number 1e3"),
        ("\"100\"", "string"),
        ("true", "bool"),
        ("[1]", "array"),
        ("{}", "object"),
        ("9223372036854775808", "number 9223372036854775808"),
    ];
    for (value, found) in cases {
        let body = format!(r#"{{"type":"latency","attributes":{{"latency":{value}}}}}"#);
        let field = "into Go struct field LatencyToxic.attributes.latency of type int";
        refused(server, &path, &body, &format!("json: cannot unmarshal {found} {field}"));
    }
    assert_eq!(server.show(&path), json!([]), "nothing was added");
}

fn negative_integers_are_taken(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": -5, "jitter": 0}}));
    let shown = server.show("/proxies/echo/toxics/latency_downstream");
    assert_eq!(shown["attributes"], json!({"latency": -5, "jitter": 0}));
}

fn any_toxicity_is_taken_and_shown_short(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for (given, shown) in [
        ("9", "9"),
        ("-1", "-1"),
        ("0.2", "0.2"),
        ("1.0", "1"),
        ("0.123456789", "0.12345679"),
        ("1e-7", "1e-7"),
        ("0", "0"),
    ] {
        let answer = server.post("/proxies/echo/toxics", &format!(r#"{{"type":"noop","toxicity":{given}}}"#));
        let expected = format!(
            r#"{{"attributes":{{}},"name":"noop_downstream","type":"noop","stream":"downstream","toxicity":{shown}}}"#
        );
        assert_eq!(answer.pair(), (200, expected));
        proxy.remove_toxic("noop_downstream");
    }
}

fn a_toxicity_that_is_no_number_is_refused(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    for (given, found) in [("\"1\"", "string"), ("true", "bool"), ("1e99", "number 1e99")] {
        let body = format!(r#"{{"type":"noop","toxicity":{given}}}"#);
        let field = "into Go struct field ToxicWrapper.toxicity of type float32";
        refused(server, "/proxies/echo/toxics", &body, &format!("json: cannot unmarshal {found} {field}"));
    }
}

fn attributes_that_are_no_object_are_refused(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for given in ["5", "[]", "\"latency=5\"", "true"] {
        let answer =
            server.post("/proxies/echo/toxics", &format!(r#"{{"type":"latency","attributes":{given}}}"#));
        assert_eq!(answer.status, 400, "{given}");
    }
    assert_eq!(proxy.show()["toxics"], json!([]));
}

fn unknown_attributes_are_ignored(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 1, "colour": "red", "rate": {}}}));
    assert_eq!(proxy.show()["toxics"][0]["attributes"], json!({"latency": 1, "jitter": 0}));
}

fn html_is_escaped_in_answers(server: &Server) {
    let body = json!({"name": "<a>&\"\\", "upstream": "127.0.0.1:1", "enabled": false}).to_string();
    let answer = server.post("/proxies", &body).text();
    assert!(answer.starts_with(r#"{"name":"\u003ca\u003e\u0026\"\\","#), "{answer}");
}

fn escapes_and_surrogates_are_decoded(server: &Server) {
    let body = r#"{"name":"\u0061\ud83d\ude00\ud800x","upstream":"127.0.0.1:1","enabled":false}"#;
    assert_eq!(server.post("/proxies", body).json()["name"], "a\u{1f600}\u{fffd}x");
}

fn bytes_that_are_not_utf_8_are_replaced(server: &Server) {
    let body =
        [&b"{\"name\":\"a\xff\",\"upstream\":\"127.0.0.1:1\",\"enabled\":false}"[..], b"\xfe"].concat();
    let answer = http::request(server.api, "POST", "/proxies", "", &body);
    assert_eq!(answer.json()["name"], "a\u{fffd}");
}

fn nesting_without_end_is_refused(server: &Server) {
    for open in ["[", "{\"a\":"] {
        refused(server, "/proxies", &open.repeat(100_000), "exceeded max depth");
    }
    server.assert_alive();
}

fn zero_is_zero_with_a_sign_too(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    let answer = server.post("/proxies/echo/toxics", r#"{"type":"latency","attributes":{"latency":-0}}"#);
    assert_eq!(answer.json()["attributes"]["latency"], 0);
}
