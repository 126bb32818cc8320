//! `/metrics`.

use serde_json::json;

use crate::case::cases;
use crate::server::{Server, Setup};
use crate::tcp::*;

cases!("metrics", ours: false, Setup { seed: 1, metrics: true, token: false }, [
    bytes_are_counted_by_proxy_and_direction,
    a_page_has_its_content_type,
    any_method_is_answered,
    figures_of_the_process_are_there,
    each_family_has_a_type,
]);

/// The value of a series, by its whole name with labels.
pub fn series(server: &Server, name: &str) -> Option<f64> {
    let page = server.get("/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

fn bytes_are_counted_by_proxy_and_direction(server: &Server) {
    let (proxy, upstream) = server.echo();
    let mut client = connect(proxy.address);
    round_trip(&mut client, &pattern(1_000));
    drop(client);
    for kind in ["received", "sent"] {
        for direction in ["upstream", "downstream"] {
            let name = format!(
                "toxiproxy_proxy_{kind}_bytes_total{{direction=\"{direction}\",listener=\"{}\",proxy=\"echo\",upstream=\"{}\"}}",
                proxy.address,
                upstream.text()
            );
            eventually(&name, || series(server, &name) == Some(1_000.0));
        }
    }
}

fn a_page_has_its_content_type(server: &Server) {
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type").expect("a type");
    assert!(kind.starts_with("text/plain; version=0.0.4; charset=utf-8"), "{kind}");
}

fn any_method_is_answered(server: &Server) {
    for method in ["GET", "POST", "PUT", "DELETE"] {
        assert_eq!(server.request(method, "/metrics", "", "").status, 200, "{method}");
    }
}

fn figures_of_the_process_are_there(server: &Server) {
    for name in
        ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds"]
    {
        let value = series(server, name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(value > 0.0, "{name} is {value}");
    }
    assert!(series(server, "process_cpu_seconds_total").is_some());
}

fn each_family_has_a_type(server: &Server) {
    let (proxy, _upstream) = server.echo();
    proxy.toxic(json!({"type": "noop"}));
    let page = server.get("/metrics").text();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let typed = [name, base].iter().any(|name| page.contains(&format!("# TYPE {name} ")));
        assert!(typed, "{name} has no type");
    }
}
