//! One socket with TLS on it: rustls decides, this reads and writes.
//!
//! Written bytes count as taken when at most one record of them waits here, so that a receiver that does not read holds
//! its sender up as a plain socket would, and little is lost when the connection ends. An alert or a reply that reading
//! brings about leaves at once.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::super::side::{reset, shut_down};

/// Plain bytes of the largest record.
const RECORD: usize = 16 * 1024;

#[derive(Debug)]
pub(in crate::proxy) struct Stream {
    socket: TcpStream,
    session: Connection,
    /// Why TLS cannot go on, until it is told.
    failure: Option<String>,
    /// TLS cannot go on.
    failed: bool,
    /// The stream ended without `close_notify`.
    cut: bool,
    /// The socket takes nothing any more.
    deaf: bool,
}

impl Stream {
    /// The side of a client that speaks TLS.
    pub fn with_client(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Stream, rustls::Error> {
        Ok(Stream::new(socket, ServerConnection::new(config)?.into()))
    }

    /// The side of a server that speaks TLS.
    pub fn with_server(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Stream, rustls::Error> {
        Ok(Stream::new(socket, ClientConnection::new(config, name)?.into()))
    }

    fn new(socket: TcpStream, session: Connection) -> Stream {
        Stream { socket, session, failure: None, failed: false, cut: false, deaf: false }
    }

    /// Agrees with the peer, and tells the version; the other end of the story is why they did not.
    pub async fn handshake(&mut self, longest: Duration) -> Result<&'static str, String> {
        let agreed = tokio::time::timeout(longest, poll_fn(|context| self.poll_handshake(context)));
        match agreed.await {
            Ok(Ok(())) => Ok(self.version()),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("no handshake within {} ms", longest.as_millis())),
        }
    }

    fn version(&self) -> &'static str {
        match self.session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        }
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        loop {
            let flushed = self.poll_flush(context);
            match flushed {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                Poll::Ready(Ok(())) if !self.session.is_handshaking() => return Poll::Ready(Ok(())),
                // What the peer has to say may be why it takes nothing.
                _ if !self.session.is_handshaking() => return Poll::Pending,
                _ => {}
            }
            match ready!(self.poll_receive(context)) {
                Ok(0) => {
                    return Poll::Ready(Err("the connection ended in the middle of the handshake".into()));
                }
                Ok(_) => {}
                Err(error) => {
                    let reason = self.failure.take();
                    return Poll::Ready(Err(reason.unwrap_or_else(|| error.to_string())));
                }
            }
        }
    }

    /// Takes what the socket has, 0: its end, and lets rustls look at it.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut wire = Wire { socket: &mut self.socket, context };
        let count = match self.session.read_tls(&mut wire) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            read => read?,
        };
        let processed = self.session.process_new_packets();
        // Keys are renewed, errors are told to the peer; that it takes nothing now is no reason to wait.
        let _ = self.poll_flush(context);
        if let Err(error) = processed {
            self.failed = true;
            self.failure = Some(error.to_string());
            return Poll::Ready(Err(broken()));
        }
        Poll::Ready(Ok(count))
    }

    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session.reader().read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.cut = true;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Err(_) if self.failed => return Poll::Ready(Err(broken())),
                Err(_) => {}
            }
            if let Err(error) = ready!(self.poll_receive(context))
                && !self.failed
            {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Ready when the peer has left without plain bytes that are still to be read: see [`Side::gone`].
    ///
    /// [`Side::gone`]: super::super::side::Side::gone
    pub async fn gone(&mut self) {
        if poll_fn(|context| self.poll_left(context)).await {
            return;
        }
        reset(&self.socket).await;
    }

    /// True: the peer has left. False: it sent something first, which waits here.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            // Sees what the handshake took with its last bytes, too.
            match self.session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 => return Poll::Ready(false),
                Ok(state) if !state.peer_has_closed() => {}
                _ => return Poll::Ready(true),
            }
            match ready!(self.poll_receive(context)) {
                Ok(0) | Err(_) => return Poll::Ready(true),
                Ok(_) => {}
            }
        }
    }

    pub fn was_cut(&self) -> bool {
        self.cut
    }

    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut taken = 0;
        while taken < bytes.len() {
            match self.poll_flush(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(taken)),
            }
            let record = &bytes[taken..bytes.len().min(taken + RECORD)];
            taken += self.session.writer().write(record)?;
        }
        // The last record leaves as far as the socket takes it; the next poll goes on.
        match self.poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.deaf && self.session.wants_write() {
            let mut wire = Wire { socket: &mut self.socket, context };
            match self.session.write_tls(&mut wire) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    self.deaf = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_finish(&mut self, context: &mut Context<'_>, cut: bool) -> Poll<io::Result<()>> {
        if !cut {
            // Does nothing the second time.
            self.session.send_close_notify();
        }
        if self.deaf {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_flush(context))?;
        Poll::Ready(shut_down(&self.socket))
    }

    pub fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.session.is_handshaking() {
            self.session.send_close_notify();
        }
        self.poll_flush(context).map(drop)
    }

    pub fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

/// What a link sees of a failure whose reason is told elsewhere.
fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// The socket as rustls reads and writes it: what would wait is `WouldBlock`, and the task is woken.
struct Wire<'a, 'b> {
    socket: &'a mut TcpStream,
    context: &'a mut Context<'b>,
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Wire<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        now(Pin::new(&mut *self.socket).poll_read(self.context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Wire<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.socket).poll_write(self.context, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.socket).poll_write_vectored(self.context, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
