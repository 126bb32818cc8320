//! Conversations that are valid in their protocol, drawn at random, and the ways of cutting them into pieces.

use bytes::Bytes;
use chaos::protocol::inspector::{Inspector, Output};
use chaos::protocol::{LOOK_BYTES_MAX, Protocol, Way};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{nats, pg, redis};

/// What a client asks and what the server answers to it, message by message.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub up: Vec<Vec<u8>>,
    pub down: Vec<Vec<u8>>,
}

/// Pieces to cut into: the way that is tried first, and a size in bytes.
pub type Cuts = Vec<(bool, usize)>;

pub fn cuts() -> impl Strategy<Value = Cuts> {
    let size = prop_oneof![4 => 1usize..40, 2 => 1usize..2000, 1 => 10_000usize..60_000];
    prop::collection::vec((any::<bool>(), size), 1..60)
}

/// Messages that are mostly short and sometimes longer than what is looked at.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z ]{0,40}",
        1 => (LOOK_BYTES_MAX - 40..LOOK_BYTES_MAX + 40).prop_map(|size| "x".repeat(size)),
        1 => (20_000usize..50_000).prop_map(|size| "y\r\n".repeat(size / 3)),
    ]
}

pub fn talk(protocol: Protocol) -> BoxedStrategy<Vec<Exchange>> {
    let exchange = match protocol {
        Protocol::Postgres => postgres().boxed(),
        Protocol::Redis => redis().boxed(),
        Protocol::Nats => nats().boxed(),
    };
    prop::collection::vec(exchange, 1..12)
        .prop_map(move |mut exchanges| {
            exchanges.insert(0, begin(protocol));
            exchanges
        })
        .boxed()
}

fn begin(protocol: Protocol) -> Exchange {
    match protocol {
        Protocol::Postgres => Exchange {
            up: vec![pg::ssl(), pg::start()],
            down: [vec![b"N".to_vec()], split_pg(&pg::started())].concat(),
        },
        Protocol::Redis => {
            Exchange { up: vec![redis::command(&["PING"])], down: vec![b"+PONG\r\n".to_vec()] }
        }
        Protocol::Nats => {
            Exchange { up: vec![b"CONNECT {}\r\n".to_vec()], down: vec![nats::info(""), b"+OK\r\n".to_vec()] }
        }
    }
}

fn split_pg(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = vec![];
    while !bytes.is_empty() {
        let size = 1 + u32::from_be_bytes(bytes[1..5].try_into().expect("a length")) as usize;
        messages.push(bytes[..size].to_vec());
        bytes = &bytes[size..];
    }
    messages
}

fn postgres() -> impl Strategy<Value = Exchange> {
    let verb = prop_oneof![Just("SELECT"), Just("DELETE"), Just("COMMIT --")];
    (verb, text(), 0usize..4, any::<bool>(), any::<bool>()).prop_map(|(verb, text, rows, simple, fails)| {
        let statement = format!("{verb} {text}");
        let result = match fails {
            true => vec![pg::error("22012")],
            false => [vec![pg::message(b'D', text.as_bytes()); rows], vec![pg::complete(verb)]].concat(),
        };
        let ready = vec![pg::ready(b'I')];
        match simple {
            true => Exchange { up: vec![pg::query(&statement)], down: [result, ready].concat() },
            false => Exchange {
                up: vec![pg::parse("s", &statement), pg::bind("", "s"), pg::execute(""), pg::sync()],
                down: [vec![pg::parse_complete(), pg::bind_complete()], result, ready].concat(),
            },
        }
    })
}

fn redis() -> impl Strategy<Value = Exchange> {
    let reply = prop_oneof![
        Just(b"+OK\r\n".to_vec()),
        Just(b"-ERR no\r\n".to_vec()),
        Just(b"*2\r\n:1\r\n*1\r\n$-1\r\n".to_vec()),
        Just(b"%1\r\n+a\r\n~1\r\n#t\r\n".to_vec()),
        text().prop_map(|text| redis::bulk(&text)),
    ];
    let name = prop_oneof![Just("SET"), Just("GET"), Just("EVALSHA")];
    (name, text(), text(), reply, any::<bool>()).prop_map(|(name, key, value, reply, line)| match line {
        true => Exchange { up: vec![format!("{name} key 1\r\n").into_bytes()], down: vec![reply] },
        false => Exchange { up: vec![redis::command(&[name, &key, &value])], down: vec![reply] },
    })
}

