//! Faults on messages, through a proxy with real sockets: what the peers see, and what the guard says of it.

mod proxy_support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaos::fault::Evidence;
use chaos::protocol::Protocol;
use chaos::protocol::fault::WireFault;
use chaos::proxy::{Error, Guard, Proxy, ProxyConfig};
use parking_lot::Mutex;
use proxy_support::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A Redis that answers `+OK` to whatever it is sent and keeps the names of the commands.
#[derive(Clone, Default)]
struct Redis {
    heard: Arc<Mutex<Vec<String>>>,
}

impl Redis {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let heard = self.heard.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, heard.clone()));
            }
        });
        address
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().clone()
    }
}

/// Ends with the connection, orderly or not: resets are what these tests cause.
async fn serve(socket: TcpStream, heard: Arc<Mutex<Vec<String>>>) {
    let mut socket = BufReader::new(socket);
    loop {
        let mut words = Vec::new();
        let Some(count) = number(&mut socket, '*').await else { return };
        for _ in 0..count {
            let Some(length) = number(&mut socket, '$').await else { return };
            let mut word = vec![0; length + 2];
            if socket.read_exact(&mut word).await.is_err() {
                return;
            }
            words.push(String::from_utf8_lossy(&word[..length]).into_owned());
        }
        heard.lock().push(words.join(" "));
        if socket.write_all(b"+OK\r\n").await.is_err() {
            return;
        }
    }
}

async fn number(socket: &mut BufReader<TcpStream>, sign: char) -> Option<usize> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(sign)?.parse().ok()
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

async fn proxy(upstream: SocketAddr, protocol: Option<Protocol>) -> Proxy {
    let config = ProxyConfig {
        name: "link".into(),
        listen: "127.0.0.1:0".into(),
        upstream: upstream.to_string(),
        seed: 7,
        protocol,
        udp: None,
        tls: None,
        dial_failure: None,
    };
    Proxy::start(config).await.expect("a proxy")
}

async fn redis() -> (Redis, Proxy) {
    let redis = Redis::default();
    let address = redis.start().await;
    (redis, proxy(address, Some(Protocol::Redis)).await)
}

fn fault(text: &str) -> WireFault {
    #[derive(serde::Deserialize)]
    struct File {
        inject: WireFault,
    }
    toml::from_str::<File>(text).expect("a fault").inject
}

async fn inject(proxy: &Proxy, text: &str) -> Guard {
    proxy.inject_wire(&fault(text)).expect("injected")
}

async fn says(client: &mut TcpStream, words: &[&str]) -> String {
    client.write_all(&command(words)).await.expect("written");
    line(client).await
}

async fn line(client: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(read_bytes(client, 1).await);
    }
    String::from_utf8(line).expect("text")
}

#[tokio::test]
async fn without_a_fault_a_link_that_is_read_along_changes_no_byte() {
    let (redis, proxy) = redis().await;
    let mut client = connect(proxy.listen_address()).await;
    let value = "v".repeat(200_000);
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.extend(command(&["SET", "key", &value]));
    }
    let (mut reading, mut writing) = client.split();
    let (written, answers) = tokio::join!(writing.write_all(&sent), async {
        let mut answers = vec![0; 20 * 5];
        reading.read_exact(&mut answers).await.map(|_| answers)
    });
    written.expect("all is taken");
    assert_eq!(answers.expect("all is answered"), b"+OK\r\n".repeat(20));
    assert_eq!(redis.heard(), vec![format!("SET key {value}"); 20]);
    assert_eq!(proxy.counters().bytes_upstream, sent.len() as u64);
}

#[tokio::test]
async fn a_refused_command_is_not_executed_and_the_rest_is() {
    let (redis, proxy) = redis().await;
    let mut client = connect(proxy.listen_address()).await;
    assert_eq!(says(&mut client, &["SET", "a", "1"]).await, "+OK\r\n");
    let guard = inject(&proxy, "inject.redis.reply = { error = \"READONLY\" }").await;
    let answer = says(&mut client, &["SET", "a", "2"]).await;
    assert_eq!(answer, "-READONLY You can't write against a read only replica.\r\n");
    assert_eq!(says(&mut client, &["GET", "a"]).await, "+OK\r\n");
    assert_eq!(guard.evidence().acted, 1);
    let evidence = guard.heal().await;
    assert_eq!(says(&mut client, &["SET", "a", "3"]).await, "+OK\r\n");
    // The command that stands in its place is one that no server executes: this keeps replies in order.
    assert_eq!(redis.heard(), ["SET a 1", "chaos.refused", "GET a", "SET a 3"]);
    let struck = Evidence { matched: 1, acted: 1, ..Evidence::default() };
    assert_eq!(Evidence { swallowed_bytes: 0, ..evidence }, struck);
    assert_eq!(proxy.active_faults(), 0);
}

#[tokio::test]
async fn the_reply_of_the_second_match_is_swallowed_and_its_connection_reset() {
    let (redis, proxy) = redis().await;
    let guard = inject(&proxy, "inject.redis.drop-reply = { command = \"SET\", nth = 2 }").await;
    let mut first = connect(proxy.listen_address()).await;
    let mut second = connect(proxy.listen_address()).await;
    assert_eq!(says(&mut first, &["SET", "a", "1"]).await, "+OK\r\n");
    second.write_all(&command(&["SET", "b", "1"])).await.expect("written");
    assert_reset(&mut second).await;
    // Applied, and answered by an error: what a retry without a key would do twice.
    assert_eq!(redis.heard(), ["SET a 1", "SET b 1"]);
    assert_eq!(says(&mut first, &["SET", "a", "2"]).await, "+OK\r\n");
    let evidence = guard.evidence();
    assert_eq!((evidence.matched, evidence.acted, evidence.swallowed_bytes), (3, 1, 5));
    assert_eq!(proxy.counters().reset, 1);
}

