//! A peer that never stops asking costs an inspector a bounded amount of memory, whatever it asks.

mod protocol_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use chaos::protocol::inspector::Inspector;
use chaos::protocol::{Protocol, Way};
use protocol_support::{nats, pg, redis};
use tokio::time::Instant;

thread_local! {
    /// Bytes that this thread has allocated and not given back.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize, sign: isize) {
    LIVE.set(LIVE.get() + sign * isize::try_from(bytes).unwrap_or(isize::MAX));
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that an inspector took while `rounds` messages came, beyond what a message itself takes.
fn taken(
    protocol: Protocol,
    begin: &[u8],
    way: Way,
    rounds: usize,
    message: impl Fn(usize) -> Vec<u8>,
) -> isize {
    let rules = match protocol {
        Protocol::Postgres => "pg.error = { sqlstate = '40001', nth = 1000000000 }",
        Protocol::Redis => "redis.reply = { error = 'OOM', nth = 1000000000 }",
        Protocol::Nats => "nats.drop-puback = { nth = 1000000000 }",
    };
    let rules = [protocol_support::rule(rules)];
    let mut out = Vec::with_capacity(64);
    let now = Instant::now();
    let before = LIVE.get();
    let mut inspector = Inspector::new(protocol, &rules, 1);
    inspector.feed(Way::Upstream, Bytes::copy_from_slice(begin), now, &mut out);
    let mut most = 0;
    for round in 0..rounds {
        inspector.feed(way, Bytes::from(message(round)), now, &mut out);
        out.clear();
        most = most.max(LIVE.get() - before);
    }
    most
}

const MIB: isize = 1 << 20;

#[test]
fn requests_without_replies_are_bounded() {
    let ping = redis::command(&["PING"]);
    assert!(taken(Protocol::Redis, b"", Way::Upstream, 200_000, |_| ping.clone()) < 4 * MIB);
    let publish = |n| nats::publish("orders.created", &format!("_INBOX.{n:0200}"), "x");
    assert!(taken(Protocol::Nats, b"", Way::Upstream, 50_000, publish) < 8 * MIB);
    let query = pg::query("SELECT 1");
    assert!(taken(Protocol::Postgres, &pg::start(), Way::Upstream, 200_000, |_| query.clone()) < 4 * MIB);
    let parse = |n: usize| pg::parse(&format!("s{n}"), &"x".repeat(5000));
    assert!(taken(Protocol::Postgres, &pg::start(), Way::Upstream, 20_000, parse) < 2 * MIB);
    let bind = |n: usize| [pg::bind(&format!("p{n}"), "s"), pg::message(b'H', b"")].concat();
    assert!(taken(Protocol::Postgres, &pg::start(), Way::Upstream, 20_000, bind) < 4 * MIB);
}

#[test]
fn a_message_without_end_is_bounded() {
    let piece = |_| vec![b'x'; 4096];
    for begin in ["*2\r\n$3\r\nSET\r\n$999999999999\r\n", "SET ", "*1000000000\r\n"] {
        let taken = taken(Protocol::Redis, begin.as_bytes(), Way::Upstream, 5000, piece);
        assert!(taken < MIB, "{begin:?} took {taken} bytes");
    }
    for begin in ["PUB a 1000000000\r\n", "PUB ", "SUB "] {
        let taken = taken(Protocol::Nats, begin.as_bytes(), Way::Upstream, 5000, piece);
        assert!(taken < MIB, "{begin:?} took {taken} bytes");
    }
    let large = [&pg::start()[..], b"Q\x7f\xff\xff\xffSELECT"].concat();
    assert!(taken(Protocol::Postgres, &large, Way::Upstream, 5000, piece) < MIB);
}

#[test]
fn garbage_is_bounded() {
    for protocol in Protocol::ALL {
        for way in [Way::Upstream, Way::Downstream] {
            let noise = |n: usize| n.to_le_bytes().repeat(512);
            let taken = taken(protocol, b"", way, 5000, noise);
            assert!(taken < MIB, "{protocol:?} {way:?} took {taken} bytes");
        }
    }
}