fn nats() -> impl Strategy<Value = Exchange> {
    let subject = prop_oneof![Just("orders.created"), Just("lost.a"), Just("audit")];
    (subject, text(), any::<u64>(), any::<bool>(), any::<bool>()).prop_map(
        |(subject, text, seq, headers, delivers)| {
            let inbox = format!("_INBOX.{seq}");
            let up = if headers {
                nats::hpub(subject, &inbox, &text)
            } else {
                nats::publish(subject, &inbox, &text)
            };
            let delivery =
                if headers { nats::hmsg(subject, "", &text) } else { nats::msg(subject, "r", &text) };
            let answer = if delivers { delivery } else { nats::ack(&inbox, seq) };
            Exchange { up: vec![up], down: vec![answer, b"PING\r\n".to_vec()] }
        },
    )
}

/// What went through an inspector.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Through {
    pub server: Vec<u8>,
    pub client: Vec<u8>,
    /// How many bytes of the client's way had been passed on when a rule put something between them.
    pub injected: Vec<usize>,
    pub holds: usize,
    pub ended: bool,
    /// The most that was kept back at a time, in bytes.
    pub held: usize,
}

impl Through {
    pub fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Forward { way: Way::Upstream, bytes }
                | Output::Inject { way: Way::Upstream, bytes } => {
                    self.server.extend_from_slice(&bytes);
                }
                Output::Forward { way: Way::Downstream, bytes } => self.client.extend_from_slice(&bytes),
                Output::Inject { way: Way::Downstream, bytes } => {
                    self.injected.push(self.client.len());
                    self.client.extend_from_slice(&bytes);
                }
                Output::Hold { .. } => self.holds += 1,
                Output::Reset | Output::Close => self.ended = true,
                Output::Report(_) => {}
            }
        }
    }
}

/// Feeds two streams in pieces. `owed` says how much of the second may be sent once so much of the first was.
pub fn feed(
    inspector: &mut Inspector,
    up: &[u8],
    down: &[u8],
    owed: impl Fn(usize) -> usize,
    cuts: &[(bool, usize)],
) -> Through {
    let mut through = Through::default();
    let now = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    for (upstream_first, size) in cuts.iter().cycle() {
        let may = owed(sent).max(answered);
        let upstream = if *upstream_first { sent < up.len() } else { answered == may };
        let (way, stream, at, end) = match upstream {
            true => (Way::Upstream, up, &mut sent, up.len()),
            false => (Way::Downstream, down, &mut answered, may),
        };
        let piece = &stream[*at..end.min(*at + size)];
        *at += piece.len();
        let mut out = vec![];
        inspector.feed(way, Bytes::copy_from_slice(piece), now, &mut out);
        through.take(out);
        through.held = through.held.max(inspector.held_bytes());
        if through.ended || (sent == up.len() && answered == down.len()) {
            break;
        }
    }
    for way in [Way::Upstream, Way::Downstream] {
        let mut out = vec![];
        inspector.end(way, &mut out);
        through.take(out);
    }
    through
}

/// Both streams of a conversation, and the places of [`feed`] at which the server may go on.
pub struct Streams {
    pub up: Vec<u8>,
    pub down: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Streams {
    pub fn of(talk: &[Exchange]) -> Streams {
        let mut streams = Streams { up: vec![], down: vec![], ends: vec![(0, 0)] };
        for exchange in talk {
            streams.up.extend(exchange.up.concat());
            streams.down.extend(exchange.down.concat());
            streams.ends.push((streams.up.len(), streams.down.len()));
        }
        streams
    }

    pub fn through(&self, inspector: &mut Inspector, cuts: &[(bool, usize)]) -> Through {
        let owed = |sent| self.ends.iter().rev().find(|(up, _)| *up <= sent).map_or(0, |(_, down)| *down);
        feed(inspector, &self.up, &self.down, owed, cuts)
    }
}
