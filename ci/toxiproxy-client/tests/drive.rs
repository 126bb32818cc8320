//! The calls of the `toxiproxy_rust` crate against our API: its users' tests must run unchanged.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use chaos::api;
use chaos::proxy::Registry;
use tokio_util::sync::CancellationToken;
use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::ProxyPack;

/// Runs `test` on a thread where blocking is allowed, with a client of a fresh server and a proxy `echo` on it.
async fn with_client(test: impl FnOnce(Client, SocketAddr) + Send + 'static) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let cancel = CancellationToken::new();
    let server = tokio::spawn(api::serve(Registry::new(1), listener, cancel.clone()));
    let run = tokio::task::spawn_blocking(move || {
        let client = Client::new(address);
        let upstream = echo().to_string();
        let pack = ProxyPack::new("echo".into(), "127.0.0.1:0".into(), upstream);
        let proxies = client.populate(vec![pack]).expect("a proxy");
        let listen = proxies[0].proxy_pack.listen.parse().expect("a resolved address");
        test(client, listen);
    });
    run.await.expect("the test passes");
    cancel.cancel();
    server.await.expect("the server ends").expect("in good order");
}

fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut copy = socket.try_clone().expect("a second handle");
                // Connections that the tests break end here.
                let _ = std::io::copy(&mut copy, &mut socket);
            });
        }
    });
    address
}

fn round_trip(address: SocketAddr) -> std::io::Result<Duration> {
    let start = Instant::now();
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.write_all(b"hello")?;
    socket.read_exact(&mut [0; 5])?;
    Ok(start.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn populate_find_list_and_version_answer() {
    with_client(|client, address| {
        assert!(client.is_running());
        assert_eq!(client.version().expect("a version"), "{\"version\": \"2.12.0\"}\n");
        let all = client.all().expect("the proxies");
        assert_eq!(all["echo"].proxy_pack.listen, address.to_string());
        assert!(client.find_proxy("none").is_err());
        round_trip(address).expect("it forwards");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_acts_inside_apply_and_not_after_it() {
    with_client(|client, address| {
        let proxy = client.find_and_reset_proxy("echo").expect("the proxy");
        proxy
            .with_latency("downstream".into(), 80, 0, 1.0)
            .apply(|| assert!(round_trip(address).expect("an answer") >= Duration::from_millis(80)))
            .expect("applied");
        assert!(proxy.toxics().expect("the toxics").is_empty());
        round_trip(address).expect("it forwards");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_refuses_inside_its_closure_and_not_after_it() {
    with_client(|client, address| {
        let proxy = client.find_proxy("echo").expect("the proxy");
        proxy
            .with_down(|| {
                let error = TcpStream::connect(address).expect_err("refused");
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            })
            .expect("down and up again");
        round_trip(address).expect("it forwards");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_toxic_of_the_client_is_listed_as_it_was_given_and_reset_removes_it() {
    with_client(|client, address| {
        let proxy = client.find_proxy("echo").expect("the proxy");
        proxy
            .with_slicer("downstream".into(), 2048, 128, 0, 0.8)
            .with_bandwidth("downstream".into(), 32, 0.5)
            .with_slow_close("upstream".into(), 10, 1.0)
            .with_timeout("upstream".into(), 0, 0.0)
            .with_limit_data("upstream".into(), 2048, 1.0)
            .with_latency("upstream".into(), 1, 1, 1.0);
        let toxics = proxy.toxics().expect("the toxics");
        let names: Vec<&str> = toxics.iter().map(|toxic| toxic.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "slow_close_upstream",
                "timeout_upstream",
                "limit_data_upstream",
                "latency_upstream",
                "slicer_downstream",
                "bandwidth_downstream",
            ]
        );
        assert_eq!(toxics[4].attributes["average_size"], 2048);
        assert!((toxics[4].toxicity - 0.8).abs() < f32::EPSILON);
        proxy.disable().expect("disabled");
        client.reset().expect("reset");
        assert!(proxy.toxics().expect("the toxics").is_empty());
        round_trip(address).expect("it forwards");
        proxy.delete().expect("deleted");
        assert!(client.all().expect("the proxies").is_empty());
    })
    .await;
}
