//! One connection: how it is taken, reached, secured and ended. What it carries is the matter of its two links.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use rand::Rng;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::admission;
use super::dial::{dial, stay_silent};
use super::event::{How, Peer, What, micros};
use super::followed::Live;
use super::link::Outcome;
use super::side::{End, Side};
use super::state::{Kill, Shared, Signal};
use super::tls::{Stream, Tls};
use crate::seed;
use crate::toxic::pipeline::Finish;

/// How long a receiver may take to hear that an encrypted connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Takes the connection off the list of live ones however its task ends.
struct Listed {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.followed.live.lock().remove(&self.number);
        self.shared.ended.notify_waiters();
    }
}

/// Starts the task of an accepted connection, or resets it where a fault says so.
pub(super) fn spawn(shared: Arc<Shared>, client: TcpStream, peer: IpAddr, number: u64) {
    let signal = Arc::new(Signal::default());
    shared.followed.live.lock().insert(number, Live { signal: signal.clone(), client: peer });
    let listed = Listed { shared: shared.clone(), number };
    // Looked at after listing: a fault that begins now finds the connection in one of the two ways.
    let resets = admission::resets(&shared.followed.plan.borrow().effects, peer, |effect| {
        draw(&shared, number, effect.id)
    })
    .cloned();
    if let Some(effect) = resets {
        let kill = Kill { finish: Finish::Reset, touched: Some(effect.touched.clone()) };
        end(&shared, &kill, [&client]);
        drop(client);
        say_ended(&shared, number, How::Reset, Moved::default(), Duration::ZERO);
        drop(listed);
        return;
    }
    tokio::spawn(async move {
        let began = Instant::now();
        let (how, moved) = Served { shared: &shared, peer, number, signal: &signal }.serve(client).await;
        say_ended(&shared, number, how, moved, began.elapsed());
        // The order to end counts as obeyed only after the sockets are closed, which serving has done.
        drop(listed);
    });
}

/// What decides whether an effect on whole connections strikes this one: the same number whenever it is asked for.
pub(super) fn draw(shared: &Shared, number: u64, effect: u64) -> f32 {
    seed::stream(shared.seed, &["proxy", &shared.name, &number.to_string(), "effect", &effect.to_string()])
        .random()
}

/// Bytes that a connection carried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub upstream: u64,
    pub downstream: u64,
}

fn say_ended(shared: &Shared, number: u64, how: How, moved: Moved, lasted: Duration) {
    shared.say(Some(number), || What::Ended {
        how,
        bytes_upstream: moved.upstream,
        bytes_downstream: moved.downstream,
        lasted_us: micros(lasted),
    });
}

fn how(finish: Finish) -> How {
    match finish {
        Finish::Close => How::Closed,
        Finish::Reset => How::Reset,
    }
}

/// Sets the sockets up for their end, which comes when they are dropped.
fn end<'a>(shared: &Shared, kill: &Kill, sockets: impl IntoIterator<Item = &'a TcpStream>) {
    if kill.finish == Finish::Close {
        return;
    }
    sockets.into_iter().for_each(linger_zero);
    shared.totals.reset.fetch_add(1, Ordering::Relaxed);
    if let Some(touched) = &kill.touched {
        touched.add_reset();
        touched.add_connection();
    }
}

/// From now on closing sends RST. Fails only on a socket that has ended already.
fn linger_zero(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a socket could not be set to reset");
    }
}

/// What everything about a connection that is served concerns.
pub(super) struct Served<'a> {
    pub shared: &'a Arc<Shared>,
    pub peer: IpAddr,
    pub number: u64,
    pub signal: &'a Signal,
}

/// Why there is no TLS with a peer.
enum NoTls {
    /// It was told, and the peer's socket is closed.
    Failed,
    Ordered(Kill),
}

