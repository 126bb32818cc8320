//! One side of a connection as the links see it: plain bytes in and out, whatever stands below them.
//!
//! Plain connections are forwarded between two [`TcpStream`]s and know nothing of TLS; those where at least one side is
//! encrypted between two [`End`]s. Both directions of a connection are one task, so that a side is never split.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::tls::Stream;

pub(super) trait Side {
    /// Reads into `buffer`; nothing read is the end of the stream.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// True when the stream ended without the sender's word that it is complete: TLS without its `close_notify`.
    fn was_cut(&self) -> bool;

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Gives the socket what was written and still waits here; a failure shows at the next write.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when the peer has left and nothing is to be done for it any more: it reset the connection, or ended its stream
    /// without having sent a byte. What it sent stays to be read, and while there is any, its end may be a half close.
    fn gone(&mut self) -> impl Future<Output = ()> + Send;

    /// Passes the end of the stream on; `cut`: without saying that it is complete. Nothing is written afterwards.
    fn poll_finish(&mut self, context: &mut Context<'_>, cut: bool) -> Poll<io::Result<()>>;

    /// Gets ready for a close of both ways that is not a reset. The socket stays open.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Why TLS could not go on, told once.
    fn take_failure(&mut self) -> Option<String>;

    fn socket(&self) -> &TcpStream;
}

impl Side for TcpStream {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), context, buffer)
    }

    fn was_cut(&self) -> bool {
        false
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(self), context, bytes)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    async fn gone(&mut self) {
        if matches!(self.peek(&mut [0]).await, Ok(1)) {
            reset(self).await;
        }
    }

    fn poll_finish(&mut self, _: &mut Context<'_>, _: bool) -> Poll<io::Result<()>> {
        Poll::Ready(shut_down(self))
    }

    fn poll_farewell(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn take_failure(&mut self) -> Option<String> {
        None
    }

    fn socket(&self) -> &TcpStream {
        self
    }
}

/// Waits until the peer resets the connection, whatever is still to be read.
pub(super) async fn reset(socket: &TcpStream) {
    // Fails only where the runtime ends.
    let _ = socket.ready(Interest::ERROR).await;
}

/// Sends FIN.
pub(super) fn shut_down(socket: &TcpStream) -> io::Result<()> {
    match SockRef::from(socket).shutdown(Shutdown::Write) {
        // The receiver has closed already, so there is nobody to tell.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}

/// One side of a connection that is encrypted on at least one.
#[derive(Debug)]
pub(super) enum End {
    Plain(TcpStream),
    Tls(Box<Stream>),
}

impl Side for End {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            End::Plain(socket) => Side::poll_read(socket, context, buffer),
            End::Tls(stream) => stream.poll_read(context, buffer),
        }
    }

    fn was_cut(&self) -> bool {
        match self {
            End::Plain(socket) => socket.was_cut(),
            End::Tls(stream) => stream.was_cut(),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            End::Plain(socket) => Side::poll_write(socket, context, bytes),
            End::Tls(stream) => stream.poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            End::Plain(socket) => Side::poll_flush(socket, context),
            End::Tls(stream) => stream.poll_flush(context),
        }
    }

    async fn gone(&mut self) {
        match self {
            End::Plain(socket) => socket.gone().await,
            End::Tls(stream) => stream.gone().await,
        }
    }

    fn poll_finish(&mut self, context: &mut Context<'_>, cut: bool) -> Poll<io::Result<()>> {
        match self {
            End::Plain(socket) => socket.poll_finish(context, cut),
            End::Tls(stream) => stream.poll_finish(context, cut),
        }
    }

    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            End::Plain(socket) => socket.poll_farewell(context),
            End::Tls(stream) => stream.poll_farewell(context),
        }
    }

    fn take_failure(&mut self) -> Option<String> {
        match self {
            End::Plain(socket) => socket.take_failure(),
            End::Tls(stream) => stream.take_failure(),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            End::Plain(socket) => socket,
            End::Tls(stream) => stream.socket(),
        }
    }
}