#[tokio::test]
async fn a_silenced_connection_stays_open_and_hears_nothing() {
    let (redis, proxy) = redis().await;
    let _guard = inject(&proxy, "inject.redis.drop-reply = { command = \"SET\", then = \"silence\" }").await;
    let mut client = connect(proxy.listen_address()).await;
    client.write_all(&command(&["SET", "a", "1"])).await.expect("written");
    assert_silent(&mut client).await;
    client.write_all(&command(&["GET", "a"])).await.expect("written");
    assert_silent(&mut client).await;
    eventually("both commands arrive", || redis.heard() == ["SET a 1", "GET a"]).await;
}

#[tokio::test]
async fn a_slow_reply_comes_no_earlier_and_what_follows_waits_behind_it() {
    let (_, proxy) = redis().await;
    let delay = Duration::from_millis(120);
    let _guard = inject(&proxy, "inject.redis.slow = { delay = \"120ms\", of = \"reply\", nth = 1 }").await;
    let mut client = connect(proxy.listen_address()).await;
    let start = Instant::now();
    client.write_all(&[command(&["GET", "a"]), command(&["GET", "b"])].concat()).await.expect("written");
    assert_eq!(line(&mut client).await, "+OK\r\n");
    assert!(start.elapsed() >= delay, "came after {:?}", start.elapsed());
    assert_eq!(line(&mut client).await, "+OK\r\n");
}

#[tokio::test]
async fn what_is_not_the_protocol_passes_and_the_fault_says_that_it_was_blind() {
    let proxy = proxy(echo().await, Some(Protocol::Redis)).await;
    let guard = inject(&proxy, "inject.redis.reply = { error = \"OOM\" }").await;
    let mut client = connect(proxy.listen_address()).await;
    let hello = b"\x16\x03\x01\x00\x05hello of TLS, or whatever it is";
    round_trip(&mut client, hello).await;
    let evidence = guard.heal().await;
    assert_eq!((evidence.matched, evidence.acted, evidence.blind), (0, 0, 1));
    assert!(evidence.is_empty(), "a fault that saw nothing proved nothing");
}

#[tokio::test]
async fn an_error_that_closes_is_delivered_and_then_the_connection_ends_orderly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        socket.write_all(b"INFO {\"server_id\":\"x\"}\r\n").await.expect("written");
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).await.expect("an orderly end");
        heard
    });
    let proxy = proxy(address, Some(Protocol::Nats)).await;
    let text =
        "inject.nats.err = { error = \"Maximum Payload Violation\", subject = \"orders.>\", closes = true }";
    let guard = inject(&proxy, text).await;
    let mut client = connect(proxy.listen_address()).await;
    line(&mut client).await;
    client
        .write_all(b"CONNECT {}\r\nPUB other 2\r\nhi\r\nPUB orders.created 2\r\nhi\r\n")
        .await
        .expect("sent");
    assert_eq!(line(&mut client).await, "-ERR 'Maximum Payload Violation'\r\n");
    assert_eq!(next_read(&mut client).await.expect("an orderly end"), 0);
    assert_eq!(server.await.expect("the server"), b"CONNECT {}\r\nPUB other 2\r\nhi\r\n");
    assert_eq!(guard.heal().await.acted, 1);
}

#[tokio::test]
async fn a_link_that_was_not_told_its_protocol_takes_no_fault_on_messages() {
    let address = echo().await;
    let drop_ack = fault("inject.pg.drop-ack = { nth = 1 }");
    let untold = proxy(address, None).await.inject_wire(&drop_ack).expect_err("refused");
    assert!(matches!(untold, Error::Protocol { wanted: Protocol::Postgres, spoken: None }), "{untold}");
    let other = proxy(address, Some(Protocol::Redis)).await.inject_wire(&drop_ack).expect_err("refused");
    assert_eq!(other.to_string(), "the fault is about pg messages, but the link speaks redis");
}

#[tokio::test]
async fn the_event_stream_tells_the_life_of_a_connection_and_what_was_done_to_it() {
    use chaos::fault::Direction;
    use chaos::proxy::event::{How, What};

    let (_, proxy) = redis().await;
    let mut events = proxy.events();
    let guard = inject(&proxy, "inject.redis.drop-reply = { command = \"SET\", nth = 2 }").await;
    let mut client = connect(proxy.listen_address()).await;
    assert_eq!(says(&mut client, &["SET", "a", "1"]).await, "+OK\r\n");
    client.write_all(&command(&["SET", "a", "2"])).await.expect("written");
    assert_reset(&mut client).await;
    eventually("the connection is gone", || proxy.counters().active == 0).await;
    guard.heal().await;

    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(&*event.proxy, "link");
        told.push((event.connection, event.what));
    }
    let address = client.local_addr().expect("an address").to_string();
    let [began, accepted, dialled, message, ended, healed] = told.as_slice() else { panic!("{told:#?}") };
    let (_, What::Began { fault, kind: "redis.drop-reply", .. }) = began else { panic!("{began:?}") };
    assert_eq!(*accepted, (Some(1), What::Accepted { client: address }));
    assert!(matches!(dialled, (Some(1), What::Dialled { .. })), "{dialled:?}");
    let struck = What::Message { fault: *fault, direction: Direction::Downstream, did: "acted" };
    assert_eq!(*message, (Some(1), struck));
    let (Some(1), What::Ended { how: How::Reset, bytes_upstream, bytes_downstream, .. }) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!((*bytes_upstream, *bytes_downstream), (2 * command(&["SET", "a", "1"]).len() as u64, 5));
    assert_eq!(*healed, (None, What::Healed { fault: *fault }));
}
