//! `chaos-proxy` as a program: the server's flags and ends, and the verbs with their output and exit codes.

mod program_support;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use program_support::{Server, program};

#[test]
fn proxies_are_created_listed_toggled_and_deleted() {
    let server = Server::start(&[]);
    assert_eq!(server.done("list"), "no proxies\n");
    let created = server.done("create -l localhost:0 -u 127.0.0.1:6379 redis");
    let address = created.trim().strip_prefix("Created new proxy redis on ").expect("a sentence").to_owned();
    server.done("new web --listen 127.0.0.1:0 --upstream 127.0.0.1:80");
    let listed = server.done("list");
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "LISTEN", "UPSTREAM", "STATE", "TOXICS"]);
    assert_eq!(rows[1], ["redis", &address, "127.0.0.1:6379", "enabled", "0"]);
    assert_eq!((rows[2][0], rows.len()), ("web", 3));
    assert_eq!(server.done("toggle redis"), "Proxy redis is now disabled\n");
    assert!(server.done("ls").contains("disabled"));
    assert_eq!(server.done("tog redis"), "Proxy redis is now enabled\n");
    assert_eq!(server.done("delete redis"), "Deleted proxy redis\n");
    assert_eq!(server.done("l").lines().count(), 2);
}

#[test]
fn toxics_are_added_updated_inspected_and_removed() {
    let server = Server::start(&[]);
    server.done("create -l 127.0.0.1:0 -u 127.0.0.1:6379 redis");
    assert!(server.done("inspect redis").ends_with("no toxics\n"));
    let added = server.done("toxic add -t latency -n slow -a latency=100 -a jitter=50 -u redis");
    assert_eq!(added, "Added upstream latency toxic 'slow' on proxy 'redis'\n");
    let added = server.done("t a --type packet_loss --attribute loss_rate=0.25 --toxicity 0.5 redis");
    assert_eq!(added, "Added downstream packet_loss toxic 'packet_loss_downstream' on proxy 'redis'\n");
    assert_eq!(
        server.done("toxic update -n slow -a jitter=25 redis"),
        "Updated toxic 'slow' on proxy 'redis'\n"
    );
    let shown = server.done("inspect redis");
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["TOXIC", "TYPE", "STREAM", "TOXICITY", "ATTRIBUTES"]);
    assert_eq!(rows[2], ["slow", "latency", "upstream", "1", "latency=100", "jitter=25"]);
    let loss =
        ["packet_loss_downstream", "packet_loss", "downstream", "0.5", "loss_rate=0.25", "correlation=0"];
    assert_eq!(rows[3], loss);
    assert_eq!(server.done("toxic remove -n slow redis"), "Removed toxic 'slow' on proxy 'redis'\n");
    assert_eq!(server.done("t d --toxicName packet_loss_downstream redis").lines().count(), 1);
    assert!(server.done("i redis").ends_with("no toxics\n"));
}

#[test]
fn proxies_of_datagrams_are_created_shown_and_given_toxics() {
    let server = Server::start(&[]);
    let created = server.done("create -l 127.0.0.1:0 -u 127.0.0.1:53 --protocol udp --idle-timeout 5s dns");
    let address = created.trim().strip_prefix("Created new proxy dns on ").expect("a sentence").to_owned();
    assert!(address.starts_with("127.0.0.1:") && address.ends_with("/udp"), "{address}");
    let listed = server.done("list");
    let row: Vec<&str> = listed.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["dns", &address, "127.0.0.1:53", "enabled", "0"]);
    server.done("toxic add -t reorder -a rate=500000 -a gap=2 -u dns");
    let shown = server.done("inspect dns");
    let row: Vec<&str> = shown.lines().last().expect("a row").split_whitespace().collect();
    assert_eq!(row, ["reorder_upstream", "reorder", "upstream", "1", "rate=500000", "gap=2", "hold=100"]);
    let refused = server.fails("toxic add -t slow_close dns", 1);
    assert!(
        refused.starts_with("error: slow_close has no meaning on a udp proxy; these have: "),
        "{refused}"
    );
    server.fails("create -l 127.0.0.1:0 -u 127.0.0.1:53 --protocol sctp dns", 2);
    server.fails("create -l 127.0.0.1:0 -u 127.0.0.1:53 --idle-timeout 5s web", 2);
    server.fails("create -l 127.0.0.1:0 -u 127.0.0.1:53 --protocol udp --idle-timeout 0s dns", 2);
}

