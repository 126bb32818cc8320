//! How connections with TLS end: each way in its own time, and in order on one side where it was so on the other.

#[expect(dead_code, reason = "tests of plain connections need more of it")]
mod proxy_support;
mod tls_support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use chaos::json::Json;
use chaos::proxy::event::{How, Peer, What};
use chaos::proxy::{Proxy, TlsConfig};
use chaos::toxic::{Toxic, Type};
use proxy_support::{DEADLINE, connect, echo, next_read};
use tls_support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A setting, and whether the server that goes with it speaks TLS.
type Encrypted = (fn(&Authority) -> TlsConfig, bool);

const ENCRYPTED: [Encrypted; 3] = [(terminating, false), (originating, true), (both, true)];

fn how(what: What) -> Option<How> {
    if let What::Ended { how, .. } = what { Some(how) } else { None }
}

/// A server of one connection, which it hands out.
async fn plain_server() -> (SocketAddr, impl Future<Output = TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let accepted = async move {
        timeout(DEADLINE, listener.accept()).await.expect("the proxy in time").expect("the proxy").0
    };
    (address, accepted)
}

#[tokio::test]
async fn a_client_that_ends_its_requests_still_gets_the_answer_and_an_orderly_end() {
    for (encrypted, server_speaks) in ENCRYPTED {
        let authority = Authority::new();
        let tls = encrypted(&authority);
        let upstream = if server_speaks {
            let serve = |mut stream: tokio_rustls::server::TlsStream<TcpStream>| async move {
                let request = rest(&mut stream).await.expect("an orderly end of the requests");
                stream.write_all(&[b"answer to ", request.as_slice()].concat()).await.expect("written");
                stream.shutdown().await.expect("an end");
            };
            authority.serve(serve).await
        } else {
            let (address, server) = plain_server().await;
            tokio::spawn(async move {
                let mut server = server.await;
                let request = rest(&mut server).await.expect("an orderly end of the requests");
                server.write_all(&[b"answer to ", request.as_slice()].concat()).await.expect("written");
            });
            address
        };
        let proxy = proxy(upstream, tls.clone()).await;
        let mut events = proxy.events();
        let answer = if tls.terminate.is_some() {
            let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
            client.write_all(b"question").await.expect("written");
            client.shutdown().await.expect("an end");
            rest(&mut client).await
        } else {
            let mut client = connect(proxy.listen_address()).await;
            client.write_all(b"question").await.expect("written");
            client.shutdown().await.expect("an end");
            rest(&mut client).await
        };
        assert_eq!(answer.expect("an orderly end"), b"answer to question", "{tls:?}");
        assert_eq!(event(&mut events, how).await, How::Finished);
    }
}

#[tokio::test]
async fn a_server_that_has_said_all_can_still_be_spoken_to() {
    for (encrypted, server_speaks) in ENCRYPTED {
        let authority = Authority::new();
        let tls = encrypted(&authority);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let upstream = if server_speaks {
            let serve = move |mut stream: tokio_rustls::server::TlsStream<TcpStream>| {
                let tell = tell.clone();
                async move {
                    stream.write_all(b"goodbye").await.expect("written");
                    stream.shutdown().await.expect("an end");
                    let _ = tell.send(rest(&mut stream).await.expect("an orderly end"));
                }
            };
            authority.serve(serve).await
        } else {
            let (address, server) = plain_server().await;
            tokio::spawn(async move {
                let mut server = server.await;
                server.write_all(b"goodbye").await.expect("written");
                server.shutdown().await.expect("an end");
                let _ = tell.send(rest(&mut server).await.expect("an orderly end"));
            });
            address
        };
        let proxy = proxy(upstream, tls.clone()).await;
        if tls.terminate.is_some() {
            let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
            assert_eq!(rest(&mut client).await.expect("an orderly end"), b"goodbye");
            client.write_all(b"still here").await.expect("written");
            client.shutdown().await.expect("an end");
        } else {
            let mut client = connect(proxy.listen_address()).await;
            assert_eq!(rest(&mut client).await.expect("an orderly end"), b"goodbye");
            client.write_all(b"still here").await.expect("written");
            client.shutdown().await.expect("an end");
        }
        let heard = timeout(DEADLINE, told.recv()).await.expect("news in time");
        assert_eq!(heard.as_deref(), Some(b"still here".as_slice()), "{tls:?}");
    }
}

/// A client that closes its connection without `close_notify`.
async fn cut(authority: &Authority, proxy: &Proxy) {
    let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    exchange(&mut client, b"hello").await;
    client.into_inner().0.shutdown().await.expect("FIN");
}

