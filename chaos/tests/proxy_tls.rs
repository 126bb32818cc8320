//! TLS on real sockets: what passes through, what is terminated and originated, and what faults see in between.

#[expect(dead_code, reason = "tests of plain connections need more of it")]
mod proxy_support;
mod tls_support;

use std::io::ErrorKind;
use std::time::Duration;

use chaos::fault::{Direction, NetworkFault};
use chaos::json::Json;
use chaos::protocol::Protocol;
use chaos::protocol::fault::WireFault;
use chaos::proxy::event::{How, Peer, What};
use chaos::proxy::{Proxy, ProxyConfig, TlsConfig};
use chaos::toxic::{Toxic, Type};
use proxy_support::{DEADLINE, connect, echo, next_read};
use rand::RngCore;
use tls_support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

fn toxic(kind: &str, stream: &str, attributes: &[(&str, i64)]) -> Toxic {
    let mut toxic = Toxic {
        name: format!("{kind}_{stream}"),
        kind: Type::parse(kind).expect("a type"),
        stream: stream.into(),
        toxicity: 1.0,
        values: Vec::new(),
        clients: Default::default(),
    };
    let attributes: Vec<(String, Json)> =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    toxic.merge(&attributes).expect("attributes");
    toxic
}

fn how(what: What) -> Option<How> {
    if let What::Ended { how, .. } = what { Some(how) } else { None }
}

fn secured(what: What) -> Option<(Peer, &'static str)> {
    if let What::Secured { with, version, .. } = what { Some((with, version)) } else { None }
}

fn tls_failed(what: What) -> Option<(Peer, String)> {
    if let What::TlsFailed { with, reason } = what { Some((with, reason)) } else { None }
}

#[tokio::test]
async fn without_a_setting_encrypted_bytes_pass_through_to_the_upstreams_own_certificate() {
    let authority = Authority::new();
    let upstream = authority.echo().await;
    let proxy = proxy(upstream, TlsConfig::default()).await;
    let guard = proxy.inject(NetworkFault::Latency {
        delay: Duration::from_millis(1),
        jitter: Duration::ZERO,
        direction: Direction::Downstream,
    });
    let guard = guard.await.expect("a fault");
    let mut client = authority.connect(proxy.listen_address()).await.expect("the upstream's certificate");
    exchange(&mut client, b"hello").await;
    // The handshake too is but bytes here.
    assert!(guard.heal().await.delayed_bytes > 500);
    assert_eq!(proxy.counters().failed_handshakes, 0);
}

#[tokio::test]
async fn a_client_is_met_with_the_certificate_and_the_server_hears_plain_bytes() {
    let authority = Authority::new();
    let proxy = proxy(echo().await, terminating(&authority)).await;
    let mut events = proxy.events();
    let mut client = authority.connect(proxy.listen_address()).await.expect("the proxy's certificate");
    exchange(&mut client, b"hello").await;
    assert_eq!(event(&mut events, secured).await, (Peer::Client, "1.3"));
    client.shutdown().await.expect("an end");
    assert_eq!(rest(&mut client).await.expect("an orderly end"), b"");
    assert_eq!(event(&mut events, how).await, How::Finished);
    // Plain bytes are counted, whatever they became on the way.
    let counters = proxy.counters();
    assert_eq!((counters.received_upstream, counters.bytes_downstream), (5, 5));
}

