//! What the fuzz targets have in common: a connection with an inspector, driven by the bytes of an input.
//!
//! The first byte chooses the rules; then come [`pieces`], each with its way and its cuts. So the fuzzer chooses the cuts,
//! and short inputs reach beyond every bound.

pub mod again;
pub mod api;
pub mod datagrams;
pub mod harmless;
pub mod metrics;
pub mod mutation;
pub mod pieces;
pub mod stream;
pub mod toxics;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use chaos::protocol::fault::{WireEvent, WireFault};
use chaos::protocol::inspector::{Inspector, Output};
use chaos::protocol::rule::Rule;
use chaos::protocol::trigger::Nth;
use chaos::protocol::{LOOK_BYTES_MAX, Protocol, Way};
use tokio::time::Instant;

const FAULTS: [&str; 18] = [
    "pg.drop-ack = {}",
    "pg.drop-ack = { match = '/^/', then = 'silence', every = 2 }",
    "pg.error = { sqlstate = '40001' }",
    "pg.error = { sqlstate = '57P01', fatal = true, nth = 2 }",
    "pg.slow = { delay = '1s', of = 'reply' }",
    "pg.reset = { match = 'DELETE' }",
    "redis.reply = { error = 'READONLY' }",
    "redis.reply = { error = 'LOADING', every = 2 }",
    "redis.drop-reply = { command = 'GET', nth = 2 }",
    "redis.drop-reply = { then = 'silence', after_bytes = 100 }",
    "redis.slow = { delay = '1s', of = 'reply', share = 0.5 }",
    "redis.reset = { key = 'a*' }",
    "nats.drop-puback = {}",
    "nats.drop = { subject = 'a.>', every = 2 }",
    "nats.duplicate = {}",
    "nats.err = { error = 'x', subject = 'a' }",
    "nats.err = { error = 'x', closes = true, nth = 2 }",
    "nats.reset = { subject = '*.b' }",
];

const EVENTS: [&str; 9] = [
    "pg:queries",
    "pg:DataRow",
    "pg:ReadyForQuery",
    "redis:commands",
    "redis:SCRIPT LOAD",
    "nats:PUB",
    "nats:MSG a.>",
    "nats:PubAck",
    "nats:INFO",
];

#[derive(serde::Deserialize)]
struct Scenario {
    inject: WireFault,
}

/// Text of a scenario's fault.
pub fn fault(text: &str) -> Result<WireFault, toml::de::Error> {
    toml::from_str::<Scenario>(&format!("inject.{text}")).map(|scenario| scenario.inject)
}

struct Known {
    faults: Vec<WireFault>,
    events: Vec<WireEvent>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| Known {
    faults: FAULTS.iter().map(|text| fault(text).expect("a fault")).collect(),
    events: EVENTS.iter().map(|text| text.parse().expect("an event")).collect(),
});

/// What the first byte stands for: no rules, watching, one fault, or all of them at once.
fn rules(protocol: Protocol, choice: u8) -> (Vec<Arc<Rule>>, bool) {
    let faults: Vec<&WireFault> = KNOWN.faults.iter().filter(|fault| fault.protocol() == protocol).collect();
    let events = KNOWN.events.iter().filter(|event| event.protocol() == protocol);
    match usize::from(choice) % (faults.len() + 3) {
        0 => (vec![], false),
        1 => (events.zip(0..).map(|(event, id)| event.watch(id, Nth::default())).collect(), false),
        2 => (faults.iter().zip(0..).map(|(fault, id)| fault.rule(id)).collect(), true),
        one => (vec![faults[one - 3].rule(0)], true),
    }
}

struct Wire {
    inspector: Inspector,
    /// Bytes that came and bytes that were passed on, for each way.
    came: [Vec<u8>; 2],
    left: [Vec<u8>; 2],
    ended: bool,
    out: Vec<Output>,
}

fn index(way: Way) -> usize {
    usize::from(way == Way::Downstream)
}

impl Wire {
    fn feed(&mut self, way: Way, bytes: &[u8]) {
        if self.ended {
            return;
        }
        self.came[index(way)].extend_from_slice(bytes);
        self.inspector.feed(way, Bytes::copy_from_slice(bytes), Instant::now(), &mut self.out);
        self.take();
        let held = self.inspector.held_bytes();
        assert!(held <= 2 * LOOK_BYTES_MAX, "{held} bytes are kept");
        assert!(self.inspector.opaque().is_none() || held == 0, "kept although nothing can be seen");
    }

    fn take(&mut self) {
        for output in self.out.drain(..) {
            assert!(!self.ended, "something follows the end");
            match output {
                Output::Forward { way, bytes } => {
                    assert!(!bytes.is_empty(), "nothing is sent");
                    self.left[index(way)].extend_from_slice(&bytes);
                }
                Output::Reset | Output::Close => self.ended = true,
                Output::Inject { .. } | Output::Hold { .. } | Output::Report(_) => {}
            }
        }
    }
}

/// Drives an inspector with an input, and panics where it breaks a promise.
pub fn inspect(protocol: Protocol, input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let (rules, acts) = rules(protocol, *choice);
    let mut inspector = Inspector::new(protocol, &rules, 1);
    inspector.read_along();
    let mut wire =
        Wire { inspector, came: [vec![], vec![]], left: [vec![], vec![]], ended: false, out: vec![] };
    for piece in pieces::pieces(rest) {
        for bytes in piece.bytes.chunks(piece.cut) {
            wire.feed(piece.way, bytes);
            if rules.is_empty() {
                assert_eq!(wire.inspector.held_bytes(), 0, "kept although there is no rule");
            }
        }
    }
    for way in [Way::Upstream, Way::Downstream] {
        wire.inspector.end(way, &mut wire.out);
        wire.take();
        let (came, left) = (&wire.came[index(way)], &wire.left[index(way)]);
        if !acts {
            assert!(came == left, "{} bytes became {}", came.len(), left.len());
        }
        assert!(left.len() <= came.len(), "{} bytes became {}", came.len(), left.len());
    }
    // What waits when a rule ends the connection goes nowhere.
    assert!(wire.ended || wire.inspector.held_bytes() == 0, "kept although both ways ended");
    let read: u64 = wire.inspector.messages().iter().map(|message| message.length).sum();
    assert!(read as usize <= wire.came.iter().map(Vec::len).sum(), "messages are longer than what came");
}
