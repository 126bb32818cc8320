//! Upstreams, clients and waiting for the proxy's tests.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Long enough for a machine under load; only a failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A server that answers each byte with itself and each half close with its own; runs until the test's runtime ends.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reading, mut writing) = socket.split();
                // A reset is what many tests cause here.
                let _ = tokio::io::copy(&mut reading, &mut writing).await;
                let _ = writing.shutdown().await;
            });
        }
    });
    address
}

pub async fn connect(address: SocketAddr) -> TcpStream {
    timeout(DEADLINE, TcpStream::connect(address)).await.expect("in time").expect("a connection")
}

/// Sends `bytes` and reads as many back.
pub async fn round_trip(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).await.expect("written");
    assert_eq!(read_bytes(client, bytes.len()).await, bytes);
}

pub async fn read_bytes(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut answer = vec![0; count];
    timeout(DEADLINE, client.read_exact(&mut answer)).await.expect("an answer in time").expect("an answer");
    answer
}

/// What the next read says: bytes, 0 for the end, or an error.
pub async fn next_read(client: &mut TcpStream) -> io::Result<usize> {
    timeout(DEADLINE, client.read(&mut [0; 4096])).await.expect("news in time")
}

/// The connection ended with a RST, not with an end.
pub async fn assert_reset(client: &mut TcpStream) {
    let error = next_read(client).await.expect_err("a reset, not an orderly end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// Nothing comes, neither bytes nor an end, for a while.
pub async fn assert_silent(client: &mut TcpStream) {
    let heard = timeout(Duration::from_millis(150), client.read(&mut [0; 64])).await;
    assert!(heard.is_err(), "heard {heard:?} where silence was due");
}

/// Waits until `condition` holds; `what` is told when it never does.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = timeout(DEADLINE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never happened: {what}"));
}
