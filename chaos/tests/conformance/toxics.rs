//! Toxics through the API.

use serde_json::{Value, json};

use crate::case::cases;
use crate::server::{Server, Setup};

cases!("toxics", ours: false, Setup { seed: 1, metrics: false, token: false }, [
    each_type_is_answered_with_its_exact_bytes,
    a_new_toxic_is_200_and_shown,
    at_first_there_are_none,
    defaults_are_downstream_whole_toxicity_and_a_made_up_name,
    an_empty_name_is_made_up_too,
    upstream_toxics_are_listed_first_in_the_order_of_creation,
    a_name_is_taken_once_over_both_streams,
    one_type_on_both_streams_has_two_names,
    a_stream_has_to_be_one_of_two,
    a_stream_is_read_in_any_case_and_kept_as_written,
    an_unknown_type_is_refused,
    a_type_is_read_in_its_own_case_only,
    checks_come_in_their_order,
    an_unknown_toxic_is_404,
    an_update_merges,
    an_update_ignores_name_type_and_stream,
    patch_does_what_post_does,
    a_broken_update_is_400,
    a_removed_toxic_is_gone,
    toxics_are_seen_in_their_proxy,
    names_with_spaces_are_decoded,
    large_integers_are_kept,
]);

fn error(status: u16, message: &str) -> (u16, String) {
    (status, format!("{}\n", json!({"error": message, "status": status})))
}

fn add(server: &Server, toxic: Value) -> (u16, String) {
    server.post("/proxies/echo/toxics", &toxic.to_string()).pair()
}

fn each_type_is_answered_with_its_exact_bytes(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    for (kind, attributes) in [
        ("noop", "{}"),
        ("latency", r#"{"latency":0,"jitter":0}"#),
        ("bandwidth", r#"{"rate":0}"#),
        ("slow_close", r#"{"delay":0}"#),
        ("timeout", r#"{"timeout":0}"#),
        ("reset_peer", r#"{"timeout":0}"#),
        ("slicer", r#"{"average_size":0,"size_variation":0,"delay":0}"#),
        ("limit_data", r#"{"bytes":0}"#),
    ] {
        let expected = format!(
            r#"{{"attributes":{attributes},"name":"{kind}_downstream","type":"{kind}","stream":"downstream","toxicity":1}}"#
        );
        assert_eq!(add(server, json!({"type": kind})), (200, expected));
    }
}

fn a_new_toxic_is_200_and_shown(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let toxic = json!({"attributes": {"latency": 100, "jitter": 10}, "name": "mine", "type": "latency",
        "stream": "upstream", "toxicity": 0.25});
    assert_eq!(add(server, toxic.clone()), (200, toxic.to_string()));
    assert_eq!(server.show("/proxies/echo/toxics/mine"), toxic);
    assert_eq!(server.show("/proxies/echo/toxics"), json!([toxic]));
    assert_eq!(proxy.show()["toxics"], json!([toxic]));
}

fn at_first_there_are_none(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    assert_eq!(server.get("/proxies/echo/toxics").pair(), (200, "[]".to_owned()));
}

fn defaults_are_downstream_whole_toxicity_and_a_made_up_name(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    for (toxic, name, stream) in [
        (json!({"type": "latency"}), "latency_downstream", "downstream"),
        (json!({"type": "latency", "stream": "upstream"}), "latency_upstream", "upstream"),
    ] {
        assert_eq!(add(server, toxic).0, 200);
        let shown = server.show(&format!("/proxies/echo/toxics/{name}"));
        assert_eq!((&shown["stream"], &shown["toxicity"]), (&json!(stream), &json!(1)));
    }
}

fn an_empty_name_is_made_up_too(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": ""}));
    assert_eq!(proxy.show()["toxics"][0]["name"], "noop_downstream");
}

fn upstream_toxics_are_listed_first_in_the_order_of_creation(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for (name, stream) in [("d2", "downstream"), ("u2", "upstream"), ("d1", "downstream"), ("u1", "upstream")]
    {
        proxy.toxic(json!({"type": "noop", "name": name, "stream": stream}));
    }
    let listed = server.show("/proxies/echo/toxics");
    let names: Vec<&Value> = listed.as_array().expect("a list").iter().map(|toxic| &toxic["name"]).collect();
    assert_eq!(names, ["u2", "u1", "d2", "d1"]);
}

fn a_name_is_taken_once_over_both_streams(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "x", "stream": "upstream"}));
    for stream in ["upstream", "downstream"] {
        let again = json!({"type": "latency", "name": "x", "stream": stream});
        assert_eq!(add(server, again), error(409, "toxic already exists"));
    }
    proxy.toxic(json!({"type": "noop"}));
    assert_eq!(add(server, json!({"type": "noop"})), error(409, "toxic already exists"));
    assert_eq!(proxy.show()["toxics"].as_array().map(Vec::len), Some(2));
}

fn one_type_on_both_streams_has_two_names(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "stream": "upstream"}));
    proxy.toxic(json!({"type": "latency", "stream": "downstream"}));
    assert_eq!(proxy.show()["toxics"].as_array().map(Vec::len), Some(2));
}

fn a_stream_has_to_be_one_of_two(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    for stream in ["", "sideways", "up", " upstream", "both"] {
        let expected = error(400, "stream was invalid, can be either upstream or downstream");
        assert_eq!(add(server, json!({"type": "noop", "stream": stream})), expected, "{stream:?}");
    }
}

fn a_stream_is_read_in_any_case_and_kept_as_written(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "stream": "UPSTREAM"}));
    let shown = proxy.show()["toxics"][0].clone();
    assert_eq!((&shown["stream"], &shown["name"]), (&json!("UPSTREAM"), &json!("latency_UPSTREAM")));
}

