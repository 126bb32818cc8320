//! TLS through the API: what is shown, what a change does, and what each wrong setting is answered with.

mod api_support;
#[expect(dead_code, reason = "tests of plain connections need more of it")]
mod proxy_support;
#[expect(dead_code, reason = "tests without the API need more of it")]
mod tls_support;

use std::net::SocketAddr;
use std::process::Stdio;

use chaos::api;
use chaos::client::{Client, Error, Extras, ProxyChange};
use chaos::proxy::{Registry, TlsConfig};
use proxy_support::{connect, echo, next_read};
use serde_json::{Value, json};
use tls_support::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Server {
    api: Client,
    base: String,
    registry: Registry,
    _cancel: DropGuard,
}

impl Server {
    async fn spawn() -> Server {
        let (address, registry, end) = api_support::serve().await;
        let api = Client::new(&address).expect("a client");
        Server { api, base: format!("http://{address}"), registry, _cancel: end }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.post(format!("{}{path}", self.base)).body(body.to_string()).send().await;
        let answer = answer.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON"))
    }

    fn address(&self, name: &str) -> SocketAddr {
        self.registry.get(name).expect("the proxy").listen_address()
    }
}

fn asked(name: &str, upstream: SocketAddr, tls: &Value) -> Value {
    json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream.to_string(), "tls": tls})
}

#[tokio::test]
async fn a_setting_is_shown_as_it_was_given_and_a_plain_proxy_shows_none() {
    let (server, authority) = (Server::spawn().await, Authority::new());
    let upstream = authority.echo().await;
    let tls = serde_json::to_value(both(&authority)).expect("JSON");
    let (status, created) = server.post("/proxies", &asked("secure", upstream, &tls)).await;
    assert_eq!((status, &created["tls"]), (201, &tls));
    let mut client = authority.connect(server.address("secure")).await.expect("a handshake");
    exchange(&mut client, b"hello").await;

    for nothing in [json!(null), json!({})] {
        let (_, plain) = server.post("/proxies", &asked("plain", upstream, &nothing)).await;
        let keys: Vec<&str> = plain.as_object().expect("a proxy").keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "listen", "upstream", "enabled", "toxics"]);
        server.api.delete("plain").await.expect("deleted");
    }
    let listed = server.api.proxies().await.expect("a list");
    assert_eq!(listed[0].tls, Some(serde_json::from_value(tls).expect("a setting")));
}

#[tokio::test]
async fn an_update_leaves_turns_off_changes_and_renews_what_is_encrypted() {
    let (server, authority) = (Server::spawn().await, Authority::new());
    let upstream = echo().await;
    let tls = terminating(&authority);
    let extras = Extras { tls: Some(tls.clone()), ..Extras::default() };
    server.api.create_with("p", "127.0.0.1:0", &upstream.to_string(), &extras).await.expect("a proxy");
    let address = server.address("p");
    let mut open = authority.connect(address).await.expect("a handshake");

    // Nothing is said of it: it stays, and so do connections.
    let enabled = ProxyChange { enabled: Some(true), ..ProxyChange::default() };
    assert_eq!(server.api.update("p", &enabled).await.expect("updated").tls, Some(tls.clone()));
    exchange(&mut open, b"hello").await;

    // The same paths with other files: open connections stay, new ones meet the new certificate.
    let others = Authority::new();
    let renewed = others.terminate();
    let old = tls.terminate.as_ref().expect("asked for");
    std::fs::copy(&renewed.certificate, &old.certificate).expect("a new certificate");
    std::fs::copy(&renewed.key, &old.key).expect("its key");
    authority.connect(address).await.expect("files are not read for each connection");
    let again = ProxyChange { tls: Some(tls.clone()), ..ProxyChange::default() };
    server.api.update("p", &again).await.expect("updated");
    exchange(&mut open, b"still").await;
    others.connect(address).await.expect("the new certificate");

    // Off: what was open ends, plain clients are served at the same address.
    let off = ProxyChange { tls: Some(TlsConfig::default()), ..ProxyChange::default() };
    assert_eq!(server.api.update("p", &off).await.expect("updated").tls, None);
    assert_eq!(rest(&mut open).await.expect("an orderly end"), b"");
    exchange(&mut connect(address).await, b"plain").await;

    // A change that cannot be: all stays as it is.
    let mut wrong = terminating(&authority);
    wrong.terminate.as_mut().expect("asked for").key = "/nowhere/key.pem".into();
    let mut open = connect(address).await;
    let wrong =
        ProxyChange { tls: Some(wrong), listen: Some("127.0.0.1:0".into()), ..ProxyChange::default() };
    let refused = server.api.update("p", &wrong).await.expect_err("no such file");
    assert!(matches!(refused, Error::Refused { status: 400, .. }), "{refused}");
    exchange(&mut open, b"hello").await;
    assert_eq!(server.address("p"), address);
}

