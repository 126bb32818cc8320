//! Upstreams and clients of the proxies under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Long enough for a machine under load; only a failing case waits for it.
pub const DEADLINE: Duration = Duration::from_secs(25);

/// A server that runs until it is dropped; each connection is a thread.
pub struct Upstream {
    pub address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Upstream {
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if end.load(Ordering::Acquire) {
                    return;
                }
                let serve = serve.clone();
                std::thread::spawn(move || serve(socket));
            }
        });
        Upstream { address, ended }
    }

    /// Answers each byte with itself, and a half close with its own.
    pub fn echo() -> Upstream {
        Upstream::start(|mut socket| {
            let mut reading = socket.try_clone().expect("a second handle");
            // Connections that a case breaks end here.
            let _ = std::io::copy(&mut reading, &mut socket);
            let _ = socket.shutdown(Shutdown::Write);
        })
    }

    /// Sends `bytes` to everybody, then waits for the client to close.
    pub fn source(bytes: Vec<u8>) -> Upstream {
        Upstream::start(move |mut socket| {
            let _ = socket.write_all(&bytes);
            let _ = socket.read_to_end(&mut Vec::new());
        })
    }

    pub fn text(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

/// An address on which nothing listens, kept from others as long as the socket lives.
pub fn closed_port() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("an address").as_socket().expect("of IP");
    (socket, address)
}

/// A free port that the system gives nobody as a client's own: it stays free while a proxy is disabled.
pub fn lasting_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Apart from other runs at the same time.
    let begin = std::process::id().wrapping_mul(389);
    loop {
        let next = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + next).expect("below 30,000");
        // Asked by connecting: binding would hold the port in every process that is being started meanwhile.
        if refused(([127, 0, 0, 1], port).into()) {
            return port;
        }
    }
}

/// A port that is taken as long as the listener lives.
pub fn taken_port() -> TcpListener {
    TcpListener::bind(("127.0.0.1", lasting_port())).expect("a free port")
}

/// Gives a port of [`taken_port`] back. A process that is being started may hold on to it for an instant.
pub fn release(listener: TcpListener) {
    let address = listener.local_addr().expect("an address");
    drop(listener);
    eventually("the port is free", || refused(address));
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, DEADLINE).expect("a connection");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

pub fn refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

pub fn send(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).expect("sent");
}

pub fn receive(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).expect("an answer");
    bytes
}

/// Sends `bytes` and gets as many back; how long that took.
pub fn round_trip(socket: &mut TcpStream, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    send(socket, bytes);
    assert!(receive(socket, bytes.len()) == bytes, "what came back is not what was sent");
    start.elapsed()
}

/// The connection ended in good order, and nothing came before that.
pub fn assert_end(socket: &mut TcpStream) {
    let rest = rest(socket);
    assert!(rest.is_empty(), "{} bytes came before the end", rest.len());
}

/// Everything until the end.
pub fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("an end, not a reset");
    bytes
}

/// The connection ended with a RST.
pub fn assert_reset(socket: &mut TcpStream) {
    let error = socket.read_to_end(&mut Vec::new()).expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Nothing comes for a while.
pub fn assert_silent(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(Duration::from_millis(150))).expect("a timeout");
    let heard = socket.read(&mut [0; 64]);
    let silent = heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(silent, "heard {heard:?} where silence was due");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
}

/// Waits until `holds`.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 % 251) as u8).collect()
}

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