impl Served<'_> {
    /// Returns when the sockets are closed.
    async fn serve(&self, client: TcpStream) -> (How, Moved) {
        // Accepted sockets have it from their listener on Linux.
        if !cfg!(target_os = "linux") {
            no_delay(&client);
        }
        let (upstream, tls) = {
            let settings = self.shared.settings.lock();
            (settings.upstream.clone(), settings.tls.clone())
        };
        if let Some(tls) = tls {
            // In a box: connections without TLS are not to carry what it needs.
            return Box::pin(self.serve_encrypted(&tls, upstream, client)).await;
        }
        let mut client = client;
        match self.unless_ended(dial(self.shared, self.number, upstream, &mut client)).await {
            Err(kill) => self.obey(&kill, &mut [client]).await,
            Ok(None) => self.turn_away(client, How::NoUpstream).await,
            Ok(Some(server)) => {
                no_delay(&server);
                self.carry([client, server]).await
            }
        }
    }

    /// As above where at least one side speaks TLS: the client's handshake comes before the dial, so that nobody makes
    /// the upstream work who could not be spoken to.
    async fn serve_encrypted(&self, tls: &Tls, upstream: String, client: TcpStream) -> (How, Moved) {
        let mut client = match tls.terminate() {
            None => End::Plain(client),
            Some(config) => {
                let stream = Stream::with_client(client, config.clone());
                match self.agree(Peer::Client, stream, tls.handshake_timeout()).await {
                    Ok(end) => end,
                    Err(NoTls::Failed) => return (How::NoTls, Moved::default()),
                    Err(NoTls::Ordered(kill)) => return self.obey::<End>(&kill, &mut []).await,
                }
            }
        };
        let dialled = self.unless_ended(dial(self.shared, self.number, upstream, &mut client)).await;
        let server = match dialled {
            Err(kill) => return self.obey(&kill, &mut [client]).await,
            Ok(None) => return self.turn_away(client, How::NoUpstream).await,
            Ok(Some(server)) => server,
        };
        no_delay(&server);
        let server = match tls.originate() {
            None => End::Plain(server),
            Some((config, name)) => {
                let stream = Stream::with_server(server, config.clone(), name.clone());
                match self.agree(Peer::Server, stream, tls.handshake_timeout()).await {
                    Ok(end) => end,
                    Err(NoTls::Failed) => return self.turn_away(client, How::NoTls).await,
                    Err(NoTls::Ordered(kill)) => {
                        return self.obey(&kill, std::array::from_mut(&mut client)).await;
                    }
                }
            }
        };
        self.carry([client, server]).await
    }

    /// Shakes hands with a peer.
    async fn agree(
        &self,
        with: Peer,
        stream: Result<Stream, rustls::Error>,
        longest: Duration,
    ) -> Result<End, NoTls> {
        let began = Instant::now();
        let mut stream = stream.map_err(|error| self.failed(with, error.to_string()))?;
        match self.unless_ended(stream.handshake(longest)).await {
            Ok(Ok(version)) => {
                let took_us = micros(began.elapsed());
                self.say(|| What::Secured { with, version, took_us });
                Ok(End::Tls(Box::new(stream)))
            }
            Ok(Err(reason)) => Err(self.failed(with, reason)),
            Err(kill) => {
                if kill.finish == Finish::Reset {
                    linger_zero(stream.socket());
                }
                Err(NoTls::Ordered(kill))
            }
        }
    }

    fn failed(&self, with: Peer, reason: String) -> NoTls {
        self.shared.totals.failed_handshakes.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(proxy = &*self.shared.name, ?with, reason, "a TLS handshake failed");
        self.say(|| What::TlsFailed { with, reason });
        NoTls::Failed
    }

    fn say(&self, what: impl FnOnce() -> What) {
        self.shared.say(Some(self.number), what);
    }

    /// What comes of `work`, unless an order ends the connection first.
    async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Result<T, Kill> {
        tokio::select! {
            done = work => Ok(done),
            kill = self.signal.ended() => Err(kill),
        }
    }

    /// Sets what is open up for the end that was ordered; nobody is waited for.
    async fn obey<S: Side>(&self, kill: &Kill, sides: &mut [S]) -> (How, Moved) {
        if kill.finish == Finish::Close {
            poll_fn(|context| {
                for side in &mut *sides {
                    let _ = side.poll_farewell(context);
                }
                Poll::Ready(())
            })
            .await;
        }
        end(self.shared, kill, sides.iter().map(Side::socket));
        (how(kill.finish), Moved::default())
    }

    /// Ends a client for whom there is no upstream.
    async fn turn_away<S: Side>(&self, mut client: S, why: How) -> (How, Moved) {
        if let Err(kill) = self.unless_ended(stay_silent(self.shared, &mut client, self.peer)).await {
            return self.obey(&kill, std::array::from_mut(&mut client)).await;
        }
        match self.shared.dial_failure.finish() {
            // No toxic's doing: not counted as one's.
            Finish::Reset => linger_zero(client.socket()),
            finish @ Finish::Close => {
                let close = Kill { finish, touched: None };
                self.obey(&close, std::array::from_mut(&mut client)).await;
            }
        }
        (why, Moved::default())
    }

    /// From the first byte to the end of both ways.
    async fn carry<S: Side>(&self, mut sides: [S; 2]) -> (How, Moved) {
        let mut moved = Moved::default();
        let outcome = self.forward(&mut sides, &mut moved).await;
        for (with, side) in [Peer::Client, Peer::Server].into_iter().zip(&mut sides) {
            if let Some(reason) = side.take_failure() {
                self.say(|| What::TlsFailed { with, reason });
            }
        }
        let how = match outcome {
            Err(kill) => self.obey(&kill, &mut sides).await.0,
            Ok(Outcome::End(Finish::Reset)) => {
                self.obey(&Kill { finish: Finish::Reset, touched: None }, &mut sides).await.0
            }
            // Not our doing: passed on as it came, and not counted.
            Ok(Outcome::Broken) => {
                sides.iter().map(Side::socket).for_each(linger_zero);
                How::Broken
            }
            Ok(Outcome::End(Finish::Close)) => match self.unless_ended(farewell(&mut sides)).await {
                Ok(()) => How::Closed,
                Err(kill) => self.obey(&kill, &mut sides).await.0,
            },
            Ok(Outcome::Finished) => How::Finished,
        };
        (how, moved)
    }
}

