//! The server behind every measured proxy: one port, and the first byte of a connection says what it wants.
//!
//! `G` a small answer to each request, `E` an echo, `D` bytes without end, `U` bytes are taken and counted. One port, so
//! that a proxy that only knows one upstream can be measured too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request and the length of its answer, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    pub request: &'static [u8],
    pub answer_bytes: usize,
}

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nhello, world\n";
/// A keep-alive request as small as HTTP allows.
pub const HTTP: Exchange =
    Exchange { request: b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n", answer_bytes: ANSWER.len() };
/// 64 bytes there and back.
pub const ECHO: Exchange = Exchange { request: &[b'E'; 64], answer_bytes: 64 };
/// Asks for bytes without end.
pub const DOWNLOAD: u8 = b'D';
/// Announces bytes without end.
pub const UPLOAD: u8 = b'U';

const BUFFER_BYTES: usize = 128 * 1024;

/// A running upstream; it ends with the process.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl Upstream {
    /// Listens on `listen` (`127.0.0.1:0` for any port).
    pub async fn start(listen: SocketAddr) -> std::io::Result<Upstream> {
        let listener = TcpListener::bind(listen).await?;
        let upstream = Upstream { address: listener.local_addr()?, taken: Arc::default() };
        let taken = upstream.taken.clone();
        tokio::spawn(async move {
            loop {
                // A machine out of descriptors shows in the client's error; there is nobody here to tell.
                let Ok((socket, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                tokio::spawn(serve(socket, taken.clone()));
            }
        });
        Ok(upstream)
    }

    /// Bytes of uploads so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// The other side going away is how every connection ends here.
async fn serve(mut socket: TcpStream, taken: Arc<AtomicU64>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut first = [0; 512];
    let count = socket.read(&mut first).await?;
    let Some(kind) = first[..count].first() else { return Ok(()) };
    match *kind {
        DOWNLOAD => {
            let bytes = vec![b'x'; BUFFER_BYTES];
            loop {
                socket.write_all(&bytes).await?;
            }
        }
        UPLOAD => {
            let mut buffer = vec![0; BUFFER_BYTES];
            taken.fetch_add(count as u64, Ordering::Relaxed);
            loop {
                match socket.read(&mut buffer).await? {
                    0 => return Ok(()),
                    count => taken.fetch_add(count as u64, Ordering::Relaxed),
                };
            }
        }
        b'E' => {
            socket.write_all(&first[..count]).await?;
            let mut buffer = vec![0; 1024];
            loop {
                match socket.read(&mut buffer).await? {
                    0 => return Ok(()),
                    count => socket.write_all(&buffer[..count]).await?,
                }
            }
        }
        _ => answer(&mut socket, first, count).await,
    }
}

/// A whole request is answered; a part of one waits for the rest.
async fn answer(socket: &mut TcpStream, mut buffer: [u8; 512], mut filled: usize) -> std::io::Result<()> {
    loop {
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            socket.write_all(ANSWER).await?;
            filled = 0;
        }
        match socket.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            count => filled += count,
        }
    }
}