#[tokio::test]
async fn a_plain_client_reaches_a_server_that_speaks_tls_and_is_asked_for_by_its_name() {
    let authority = Authority::new();
    let upstream = authority
        .serve(|mut stream| async move {
            let name = stream.get_ref().1.server_name().expect("a name").to_owned();
            stream.write_all(name.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("an end");
        })
        .await;
    let proxy = proxy(upstream, originating(&authority)).await;
    let mut events = proxy.events();
    let mut client = connect(proxy.listen_address()).await;
    assert_eq!(rest(&mut client).await.expect("an orderly end"), NAME.as_bytes());
    assert_eq!(event(&mut events, secured).await, (Peer::Server, "1.3"));
}

#[tokio::test]
async fn latency_delays_plain_bytes_of_a_terminated_connection_and_no_handshake() {
    let authority = Authority::new();
    let proxy = proxy(authority.echo().await, both(&authority)).await;
    let latency = toxic("latency", "downstream", &[("latency", 20)]);
    proxy.add_toxic(latency).await.expect("a toxic");
    let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    exchange(&mut client, b"hello").await;
    assert_eq!(proxy.toxic_evidence()[0].1.delayed_bytes, 5);
}

#[tokio::test]
async fn reset_peer_is_a_reset_for_both_peers_whichever_of_them_speak_tls() {
    for encrypted in [terminating as fn(&Authority) -> TlsConfig, originating, both] {
        let authority = Authority::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let upstream = authority
            .serve(move |mut stream| {
                let tell = tell.clone();
                async move {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await.expect("a byte");
                    stream.write_all(&byte).await.expect("an answer");
                    let _ = tell.send(stream.read(&mut byte).await.map_err(|error| error.kind()));
                }
            })
            .await;
        let tls = encrypted(&authority);
        let plain_upstream = tls.originate.is_none();
        let upstream = if plain_upstream { echo().await } else { upstream };
        let proxy = proxy(upstream, tls.clone()).await;
        let mut raw;
        let mut stream;
        if tls.terminate.is_some() {
            stream = authority.connect(proxy.listen_address()).await.expect("a handshake");
            exchange(&mut stream, b"x").await;
            proxy.add_toxic(toxic("reset_peer", "upstream", &[])).await.expect("a toxic");
            stream.write_all(b"y").await.expect("written");
            raw = stream.into_inner().0;
        } else {
            raw = connect(proxy.listen_address()).await;
            exchange(&mut raw, b"x").await;
            proxy.add_toxic(toxic("reset_peer", "upstream", &[])).await.expect("a toxic");
            raw.write_all(b"y").await.expect("written");
        }
        let error = next_read(&mut raw).await.expect_err("a reset, not an end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        if !plain_upstream {
            let heard = timeout(DEADLINE, told.recv()).await.expect("news in time").expect("news");
            assert_eq!(heard, Err(ErrorKind::ConnectionReset));
        }
        assert_eq!(proxy.counters().reset, 1);
    }
}

#[tokio::test]
async fn a_fault_on_messages_sees_what_is_said_on_a_terminated_connection() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let upstream = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("the proxy");
        let mut heard = [0; 4096];
        while socket.read(&mut heard).await.is_ok_and(|count| count > 0) {
            socket.write_all(b"+OK\r\n").await.expect("answered");
        }
    });
    let config = ProxyConfig { protocol: Some(Protocol::Redis), ..config(upstream, terminating(&authority)) };
    let proxy = Proxy::start(config).await.expect("a proxy");
    #[derive(serde::Deserialize)]
    struct File {
        inject: WireFault,
    }
    let fault = "inject.redis.drop-reply = { command = \"SET\", nth = 2 }";
    let fault = toml::from_str::<File>(fault).expect("a fault").inject;
    let guard = proxy.inject_wire(&fault).expect("injected");
    let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
    client.write_all(set).await.expect("written");
    assert_eq!(some(&mut client, 5).await, b"+OK\r\n");
    client.write_all(set).await.expect("written");
    let error = rest(&mut client).await.expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let evidence = guard.heal().await;
    assert_eq!((evidence.acted, evidence.blind, evidence.swallowed_bytes), (1, 0, 5));
}

#[tokio::test]
async fn a_server_with_a_certificate_of_others_is_not_spoken_to() {
    let (ours, others) = (Authority::new(), Authority::new());
    let proxy = proxy(others.echo().await, originating(&ours)).await;
    let mut events = proxy.events();
    let mut client = connect(proxy.listen_address()).await;
    client.write_all(b"secret").await.expect("written");
    assert_eq!(next_read(&mut client).await.unwrap_or(0), 0);
    let (with, reason) = event(&mut events, tls_failed).await;
    assert!(with == Peer::Server && reason.contains("UnknownIssuer"), "{with:?}: {reason}");
    assert_eq!(event(&mut events, how).await, How::NoTls);
    let counters = proxy.counters();
    assert_eq!((counters.failed_handshakes, counters.refused_dials, counters.bytes_upstream), (1, 0, 0));
}