/// Tells both peers that their connections are closed; one that does not listen is not waited for long.
async fn farewell<S: Side>(sides: &mut [S; 2]) {
    let told = poll_fn(|context| {
        let [client, server] = sides;
        match (client.poll_farewell(context), server.poll_farewell(context)) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    });
    // Late or not: what comes next is the close.
    let _ = tokio::time::timeout(FAREWELL, told).await;
}

fn no_delay(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a socket could not be set to TCP_NODELAY");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{Proxy, ProxyConfig};

    /// Servers keep thousands of idle connections open.
    #[tokio::test]
    async fn a_task_that_serves_a_plain_connection_takes_less_than_4_kib() {
        let config = ProxyConfig {
            name: "link".into(),
            listen: "127.0.0.1:0".into(),
            upstream: "127.0.0.1:1".into(),
            seed: 0,
            protocol: None,
            udp: None,
            tls: None,
            dial_failure: None,
        };
        let proxy = Proxy::start(config).await.expect("a proxy");
        let client = TcpStream::connect(proxy.listen_address()).await.expect("a connection");
        let (signal, peer) = (Signal::default(), IpAddr::from([127, 0, 0, 1]));
        let served = Served { shared: &proxy.shared, peer, number: 1, signal: &signal };
        let bytes = std::mem::size_of_val(&served.serve(client));
        assert!(bytes < 4096, "{bytes} bytes");
    }
}