#[test]
fn tls_is_asked_for_and_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let issued = rcgen::generate_simple_self_signed(vec!["service.test".to_owned()]).expect("a certificate");
    let path = |file: &str| folder.path().join(file).to_string_lossy().into_owned();
    let (certificate, key) = (path("c.pem"), path("k.pem"));
    std::fs::write(&certificate, issued.cert.pem()).expect("written");
    std::fs::write(&key, issued.signing_key.serialize_pem()).expect("written");
    let server = Server::start(&[]);
    let create = "create -l 127.0.0.1:0 -u 127.0.0.1:1";
    let terminate = format!("--tls-certificate {certificate} --tls-key {key}");
    let originate = format!("--tls-originate service.test --tls-ca {certificate}");
    server.done(&format!("{create} plain"));
    assert!(!server.done("list").contains("TLS"), "as ever where nothing is encrypted");
    server.done(&format!("{create} {terminate} {originate} both"));
    server.done(&format!("{create} -tls-originate 127.0.0.1 -tls-insecure -tls-handshake-timeout 2s lax"));
    let listed = server.done("list");
    let last: Vec<_> = listed.lines().map(|line| line.split_whitespace().last()).collect();
    assert_eq!(last, [Some("TLS"), Some("both"), Some("originate"), Some("-")]);
    let shown = server.done("inspect both");
    assert!(shown.contains(&format!("TLS from clients: certificate={certificate} key={key}\n")), "{shown}");
    let wanted = format!("TLS to the upstream: server_name=service.test ca={certificate}\n");
    assert!(shown.contains(&wanted), "{shown}");
    assert!(server.done("inspect lax").contains("server_name=127.0.0.1 insecure"));

    let refused = server.fails(&format!("{create} --tls-certificate {key} --tls-key {key} wrong"), 1);
    let wanted = format!("error: tls.terminate.certificate: {key:?} holds no certificate; give");
    assert!(refused.starts_with(&wanted), "{refused}");
    server.fails(&format!("{create} --tls-key {key} half"), 2);
    assert_eq!(server.done("list").lines().count(), 4);
}

#[test]
fn what_becomes_of_clients_without_an_upstream_is_asked_for_and_shown() {
    let server = Server::start(&[]);
    let create = "create -l 127.0.0.1:0 -u 127.0.0.1:1";
    let shown = |name: &str| server.done(&format!("inspect {name}"));
    for word in ["reset", "retry"] {
        server.done(&format!("{create} --dial-failure {word} {word}"));
        let wanted = format!("a client whose upstream cannot be reached: {word}\n");
        assert!(shown(word).contains(&wanted), "{}", shown(word));
    }
    server.done(&format!("{create} -dial-failure=close --protocol redis usual"));
    assert!(!shown("usual").contains("a client whose"), "as ever: {}", shown("usual"));
    let created = server.done(&format!("{create} --protocol pg --dial-failure reset spoken"));
    let address = created.trim().strip_prefix("Created new proxy spoken on ").expect("a sentence");
    let address = address.strip_suffix("/pg").expect("what is spoken");
    let mut client = TcpStream::connect(address).expect("a connection");
    let told = client.read(&mut [0]).expect_err("a reset, not an orderly end");
    assert_eq!(told.kind(), ErrorKind::ConnectionReset);

    server.fails(&format!("{create} --dial-failure refuse wrong"), 2);
    let told = server.fails(&format!("{create} --protocol udp --dial-failure reset wrong"), 2);
    assert!(told.contains("--dial-failure does not go with --protocol udp"), "{told}");
    assert_eq!(server.done("list").lines().count(), 5, "nothing else was made");
}