#[tokio::test]
async fn a_server_of_another_name_is_not_spoken_to_unless_any_certificate_will_do() {
    let authority = Authority::new();
    let upstream = authority.echo().await;
    let mut tls = originating(&authority);
    tls.originate.as_mut().expect("asked for").server_name = "other.test".into();
    let strict = proxy(upstream, tls.clone()).await;
    let mut events = strict.events();
    let mut client = connect(strict.listen_address()).await;
    assert_eq!(next_read(&mut client).await.expect("an orderly end"), 0);
    let (_, reason) = event(&mut events, tls_failed).await;
    assert!(reason.contains("not valid for name"), "{reason}");

    let originate = tls.originate.as_mut().expect("asked for");
    (originate.ca, originate.insecure) = (None, true);
    let lax = proxy(upstream, tls).await;
    exchange(&mut connect(lax.listen_address()).await, b"hello").await;
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_is_told_of_and_reaches_nobody() {
    let (ours, others) = (Authority::new(), Authority::new());
    let proxy = proxy(echo().await, terminating(&ours)).await;
    let mut events = proxy.events();
    others.connect(proxy.listen_address()).await.expect_err("a certificate of somebody else");
    let (with, reason) = event(&mut events, tls_failed).await;
    assert!(with == Peer::Client && reason.contains("UnknownCA"), "{with:?}: {reason}");
    assert_eq!(event(&mut events, how).await, How::NoTls);
    assert_eq!((proxy.counters().failed_handshakes, proxy.counters().received_upstream), (1, 0));
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_is_told_of_and_closed() {
    let authority = Authority::new();
    let proxy = proxy(echo().await, terminating(&authority)).await;
    let mut events = proxy.events();
    let mut client = connect(proxy.listen_address()).await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let alert = rest(&mut client).await.expect("an alert and an end");
    assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
    assert!(event(&mut events, tls_failed).await.1.contains("InvalidContentType"));
    // One that goes before it has said anything is told of too.
    drop(connect(proxy.listen_address()).await);
    assert!(event(&mut events, tls_failed).await.1.contains("in the middle of the handshake"));
    assert_eq!(proxy.counters().failed_handshakes, 2);
}

#[tokio::test]
async fn a_handshake_that_never_comes_delays_nobody_and_has_an_end() {
    let authority = Authority::new();
    let tls = TlsConfig { handshake_timeout_ms: 600_000, ..terminating(&authority) };
    let patient = proxy(echo().await, tls.clone()).await;
    let mut silent = connect(patient.listen_address()).await;
    let mut client = authority.connect(patient.listen_address()).await.expect("a handshake");
    exchange(&mut client, b"hello").await;
    assert_eq!(patient.counters().active, 2);
    // Nor does it hold a call up.
    patient.stop().await;
    assert_eq!(next_read(&mut silent).await.expect("an orderly end"), 0);

    let hasty = proxy(echo().await, TlsConfig { handshake_timeout_ms: 50, ..tls }).await;
    let mut events = hasty.events();
    let mut silent = connect(hasty.listen_address()).await;
    assert_eq!(next_read(&mut silent).await.expect("an orderly end"), 0);
    assert_eq!(event(&mut events, tls_failed).await, (Peer::Client, "no handshake within 50 ms".into()));
    assert_eq!(hasty.counters().failed_handshakes, 1);
}

#[tokio::test]
async fn a_server_that_shakes_no_hands_costs_its_client_the_connection() {
    let authority = Authority::new();
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let upstream = deaf.local_addr().expect("an address");
    let proxy = proxy(upstream, TlsConfig { handshake_timeout_ms: 50, ..both(&authority) }).await;
    let mut events = proxy.events();
    let mut client = authority.connect(proxy.listen_address()).await.expect("the proxy's own certificate");
    assert_eq!(rest(&mut client).await.expect("an orderly end"), b"");
    assert_eq!(event(&mut events, tls_failed).await.0, Peer::Server);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_handshake_is_one_for_both_peers() {
    let authority = Authority::new();
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = proxy(deaf.local_addr().expect("an address"), both(&authority)).await;
    let client = authority.connect(proxy.listen_address()).await.expect("the proxy's own certificate");
    let (mut server, _) = timeout(DEADLINE, deaf.accept()).await.expect("in time").expect("the proxy");
    // It has begun to speak.
    assert!(next_read(&mut server).await.expect("a greeting") > 0);
    let guard = proxy.inject(NetworkFault::Reset {}).await.expect("a fault");
    for peer in [&mut client.into_inner().0, &mut server] {
        assert_eq!(next_read(peer).await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!((guard.heal().await.reset, proxy.counters().failed_handshakes), (1, 0));
}

#[tokio::test]
async fn a_megabyte_each_way_arrives_bit_for_bit_in_slices() {
    let authority = Authority::new();
    let proxy = proxy(authority.echo().await, both(&authority)).await;
    for stream in ["upstream", "downstream"] {
        let slicer =
            toxic("slicer", stream, &[("average_size", 1500), ("size_variation", 700), ("delay", 10)]);
        proxy.add_toxic(slicer).await.expect("a toxic");
    }
    let mut sent = vec![0; 1024 * 1024];
    rand::rng().fill_bytes(&mut sent);
    let client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    let (mut reading, mut writing) = tokio::io::split(client);
    let send = async {
        writing.write_all(&sent).await.expect("written");
        writing.shutdown().await.expect("an end");
    };
    let (received, ()) = tokio::join!(rest(&mut reading), send);
    let received = received.expect("an orderly end");
    assert!(received == sent, "{} bytes came back, or others", received.len());
    assert!(proxy.toxic_evidence().iter().all(|(_, evidence)| evidence.connections == 1));
}
