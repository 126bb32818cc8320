//! A port that answers nobody: whoever connects hears neither SYN-ACK nor RST.
//!
//! Needs no privilege. The socket listens with the shortest queue that there is and accepts nothing; once connections of
//! our own have filled the queue, the system drops what else comes (Linux: `sk_acceptq_is_full` in `tcp_conn_request`).
//! Clients go on asking, and get through when the port is opened again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A connection on this machine that is not made by then will not be made.
const UNANSWERED: Duration = Duration::from_millis(50);
/// More connections than any system puts into the shortest queue.
const FILLERS: usize = 64;

/// Deaf until it is dropped.
#[derive(Debug)]
pub(super) struct DeafPort {
    _listener: TcpListener,
    _fillers: Vec<TcpStream>,
}

impl DeafPort {
    /// Makes `socket`, which is bound to `address`, deaf. Where the system answers all the same, which is said in the log,
    /// those who connect are left alone.
    pub async fn listen(socket: TcpSocket, address: SocketAddr) -> std::io::Result<DeafPort> {
        let listener = socket.listen(0)?;
        let reached = reachable(address);
        let mut fillers = Vec::new();
        while fillers.len() < FILLERS {
            match tokio::time::timeout(UNANSWERED, TcpStream::connect(reached)).await {
                Ok(filler) => fillers.push(filler?),
                Err(_) => return Ok(DeafPort { _listener: listener, _fillers: fillers }),
            }
        }
        tracing::warn!(%address, "still answers with {FILLERS} connections waiting");
        Ok(DeafPort { _listener: listener, _fillers: fillers })
    }
}

/// Where this machine reaches a socket that is bound to `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_gets_an_answer_until_it_is_dropped() {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = socket.local_addr().expect("an address");
        let deaf = DeafPort::listen(socket, address).await.expect("deaf");
        for _ in 0..3 {
            let asked = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await;
            assert!(asked.is_err(), "answered: {asked:?}");
        }
        drop(deaf);
        let refused = TcpStream::connect(address).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