fn an_unknown_type_is_refused(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    for toxic in [json!({}), json!({"type": ""}), json!({"type": "down"}), json!({"type": "nope"})] {
        assert_eq!(add(server, toxic), error(400, "invalid toxic type"));
    }
}

fn a_type_is_read_in_its_own_case_only(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    assert_eq!(add(server, json!({"type": "Latency"})), error(400, "invalid toxic type"));
}

fn checks_come_in_their_order(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "taken"}));
    let everything =
        json!({"name": "taken", "type": "nope", "stream": "nope", "attributes": {"latency": "x"}});
    let mut wrong = everything.clone();
    let add_to = |path: &str, body: &str| server.post(path, body).pair();
    assert_eq!(add_to("/proxies/none/toxics", "{"), error(404, "proxy not found"));
    assert_eq!(add_to("/proxies/echo/toxics", "{"), error(400, "bad request body: unexpected EOF"));
    assert_eq!(
        add(server, wrong.clone()),
        error(400, "stream was invalid, can be either upstream or downstream")
    );
    wrong["stream"] = json!("upstream");
    assert_eq!(add(server, wrong.clone()), error(400, "invalid toxic type"));
    wrong["type"] = json!("latency");
    assert_eq!(add(server, wrong.clone()), error(409, "toxic already exists"));
    wrong["name"] = json!("free");
    let (status, body) = add(server, wrong.clone());
    assert!(status == 400 && body.contains("LatencyToxic.attributes.latency"), "{body}");
    wrong["attributes"] = json!({});
    assert_eq!(add(server, wrong).0, 200);
}

fn an_unknown_toxic_is_404(server: &Server) {
    let (_proxy, _upstream) = server.echo();
    for (method, body) in [("GET", ""), ("POST", "broken"), ("PATCH", "{}"), ("DELETE", "")] {
        let answer = server.request(method, "/proxies/echo/toxics/none", "", body);
        assert_eq!(answer.pair(), error(404, "toxic not found"), "{method}");
    }
}