#[tokio::test]
async fn a_stream_that_was_cut_is_not_passed_on_as_complete() {
    let authority = Authority::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let serve = move |mut stream: tokio_rustls::server::TlsStream<TcpStream>| {
        let tell = tell.clone();
        async move {
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await.expect("bytes");
            stream.write_all(&bytes).await.expect("an answer");
            let _ = tell.send(rest(&mut stream).await.map_err(|error| error.kind()));
        }
    };
    let through = proxy(authority.serve(serve).await, both(&authority)).await;
    cut(&authority, &through).await;
    let heard = timeout(DEADLINE, told.recv()).await.expect("news in time");
    assert_eq!(heard, Some(Err(ErrorKind::UnexpectedEof)));

    // Without TLS there is but one end, and it is in order.
    let (address, server) = plain_server().await;
    let through = proxy(address, terminating(&authority)).await;
    let answered = async {
        let mut server = server.await;
        let hello = some(&mut server, 5).await;
        server.write_all(&hello).await.expect("an answer");
        rest(&mut server).await
    };
    let (end, ()) = tokio::join!(answered, cut(&authority, &through));
    assert_eq!(end.expect("FIN, not a reset"), b"");
}

#[tokio::test]
async fn a_peer_that_resets_is_passed_on_as_a_reset() {
    let authority = Authority::new();
    let (address, server) = plain_server().await;
    let proxy = proxy(address, terminating(&authority)).await;
    let mut events = proxy.events();
    let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    let mut server = server.await;
    client.write_all(b"hello").await.expect("written");
    assert_eq!(some(&mut server, 5).await, b"hello");
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("an open socket");
    drop(server);
    let error = rest(&mut client).await.expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(event(&mut events, how).await, How::Broken);
}

#[tokio::test]
async fn what_the_proxy_closes_ends_in_order_with_all_that_was_let_through() {
    let authority = Authority::new();
    let proxy = proxy(authority.echo().await, both(&authority)).await;
    let mut limit = Toxic {
        name: "limit".into(),
        kind: Type::parse("limit_data").expect("a type"),
        stream: "downstream".into(),
        toxicity: 1.0,
        values: Vec::new(),
        clients: Default::default(),
    };
    limit.merge(&[("bytes".to_owned(), Json::from(70_000))]).expect("attributes");
    proxy.add_toxic(limit).await.expect("a toxic");
    let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    let sent: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    client.write_all(&sent).await.expect("written");
    client.flush().await.expect("sent");
    let received = rest(&mut client).await.expect("an orderly end");
    assert!(received == sent[..70_000], "{} bytes came, or others", received.len());
    proxy.remove_toxics();

    let mut client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    exchange(&mut client, b"hello").await;
    proxy.stop().await;
    assert_eq!(rest(&mut client).await.expect("an orderly end"), b"");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_call_up() {
    let authority = Authority::new();
    let (address, server) = plain_server().await;
    let proxy = proxy(address, terminating(&authority)).await;
    let _client = authority.connect(proxy.listen_address()).await.expect("a handshake");
    let mut server = server.await;
    let flood = tokio::spawn(async move {
        let bytes = vec![7; 64 * 1024];
        while server.write_all(&bytes).await.is_ok() {}
    });
    // Until the server is held up: nothing on the way takes any more.
    let mut before = 0;
    while before == 0 || before != proxy.counters().received_downstream {
        before = proxy.counters().received_downstream;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    timeout(DEADLINE, proxy.stop()).await.expect("no wait for the client");
    timeout(DEADLINE, flood).await.expect("the server hears of it").expect("an end");
    assert_eq!(proxy.counters().active, 0);
}

#[tokio::test]
async fn what_is_no_tls_breaks_the_connection_and_is_told_of_even_after_our_own_end() {
    let authority = Authority::new();
    let through = proxy(echo().await, terminating(&authority)).await;
    let mut events = through.events();
    let failed = |what| if let What::TlsFailed { with, reason } = what { Some((with, reason)) } else { None };
    let mut client = authority.connect(through.listen_address()).await.expect("a handshake");
    exchange(&mut client, b"hello").await;
    let mut raw = client.into_inner().0;
    raw.write_all(b"this is no record").await.expect("written");
    assert_eq!(event(&mut events, failed).await.0, Peer::Client);
    assert_eq!(event(&mut events, how).await, How::Broken);

    let (address, server) = plain_server().await;
    let through = proxy(address, terminating(&authority)).await;
    let mut events = through.events();
    let mut client = authority.connect(through.listen_address()).await.expect("a handshake");
    let mut server = server.await;
    server.shutdown().await.expect("FIN");
    assert_eq!(rest(&mut client).await.expect("an orderly end"), b"");
    let mut raw = client.into_inner().0;
    raw.write_all(b"this is no record").await.expect("written");
    assert_eq!(event(&mut events, failed).await.0, Peer::Client);
    assert_eq!(event(&mut events, how).await, How::Broken);
    assert_eq!(next_read(&mut server).await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}