#[tokio::test]
async fn populate_creates_with_tls_leaves_what_it_says_nothing_of_and_replaces_what_differs() {
    let (server, authority) = (Server::spawn().await, Authority::new());
    let upstream = echo().await;
    let tls = serde_json::to_value(terminating(&authority)).expect("JSON");
    let (status, made) = server.post("/populate", &json!([asked("p", upstream, &tls)])).await;
    assert_eq!((status, &made["proxies"][0]["tls"]), (201, &tls));
    let address = server.address("p");
    let mut open = authority.connect(address).await.expect("a handshake");

    let mut entry = asked("p", upstream, &Value::Null);
    entry["listen"] = address.to_string().into();
    let (_, made) = server.post("/populate", &json!([entry])).await;
    assert_eq!(made["proxies"][0]["tls"], tls);
    exchange(&mut open, b"hello").await;

    entry["tls"] = json!({});
    let (_, made) = server.post("/populate", &json!([entry])).await;
    assert_eq!(made["proxies"][0].get("tls"), None);
    assert_eq!(rest(&mut open).await.expect("an orderly end"), b"");
    exchange(&mut connect(address).await, b"plain").await;
}

#[tokio::test]
async fn each_wrong_setting_is_answered_with_its_field_its_value_and_what_to_do() {
    let (server, authority) = (Server::spawn().await, Authority::new());
    let upstream = echo().await;
    let good = authority.issue(NAME);
    let other = authority.issue("other.test");
    let text = authority.write("text.pem", "nothing of the kind\n");
    let broken = authority.write("broken.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let hollow =
        authority.write("hollow.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let hollow_key =
        authority.write("hollow.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let empty = authority.write("empty.pem", "");
    let large = authority.write("large.pem", &"#".repeat(1024 * 1024 + 1));
    let folder = std::path::Path::new(&good.key).parent().expect("a folder").to_string_lossy().into_owned();
    let pipe = format!("{folder}/pipe");
    nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");

    let terminate =
        |certificate: &str, key: &str| json!({"terminate": {"certificate": certificate, "key": key}});
    let with_ca = |ca: &str| json!({"originate": {"server_name": NAME, "ca": ca}});
    let cases = [
        (
            terminate("/nowhere/c.pem", &good.key),
            "tls.terminate.certificate",
            "/nowhere/c.pem",
            "No such file",
        ),
        (terminate(&text, &good.key), "tls.terminate.certificate", &text, "holds no certificate; give"),
        (terminate(&broken, &good.key), "tls.terminate.certificate", &broken, "a section has no end; give"),
        (terminate(&hollow, &good.key), "tls.terminate.certificate", &hollow, "cannot be used: "),
        (
            terminate(&good.key, &good.key),
            "tls.terminate.certificate",
            &good.key,
            "holds no certificate; give",
        ),
        (terminate(&folder, &good.key), "tls.terminate.certificate", &folder, "is no regular file; give"),
        (terminate(&pipe, &good.key), "tls.terminate.certificate", &pipe, "is no regular file; give"),
        (
            terminate("/dev/zero", &good.key),
            "tls.terminate.certificate",
            "/dev/zero",
            "is no regular file; give",
        ),
        // Reading it would wait for the kernel's next word, and take that from whoever logs it.
        (
            terminate("/proc/kmsg", &good.key),
            "tls.terminate.certificate",
            "/proc/kmsg",
            "is empty, or is a file without a size",
        ),
        (
            with_ca("/proc/self/mounts"),
            "tls.originate.ca",
            "/proc/self/mounts",
            "is empty, or is a file without",
        ),
        (terminate(&good.certificate, &empty), "tls.terminate.key", &empty, "is empty, or is a file without"),
        (terminate(&large, &good.key), "tls.terminate.certificate", &large, "is larger than 1024 KiB; give"),
        (
            terminate(&good.certificate, "/nowhere/k.pem"),
            "tls.terminate.key",
            "/nowhere/k.pem",
            "No such file",
        ),
        (
            terminate(&good.certificate, &good.certificate),
            "tls.terminate.key",
            &good.certificate,
            "no private key",
        ),
        (
            terminate(&good.certificate, &hollow_key),
            "tls.terminate.key",
            &hollow_key,
            "give an RSA, ECDSA or",
        ),
        (terminate(&good.certificate, &other.key), "tls.terminate.key", &other.key, "is not the key of the"),
        (with_ca("/nowhere/ca.pem"), "tls.originate.ca", "/nowhere/ca.pem", "No such file"),
        (with_ca(&text), "tls.originate.ca", &text, "holds no certificate; give"),
        (with_ca(&hollow), "tls.originate.ca", &hollow, "cannot be used: "),
        (
            json!({"originate": {"server_name": "not a name", "insecure": true}}),
            "tls.originate.server_name",
            "not a name",
            "give the name that the upstream's certificate is for",
        ),
        (
            json!({"originate": {"server_name": NAME, "ca": text, "insecure": true}}),
            "tls.originate.ca",
            &text,
            "give one of ca and insecure",
        ),
        (
            json!({"originate": {"server_name": NAME, "insecure": true}, "handshake_timeout_ms": 0}),
            "tls.handshake_timeout_ms",
            "0",
            "give at least 1 millisecond",
        ),
        (json!({"handshake_timeout_ms": 5}), "tls.handshake_timeout_ms", "5", "give terminate or originate"),
    ];
    for (tls, field, value, what) in &cases {
        let (status, answer) = server.post("/proxies", &asked("p", upstream, tls)).await;
        let error = answer["error"].as_str().expect("a message");
        assert_eq!(status, 400, "{tls}: {error}");
        assert!(error.starts_with(&format!("{field}: {value:?} ")) && error.contains(what), "{tls}: {error}");
        // In a list nothing is created, not even what is right.
        let list = json!([asked("first", upstream, &json!({})), asked("p", upstream, tls)]);
        let (status, answer) = server.post("/populate", &list).await;
        assert_eq!((status, &answer["proxies"]), (400, &Value::Null));
        assert_eq!(answer["error"], format!("{error} at proxy 2"));
    }
    assert!(server.registry.list().is_empty());
    let message = async |tls: Value| {
        let (status, answer) = server.post("/proxies", &asked("p", upstream, &tls)).await;
        (status, answer["error"].as_str().expect("a message").to_owned())
    };
    let missing = "missing required field: tls.terminate.key".to_owned();
    assert_eq!(message(json!({"terminate": {"certificate": good.certificate}})).await, (400, missing));
    let unknown = "bad request body: tls: unknown field \"terminated\"; \
        give terminate, originate, handshake_timeout_ms";
    assert_eq!(message(json!({"terminated": {}})).await, (400, unknown.to_owned()));
    assert!(server.registry.list().is_empty());
}

/// The program with a file of proxies, where the system trusts the authorities of `trusted`.
fn program(file: &str, trusted: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos-proxy"));
    for variable in ["CHAOS_PROXY_TOKEN", "LOG_LEVEL", "SSL_CERT_DIR"] {
        command.env_remove(variable);
    }
    command.args(["-port", "0", "-config", file]).env("SSL_CERT_FILE", trusted);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_file_creates_proxies_with_tls_that_trust_what_the_system_trusts() {
    let authority = Authority::new();
    let tls = json!({"originate": {"server_name": NAME}});
    let list = json!([asked("p", authority.echo().await, &tls)]);
    let file = authority.write("proxies.json", &list.to_string());
    let mut child = program(&file, &authority.ca()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its output")).lines();
    let address = loop {
        let line = lines.next_line().await.expect("text").expect("it listens before it ends");
        if let Some((_, rest)) = line.split_once("address=") {
            break rest.split(' ').next().expect("an address").to_owned();
        }
    };
    let proxy = Client::new(&address).expect("a client").proxy("p").await.expect("the proxy");
    exchange(&mut connect(proxy.listen.parse().expect("an address")).await, b"hello").await;

    let output = program(&file, "/nowhere/trusted.pem").output().await.expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && talk.contains("give tls.originate.ca at proxy 1"), "{talk}");
}

#[tokio::test]
async fn failed_handshakes_are_a_metric() {
    let authority = Authority::new();
    let registry = Registry::new(7);
    let proxy = registry.create(config(echo().await, terminating(&authority))).await.expect("a proxy");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let api = Client::new(&listener.local_addr().expect("an address").to_string()).expect("a client");
    let options = api::Options { proxy_metrics: true, ..api::Options::default() };
    tokio::spawn(api::serve_with(registry, listener, options, CancellationToken::new()));
    let mut client = connect(proxy.listen_address()).await;
    client.write_all(b"no handshake").await.expect("written");
    while next_read(&mut client).await.expect("an alert and an end") > 0 {}
    let page = api.metrics().await.expect("an answer").expect("a page");
    assert!(page.contains("chaos_proxy_failed_handshakes_total{proxy=\"link\"} 1\n"), "{page}");
}
