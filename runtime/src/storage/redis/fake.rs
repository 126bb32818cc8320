//! A server for tests that answers each command of Redis' protocol as it is told to: what no real Redis says on demand.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// Serves until the runtime ends. `reply` gets the name of a command in capitals and the server's own port, and says the
/// answer's bytes.
pub(super) async fn serve(reply: impl Fn(&str, u16) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let reply = std::sync::Arc::new(parking_lot::Mutex::new(reply));
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            let reply = reply.clone();
            tokio::spawn(async move {
                let mut socket = BufReader::new(socket);
                while let Some(command) = command(&mut socket).await {
                    let answer = reply.lock()(&command.to_ascii_uppercase(), address.port());
                    if socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The first word of the next command, which is an array of texts.
async fn command(socket: &mut BufReader<tokio::net::TcpStream>) -> Option<String> {
    let count = number(socket, '*').await?;
    let mut first = None;
    for _ in 0..count {
        let length = number(socket, '$').await?;
        let mut word = vec![0; length + 2];
        socket.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        first.get_or_insert(String::from_utf8(word).ok()?);
    }
    first
}

/// The answer of a Sentinel that names this port of this machine.
pub(super) fn address_of(port: u16) -> String {
    let port = port.to_string();
    format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
}

async fn number(socket: &mut BufReader<tokio::net::TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}