fn an_update_merges(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency", "attributes": {"latency": 100, "jitter": 10}, "toxicity": 0.5}));
    let path = "/proxies/echo/toxics/latency_downstream";
    for (change, attributes, toxicity) in [
        (json!({"attributes": {"latency": 5}}), json!({"latency": 5, "jitter": 10}), json!(0.5)),
        (json!({"toxicity": 1}), json!({"latency": 5, "jitter": 10}), json!(1)),
        (json!({"toxicity": 0, "attributes": {"jitter": 0}}), json!({"latency": 5, "jitter": 0}), json!(0)),
        (json!({}), json!({"latency": 5, "jitter": 0}), json!(0)),
    ] {
        let answer = server.post(path, &change.to_string());
        let shown = answer.json();
        assert_eq!((answer.status, &shown["attributes"], &shown["toxicity"]), (200, &attributes, &toxicity));
        assert_eq!(server.show(path), shown);
    }
}

fn an_update_ignores_name_type_and_stream(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency"}));
    let change = json!({"name": "other", "type": "noop", "stream": "upstream", "attributes": {"latency": 1}});
    proxy.update_toxic("latency_downstream", change);
    let shown = proxy.show()["toxics"][0].clone();
    assert_eq!((&shown["name"], &shown["type"]), (&json!("latency_downstream"), &json!("latency")));
    assert_eq!(shown["stream"], "downstream");
}

fn patch_does_what_post_does(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency"}));
    let answer = server.patch("/proxies/echo/toxics/latency_downstream", r#"{"attributes":{"latency":3}}"#);
    assert_eq!((answer.status, &answer.json()["attributes"]["latency"]), (200, &json!(3)));
}

fn a_broken_update_is_400(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "latency"}));
    for (body, message) in [
        ("", "bad request body: EOF"),
        ("{", "bad request body: unexpected EOF"),
        (
            r#"{"attributes":{"latency":1.5}}"#,
            "bad request body: json: cannot unmarshal number 1.5 into Go struct field \
             LatencyToxic.attributes.latency of type int",
        ),
    ] {
        assert_eq!(server.post("/proxies/echo/toxics/latency_downstream", body).pair(), error(400, message));
    }
}

fn a_removed_toxic_is_gone(server: &Server) {
    let (proxy, _upstream) = server.echo();
    for name in ["a", "b", "c"] {
        proxy.toxic(json!({"type": "noop", "name": name}));
    }
    proxy.remove_toxic("b");
    assert_eq!(server.delete("/proxies/echo/toxics/b").pair(), error(404, "toxic not found"));
    let listed = server.show("/proxies/echo/toxics");
    let names: Vec<&Value> = listed.as_array().expect("a list").iter().map(|toxic| &toxic["name"]).collect();
    assert_eq!(names, ["a", "c"]);
    proxy.toxic(json!({"type": "latency", "name": "b"}));
}

fn toxics_are_seen_in_their_proxy(server: &Server) {
    let (proxy, upstream) = server.echo();
    let other = server.proxy("other", &upstream.text());
    proxy.toxic(json!({"type": "noop"}));
    assert_eq!(other.show()["toxics"], json!([]));
    assert_eq!(server.show("/proxies")["echo"]["toxics"], server.show("/proxies/echo/toxics"));
    other.toxic(json!({"type": "noop"}));
}

fn names_with_spaces_are_decoded(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop", "name": "two words é"}));
    let path = "/proxies/echo/toxics/two%20words%20%C3%A9";
    assert_eq!(server.show(path)["name"], "two words é");
    assert_eq!(server.delete(path).status, 204);
}

fn large_integers_are_kept(server: &Server) {
    let (proxy, _upstream) = server.echo();
    let attributes = json!({"latency": i64::MIN, "jitter": 0});
    proxy.toxic(json!({"type": "latency", "attributes": attributes, "toxicity": 0}));
    assert_eq!(proxy.show()["toxics"][0]["attributes"], attributes);
    proxy.update_toxic("latency_downstream", json!({"attributes": {"latency": i64::MAX}}));
    assert_eq!(proxy.show()["toxics"][0]["attributes"]["latency"], json!(i64::MAX));
}
