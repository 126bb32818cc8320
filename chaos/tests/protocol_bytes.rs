//! Byte for byte: what no rule concerns leaves as it came and what one concerns is missing as a whole, however the two
//! ways of a connection are cut and mixed. What is not the protocol passes untouched and costs no memory.

mod protocol_support;

use std::slice;
use std::sync::Arc;

use chaos::protocol::fault::WireEvent;
use chaos::protocol::inspector::Inspector;
use chaos::protocol::pattern::{Glob, Pattern, Subject};
use chaos::protocol::rule::{Action, Commands, Match, Names, Rule};
use chaos::protocol::trigger::{Nth, Trigger};
use chaos::protocol::{LOOK_BYTES_MAX, Protocol, Way};
use proptest::prelude::*;
use proptest::sample::select;
use protocol_support::talk::{Cuts, Exchange, Streams, cuts, feed, talk};
use protocol_support::{counts, nats, pg, redis, rule};

fn any_talk() -> impl Strategy<Value = (Protocol, Vec<Exchange>)> {
    select(Protocol::ALL.to_vec()).prop_flat_map(|protocol| (Just(protocol), talk(protocol)))
}

fn watch(event: &str) -> Arc<Rule> {
    event.parse::<WireEvent>().expect("an event").watch(1, Nth::default())
}

/// What each of the messages of a talk is watched by, on both ways.
fn watches(protocol: Protocol) -> Vec<Arc<Rule>> {
    let events: &[&str] = match protocol {
        Protocol::Postgres => &["pg:queries", "pg:Parse", "pg:DataRow", "pg:ReadyForQuery"],
        Protocol::Redis => &["redis:commands"],
        Protocol::Nats => &["nats:PUB", "nats:HPUB", "nats:MSG", "nats:HMSG", "nats:PubAck", "nats:INFO"],
    };
    events.iter().map(|event| watch(event)).collect()
}

fn messages(talk: &[Exchange], way: Way) -> Vec<&Vec<u8>> {
    talk.iter()
        .flat_map(|exchange| if way == Way::Upstream { &exchange.up } else { &exchange.down })
        .collect()
}

/// The bytes without the messages that begin so.
fn without(messages: &[&Vec<u8>], dropped: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    messages.iter().filter(|message| !dropped(message)).copied().flatten().copied().collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes[..bytes.len().min(100)].windows(text.len()).any(|window| window == text.as_bytes())
}

/// Faults that leave a connection open, so that all of a talk goes through.
const LASTING: [&str; 9] = [
    "pg.error = { sqlstate = '40001', match = 'DELETE' }",
    "pg.slow = { delay = '1ms', of = 'reply', match = 'DELETE' }",
    "pg.drop-ack = { match = 'DELETE', then = 'silence' }",
    "redis.reply = { error = 'READONLY', every = 2 }",
    "redis.drop-reply = { command = 'GET', then = 'silence', nth = 2 }",
    "redis.slow = { delay = '1ms', of = 'reply' }",
    "nats.drop-puback = { subject = 'orders.>', share = 0.5 }",
    "nats.duplicate = { subject = 'lost.*' }",
    "nats.slow = { delay = '1ms' }",
];

/// Faults that end it.
const ENDING: [&str; 6] = [
    "pg.drop-ack = { match = 'DELETE' }",
    "pg.error = { sqlstate = '57P01', fatal = true }",
    "redis.reset = { nth = 3 }",
    "redis.drop-reply = { command = 'SET' }",
    "nats.reset = { subject = 'lost.*' }",
    "nats.err = { error = 'x', closes = true, nth = 2 }",
];