#[test]
fn what_the_server_refuses_ends_with_1_and_its_message() {
    let server = Server::start(&[]);
    server.done("create -l 127.0.0.1:0 -u x:1 a");
    for (arguments, message) in [
        ("inspect none", "error: proxy not found (status 404)\n"),
        ("toggle none", "error: proxy not found (status 404)\n"),
        ("create -l 127.0.0.1:0 -u x:1 a", "error: proxy already exists (status 409)\n"),
        ("toxic add -t nope a", "error: invalid toxic type (status 400)\n"),
        ("toxic remove -n none a", "error: toxic not found (status 404)\n"),
    ] {
        assert_eq!(server.fails(arguments, 1), message, "{arguments}");
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    let server = Server::start(&[]);
    for arguments in [
        "create a",
        "create -l 127.0.0.1:0 a",
        "toxic add a",
        "toxic add -t latency -a latency a",
        "toxic add -t latency --toxicity 2 a",
        "toxic add -t latency -u -d a",
        "toxic update a",
        "nope",
    ] {
        assert!(server.fails(arguments, 2).contains("error:"), "{arguments}");
    }
    let output = program().args(["--host", "https://localhost:1", "list"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_server_that_is_not_there_ends_with_3() {
    // Bound and not listening: nobody answers there, and nobody else gets the port.
    let kept = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    kept.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = kept.local_addr().expect("an address").as_socket().expect("of IP").to_string();
    let output = program().args(["list", "--host", &address]).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{talk}");
    assert!(talk.contains(&address) && talk.contains("is a server running there?"), "{talk}");
}

#[test]
fn the_environment_names_the_server_and_its_token() {
    let server = Server::start(&["--token", "secret"]);
    assert!(server.fails("list", 1).contains("(status 401)"));
    assert_eq!(server.done("list --token secret"), "no proxies\n");
    let url = format!("http://{}", server.api);
    let output = program().arg("list").env("TOXIPROXY_URL", url).env("CHAOS_PROXY_TOKEN", "secret").output();
    assert_eq!(String::from_utf8_lossy(&output.expect("it runs").stdout), "no proxies\n");
}

#[test]
fn a_file_creates_proxies_with_their_toxics() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxies.json");
    let list = r#"[
        {"name": "redis", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:6379",
         "toxics": [{"type": "latency", "attributes": {"latency": 5}}]},
        {"name": "web", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:80", "enabled": false},
        {"name": "dns", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:53", "protocol": "udp",
         "toxics": [{"type": "reorder", "attributes": {"gap": 4}}]}
    ]"#;
    std::fs::write(&file, list).expect("written");
    let server = Server::start(&["-config", file.to_str().expect("text")]);
    assert!(server.done("inspect redis").contains("latency=5 jitter=0"));
    assert!(server.done("inspect web").contains("disabled"));
    let datagrams = server.done("inspect dns");
    assert!(datagrams.contains("/udp -> ") && datagrams.contains("rate=10000 gap=4 hold=100"), "{datagrams}");
}

#[test]
fn a_file_that_cannot_be_used_ends_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxies.json");
    for (list, message) in [
        ("[{\"name\": \"a\"}]", "missing required field: upstream at proxy 1"),
        ("[", "bad request body: unexpected EOF"),
        (
            "[{\"name\":\"a\",\"upstream\":\"x:1\",\"toxics\":[{\"type\":\"x\"}]}]",
            "invalid toxic type at toxic 1 at proxy 1",
        ),
        (
            "[{\"name\":\"a\",\"upstream\":\"x:1\",\"protocol\":\"quic\"}]",
            "protocol: `quic` is none of tcp, udp, pg, redis, nats",
        ),
    ] {
        std::fs::write(&file, list).expect("written");
        let output = program().args(["-port", "0", "-config"]).arg(&file).output().expect("it runs");
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && talk.contains(message), "{talk}");
    }
    let output = program().args(["-port=0", "-config=/nowhere/at/all.json"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_port_that_is_taken_ends_the_server_with_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let output = program().args(["-port", &address.port().to_string()]).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{talk}");
    assert!(talk.contains(&format!("failed to listen on {address}")), "{talk}");
}

#[test]
fn signals_end_the_server_in_good_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(&[]);
        server.done("create -l 127.0.0.1:0 -u x:1 a");
        let id = i32::try_from(server.child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it runs");
        assert_eq!(server.child.wait().expect("it ends").code(), Some(0), "{signal}");
    }
}

#[test]
fn the_log_level_is_set_by_its_variable() {
    let output = program().args(["-port", "0"]).env("LOG_LEVEL", "loud").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && talk.contains("LOG_LEVEL is \"loud\""), "{talk}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = program().args(["-port", &port]).env("LOG_LEVEL", "fatal").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(talk.lines().count(), 1, "only why it ended: {talk}");
}

#[test]
fn the_version_and_the_help_are_told() {
    for flag in ["-version", "--version"] {
        let output = program().arg(flag).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("chaos-proxy "));
    }
    let mut help = String::new();
    let mut child = program().arg("-help").stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdout.take().expect("its output").read_to_string(&mut help).expect("text");
    assert!(child.wait().expect("it ends").success() && help.contains("Exit codes:"), "{help}");
}

#[test]
fn top_shows_rates_where_the_server_counts_and_says_so_where_it_does_not() {
    let counting = Server::start(&["-proxy-metrics"]);
    counting.done("create -l 127.0.0.1:0 -u 127.0.0.1:1 redis");
    counting.done("toxic add -t latency -a latency=5 -u redis");
    let page = counting.done("top --interval 100ms");
    let mut lines = page.lines();
    assert!(lines.next().is_some_and(|heading| heading.starts_with("PROXY") && heading.ends_with("ACTING")));
    let row = lines.next().expect("a row");
    assert!(row.starts_with("redis") && row.ends_with("latency(latency=5 jitter=0) up"), "{row}");
    assert!(!page.contains("--proxy-metrics"), "{page}");

    let silent = Server::start(&[]);
    silent.done("create -l 127.0.0.1:0 -u 127.0.0.1:1 redis");
    let pages = silent.done("top --interval 100ms --times 2");
    assert_eq!(pages.matches("start it with --proxy-metrics").count(), 2, "{pages}");
    silent.fails("top --interval 1ms", 2);
}
