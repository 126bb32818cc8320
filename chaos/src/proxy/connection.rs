//! One connection: the client's socket, the upstream's, and the two links between them.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use rand::Rng;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::DIAL_TIMEOUT;
use super::admission;
use super::event::{self, How, What, micros};
use super::link::{Link, Outcome, Silenced};
use super::signal::Signal;
use super::state::{Kill, Live, Shared};
use super::wire::Wire;
use crate::fault::Direction;
use crate::protocol::Way;
use crate::protocol::rule::Report;
use crate::seed;
use crate::toxic::effect::{Effect, Kind, Marks};
use crate::toxic::pipeline::{Finish, Pipeline};

/// Takes the connection off the list of live ones however its task ends.
struct Listed {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.live.lock().remove(&self.number);
        self.shared.ended.notify_waiters();
    }
}

/// Starts the task of an accepted connection, or resets it where a fault says so.
pub(super) fn spawn(shared: Arc<Shared>, client: TcpStream, peer: IpAddr, number: u64) {
    let signal = Arc::new(Signal::default());
    shared.live.lock().insert(number, Live { signal: signal.clone(), client: peer });
    let listed = Listed { shared: shared.clone(), number };
    // Looked at after listing: a fault that begins now finds the connection in one of the two ways.
    let resets =
        admission::resets(&shared.plan.borrow().effects, peer, |effect| draw(&shared, number, effect.id))
            .cloned();
    if let Some(effect) = resets {
        let kill = Kill { finish: Finish::Reset, touched: Some(effect.touched.clone()) };
        end(&shared, &kill, &[&client]);
        drop(client);
        say_ended(&shared, number, How::Reset, Moved::default(), Duration::ZERO);
        drop(listed);
        return;
    }
    tokio::spawn(async move {
        let began = Instant::now();
        let (how, moved) = serve(&shared, client, peer, number, &signal).await;
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
struct Moved {
    upstream: u64,
    downstream: u64,
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
fn end(shared: &Shared, kill: &Kill, sockets: &[&TcpStream]) {
    if kill.finish == Finish::Close {
        return;
    }
    for socket in sockets {
        linger_zero(socket);
    }
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

async fn serve(
    shared: &Arc<Shared>,
    mut client: TcpStream,
    peer: IpAddr,
    number: u64,
    signal: &Signal,
) -> (How, Moved) {
    let none = Moved::default();
    // Accepted sockets have it from their listener on Linux.
    if !cfg!(target_os = "linux") {
        no_delay(&client);
    }
    let dialled = tokio::select! {
        dialled = dial(shared, number) => dialled,
        kill = signal.ended() => {
            end(shared, &kill, &[&client]);
            return (how(kill.finish), none);
        }
    };
    let Some(mut server) = dialled else {
        tokio::select! {
            () = stay_silent(shared, &client, peer) => {}
            kill = signal.ended() => {
                end(shared, &kill, &[&client]);
                return (how(kill.finish), none);
            }
        }
        return (How::NoUpstream, none);
    };
    no_delay(&server);
    let mut moved = Moved::default();
    let how = match forward(shared, (&mut client, peer), &mut server, number, signal, &mut moved).await {
        Err(kill) => {
            end(shared, &kill, &[&client, &server]);
            how(kill.finish)
        }
        Ok(Outcome::End(Finish::Reset)) => {
            end(shared, &Kill { finish: Finish::Reset, touched: None }, &[&client, &server]);
            How::Reset
        }
        // Not our doing: passed on as it came, and not counted.
        Ok(Outcome::Broken) => {
            [&client, &server].into_iter().for_each(linger_zero);
            How::Broken
        }
        Ok(Outcome::End(Finish::Close)) => How::Closed,
        Ok(Outcome::Finished) => How::Finished,
    };
    (how, moved)
}

/// Runs both ways until both have ended, one ends the connection, or an order does.
async fn forward(
    shared: &Shared,
    (client, peer): (&mut TcpStream, IpAddr),
    server: &mut TcpStream,
    number: u64,
    signal: &Signal,
    moved: &mut Moved,
) -> Result<Outcome, Kill> {
    let silenced = Silenced::default();
    let marks = Arc::new(Marks::default());
    let wire = shared.protocol.map(|protocol| {
        Wire::new(protocol, seed::derive(shared.seed, &["wire", &shared.name, &number.to_string()]))
    });
    let link =
        |way| Link::new(shared, way, peer, pipeline(shared, number, way, &marks), &silenced, wire.as_ref());
    let (mut up, mut down) = (link(Direction::Upstream), link(Direction::Downstream));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (mut up_done, mut down_done) = (false, false);
    let ended = poll_fn(|context| {
        if let Poll::Ready(kill) = signal.poll_ended(context) {
            return Poll::Ready(Err(kill));
        }
        loop {
            if !up_done && let Poll::Ready(outcome) = up.poll(context, &mut from_client, &mut to_server) {
                if outcome != Outcome::Finished {
                    return Poll::Ready(Ok(outcome));
                }
                up_done = true;
            }
            if !down_done && let Poll::Ready(outcome) = down.poll(context, &mut from_server, &mut to_client) {
                if outcome != Outcome::Finished {
                    return Poll::Ready(Ok(outcome));
                }
                down_done = true;
            }
            if up_done && down_done {
                return Poll::Ready(Ok(Outcome::Finished));
            }
            say_done(shared, number, &marks, wire.as_ref());
            let Some(wire) = &wire else { return Poll::Pending };
            match wire.ending() {
                Some(Finish::Reset) => {
                    return Poll::Ready(Err(Kill { finish: Finish::Reset, touched: None }));
                }
                Some(Finish::Close) if down_done => return Poll::Ready(Ok(Outcome::End(Finish::Close))),
                _ => {}
            }
            // A message from the server can have made something for the way up, which was looked at before.
            if up_done || !wire.waits(Way::Upstream) {
                return Poll::Pending;
            }
        }
    })
    .await;
    say_done(shared, number, &marks, wire.as_ref());
    *moved = Moved { upstream: up.bytes(), downstream: down.bytes() };
    ended
}

/// What effects and rules did to the connection since the last call.
fn say_done(shared: &Shared, number: u64, marks: &Marks, wire: Option<&Wire>) {
    for (fault, kind) in marks.fresh() {
        shared.say(Some(number), || What::Struck { fault, kind });
    }
    for Report { rule, way, did } in wire.map(Wire::reports).unwrap_or_default() {
        let did = event::did(did);
        shared.say(Some(number), || What::Message { fault: rule, direction: way.into(), did });
    }
}

fn pipeline(shared: &Shared, number: u64, way: Direction, marks: &Arc<Marks>) -> Pipeline {
    let name = if way == Direction::Upstream { "upstream" } else { "downstream" };
    let rng = seed::stream(shared.seed, &["proxy", &shared.name, &number.to_string(), name]);
    Pipeline::new(way, rng, marks.clone())
}

async fn dial(shared: &Shared, number: u64) -> Option<TcpStream> {
    let upstream = shared.settings.lock().upstream.clone();
    let began = Instant::now();
    let reason = match tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(&upstream)).await {
        Ok(Ok(server)) => {
            let took_us = micros(began.elapsed());
            shared.say(Some(number), || What::Dialled { upstream, took_us });
            return Some(server);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", DIAL_TIMEOUT.as_secs()),
    };
    shared.totals.refused_dials.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(proxy = &*shared.name, upstream, reason, "failed to dial the upstream");
    shared.say(Some(number), || What::DialFailed { upstream, reason });
    None
}

/// A client whose upstream cannot be dialled is closed; behind a blackhole it is not told, and what it sends vanishes.
async fn stay_silent(shared: &Shared, client: &TcpStream, peer: IpAddr) {
    let silences = |effect: &&Arc<Effect>| {
        effect.kind == Kind::Silence && effect.covers(Direction::Downstream) && effect.clients.contain(peer)
    };
    let Some(effect) = shared.plan.borrow().effects.iter().find(silences).cloned() else { return };
    effect.touched.add_connection();
    let mut scratch = [0; 4096];
    loop {
        if client.readable().await.is_err() {
            return;
        }
        match client.try_read(&mut scratch) {
            Ok(0) => return,
            Ok(count) => effect.touched.add_swallowed(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn no_delay(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a socket could not be set to TCP_NODELAY");
    }
}