proptest! {
    #[test]
    fn without_rules_nothing_is_changed_and_nothing_kept_back((protocol, talk) in any_talk(), cuts in cuts()) {
        let streams = Streams::of(&talk);
        let mut inspector = Inspector::new(protocol, &[], 1);
        inspector.read_along();
        let through = streams.through(&mut inspector, &cuts);
        prop_assert_eq!(inspector.opaque(), None);
        prop_assert_eq!((through.held, through.holds, through.ended), (0, 0, false));
        prop_assert!(through.server == streams.up && through.client == streams.down);
        let read = inspector.messages();
        for way in [Way::Upstream, Way::Downstream] {
            let lengths: Vec<u64> = read.iter().filter(|m| m.way == way).map(|m| m.length).collect();
            let sent: Vec<u64> = messages(&talk, way).iter().map(|message| message.len() as u64).collect();
            prop_assert_eq!(lengths, sent);
        }
    }

    #[test]
    fn who_only_watches_changes_nothing((protocol, talk) in any_talk(), cuts in cuts()) {
        let streams = Streams::of(&talk);
        let rules = watches(protocol);
        let through = streams.through(&mut Inspector::new(protocol, &rules, 1), &cuts);
        prop_assert_eq!((through.holds, through.ended), (0, false));
        prop_assert!(through.held <= 2 * LOOK_BYTES_MAX, "{} bytes are kept", through.held);
        prop_assert!(through.server == streams.up && through.client == streams.down);
        // What was counted does not depend on the cuts either.
        let whole = watches(protocol);
        streams.through(&mut Inspector::new(protocol, &whole, 1), &[(true, usize::MAX / 2)]);
        let all = |rules: &[Arc<Rule>]| rules.iter().map(|rule| counts(rule)).collect::<Vec<_>>();
        prop_assert_eq!(all(&rules), all(&whole));
    }

    #[test]
    fn dropped_requests_are_missing_and_nothing_else((protocol, talk) in any_talk(), cuts in cuts()) {
        let (matches, word) = match protocol {
            Protocol::Postgres => (Match::Statement(Pattern::keyword("DELETE").expect("a pattern")), "DELETE"),
            Protocol::Redis => {
                (Match::Command(Commands { names: Names::These(vec!["SET".into()]), key: Glob::any() }), "SET")
            }
            Protocol::Nats => (Match::Publish("lost.*".parse().expect("a subject")), "PUB lost.a"),
        };
        let rule = Rule::new(1, protocol, matches, Trigger::always(), Action::Drop);
        let streams = Streams::of(&talk);
        let through = streams.through(&mut Inspector::new(protocol, slice::from_ref(&rule), 1), &cuts);
        prop_assert!(through.held <= 2 * LOOK_BYTES_MAX, "{} bytes are kept", through.held);
        let mut parsed = false;
        let left: Vec<u8> = messages(&talk, Way::Upstream)
            .into_iter()
            .filter(|message| match protocol {
                Protocol::Postgres => {
                    parsed = if message[0] == b'P' { contains(message, "DELETE") } else { parsed };
                    !(message[0] == b'Q' && contains(message, "DELETE") || message[0] == b'E' && parsed)
                }
                _ => !contains(message, word),
            })
            .flatten()
            .copied()
            .collect();
        prop_assert!(through.server == left, "{} bytes instead of {}", through.server.len(), left.len());
        prop_assert!(through.client == streams.down);
        prop_assert_eq!(rule.counters.read().swallowed_bytes, (streams.up.len() - left.len()) as u64);
    }

    #[test]
    fn dropped_deliveries_are_missing_and_nothing_else(talk in talk(Protocol::Nats), cuts in cuts()) {
        let matches = Match::Delivery("lost.*".parse::<Subject>().expect("a subject"));
        let rule = Rule::new(1, Protocol::Nats, matches, Trigger::always(), Action::Drop);
        let streams = Streams::of(&talk);
        let through = streams.through(&mut Inspector::new(Protocol::Nats, &[rule], 1), &cuts);
        let left = without(&messages(&talk, Way::Downstream), |message| contains(message, "MSG lost."));
        prop_assert!(through.client == left && through.server == streams.up);
    }

    #[test]
    fn what_a_fault_does_depends_on_no_cut(
        which in select(LASTING.to_vec()),
        (cuts, talks) in (cuts(), (talk(Protocol::Postgres), talk(Protocol::Redis), talk(Protocol::Nats))),
    ) {
        let talk = match which {
            which if which.starts_with("pg") => talks.0,
            which if which.starts_with("redis") => talks.1,
            _ => talks.2,
        };
        let streams = Streams::of(&talk);
        let run = |cuts: &Cuts| {
            let rule = rule(which);
            let through = streams.through(&mut Inspector::new(rule.protocol, slice::from_ref(&rule), 1), cuts);
            assert!(through.held <= 2 * LOOK_BYTES_MAX);
            (through.server, through.client, through.holds, rule.counters.read())
        };
        let (pieces, whole) = (run(&cuts), run(&vec![(true, usize::MAX / 2)]));
        prop_assert!(pieces == whole, "{} {:?} {:?}", which, pieces.3, whole.3);
    }

    #[test]
    fn a_fault_that_ends_a_connection_lets_out_only_what_came_before(
        which in select(ENDING.to_vec()),
        (cuts, talks) in (cuts(), (talk(Protocol::Postgres), talk(Protocol::Redis), talk(Protocol::Nats))),
    ) {
        let rule = rule(which);
        let talk = match rule.protocol {
            Protocol::Postgres => talks.0,
            Protocol::Redis => talks.1,
            Protocol::Nats => talks.2,
        };
        let streams = Streams::of(&talk);
        let through = streams.through(&mut Inspector::new(rule.protocol, slice::from_ref(&rule), 1), &cuts);
        let acted = rule.counters.read().acted;
        prop_assert_eq!(through.ended, acted > 0);
        prop_assert!(acted <= 1, "it acted {} times on one connection", acted);
        if !through.ended {
            prop_assert!(through.server == streams.up && through.client == streams.down);
        } else if !which.contains("57P01") {
            // What closes waits for the end of a delivery, and the client may go on meanwhile.
            prop_assert!(which.contains("closes") || streams.up.starts_with(&through.server));
            let answer = through.client.len() - through.injected.first().map_or(0, |_| "-ERR 'x'\r\n".len());
            prop_assert!(streams.down.starts_with(&through.client[..answer]));
        }
    }

    #[test]
    fn an_error_stands_between_two_messages(talk in talk(Protocol::Nats), cuts in cuts()) {
        let rule = rule("nats.err = { error = 'x', subject = 'lost.*' }");
        let streams = Streams::of(&talk);
        let through = streams.through(&mut Inspector::new(Protocol::Nats, slice::from_ref(&rule), 1), &cuts);
        let error = b"-ERR 'x'\r\n";
        let mut ends = vec![0];
        for message in messages(&talk, Way::Downstream) {
            ends.push(ends[ends.len() - 1] + message.len());
        }
        let mut client = through.client.clone();
        for (before, at) in through.injected.iter().enumerate().rev() {
            prop_assert!(ends.contains(&(at - before * error.len())), "an error in the middle of a message");
            prop_assert_eq!(client.drain(*at..at + error.len()).collect::<Vec<u8>>(), error);
        }
        prop_assert!(client == streams.down);
        prop_assert_eq!(through.injected.len() as u64, counts(&rule).1);
    }

    #[test]
    fn what_is_not_the_protocol_passes_untouched(
        protocol in select(Protocol::ALL.to_vec()),
        (up, down) in (prop::collection::vec(any::<u8>(), 0..400), prop::collection::vec(any::<u8>(), 0..400)),
        cuts in cuts(),
        watched in any::<bool>(),
    ) {
        let rules = if watched { watches(protocol) } else { vec![] };
        let mut inspector = Inspector::new(protocol, &rules, 1);
        let through = feed(&mut inspector, &up, &down, |_| down.len(), &cuts);
        prop_assert!(through.server == up && through.client == down);
        prop_assert_eq!(inspector.held_bytes(), 0);
    }

    #[test]
    fn a_talk_that_breaks_off_into_garbage_passes_untouched(
        (protocol, talk) in any_talk(),
        cuts in cuts(),
        watched in any::<bool>(),
        damage in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let Streams { mut up, mut down, .. } = Streams::of(&talk);
        for (upstream, at, byte) in damage {
            let stream = if upstream { &mut up } else { &mut down };
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let rules = if watched { watches(protocol) } else { vec![] };
        let mut inspector = Inspector::new(protocol, &rules, 1);
        let through = feed(&mut inspector, &up, &down, |_| down.len(), &cuts);
        prop_assert!(through.server == up && through.client == down);
        prop_assert!(through.held <= 2 * LOOK_BYTES_MAX);
        // Every fault at once: whatever it makes of this, it does not fall over and keeps to its bounds.
        let all: Vec<Arc<Rule>> = LASTING.iter().chain(&ENDING).map(|toml| rule(toml)).collect();
        let through = feed(&mut Inspector::new(protocol, &all, 1), &up, &down, |_| down.len(), &cuts);
        prop_assert!(through.held <= 2 * LOOK_BYTES_MAX);
    }
}

#[test]
fn an_opaque_connection_keeps_nothing_back() {
    for (protocol, garbage) in [
        (Protocol::Postgres, &b"GET / HTTP/1.1\r\n"[..]),
        (Protocol::Redis, b"\xff\xff"),
        (Protocol::Nats, b"HELLO\r\n"),
    ] {
        let mut inspector = Inspector::new(protocol, &watches(protocol), 1);
        let first = feed(&mut inspector, garbage, b"", |_| 0, &[(true, 64)]);
        assert_eq!(first.server, garbage);
        assert!(inspector.opaque().is_some());
        // Requests that a rule would have looked at.
        let later =
            [pg::query("COMMIT"), redis::command(&["SET", "a", "1"]), nats::publish("a", "", "x")].concat();
        let through = feed(&mut inspector, &later, &later, |_| later.len(), &[(true, 7), (false, 3)]);
        assert_eq!(through.held, 0);
        assert!(through.server == later && through.client == later);
    }
}
