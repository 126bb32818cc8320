//! NATS's protocol between a client and a server that are written down byte for byte: what each fault does.

mod protocol_support;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use chaos::protocol::inspector::Output;
use chaos::protocol::rule::Rule;
use chaos::protocol::{LOOK_BYTES_MAX, Opaque, Protocol, Way};
use protocol_support::nats::{ack, hmsg, hpub, info, msg, publish};
use protocol_support::{Wire, counts, rule};

const CONNECT: &str = "CONNECT {\"verbose\":false}\r\nPING\r\n";

/// A session that has started.
fn session(rules: &[Arc<Rule>]) -> Wire {
    let mut wire = Wire::new(Protocol::Nats, rules);
    wire.down(info("")).up(CONNECT).down("PONG\r\n");
    assert_eq!(wire.server_got(), CONNECT.as_bytes());
    assert_eq!(wire.client_got(), [info(""), b"PONG\r\n".to_vec()].concat());
    wire.read();
    wire
}

#[test]
fn messages_are_told_apart_and_acknowledgements_find_their_publishes() {
    let mut wire = Wire::new(Protocol::Nats, &[]);
    wire.down(info("")).up(CONNECT).down("PONG\r\n");
    wire.up("SUB orders.> 1\r\nunsub 1 5\r\n");
    wire.up([publish("orders.created", "_INBOX.a", "{}"), hpub("orders.paid", "", "x")].concat());
    wire.down([ack("_INBOX.a", 7), msg("orders.created", "r", "{}"), hmsg("orders.paid", "", "x")].concat());
    wire.down("+OK\r\n-ERR 'Slow Consumer'\r\nPING\r\n").up("PONG\r\n");
    assert_eq!(
        wire.read(),
        [
            "INFO",
            "CONNECT",
            "PING",
            "PONG",
            "SUB orders.>",
            "UNSUB",
            "PUB orders.created",
            "HPUB orders.paid",
            "PubAck orders.created",
            "MSG orders.created",
            "HMSG orders.paid",
            "+OK",
            "-ERR",
            "PING",
            "PONG",
        ]
    );
    assert_eq!(wire.inspector.opaque(), None);
}

#[test]
fn a_message_is_stored_and_its_publisher_never_hears_of_it() {
    let rule = rule("nats.drop-puback = { subject = 'orders.>' }");
    let mut wire = session(slice::from_ref(&rule));
    let sent = [
        publish("orders.created", "_INBOX.a", "{}"),
        publish("audit", "_INBOX.b", "{}"),
        hpub("orders.paid", "_INBOX.c", "{}"),
    ];
    wire.up(sent.concat());
    assert_eq!(wire.server_got(), sent.concat());
    wire.down([ack("_INBOX.c", 3), ack("_INBOX.b", 2), ack("_INBOX.a", 1)].concat());
    assert_eq!(wire.client_got(), ack("_INBOX.b", 2));
    assert_eq!(counts(&rule), (2, 2, 0, 0));
    let lost = ack("_INBOX.a", 1).len() + ack("_INBOX.c", 3).len();
    assert_eq!(rule.counters.read().swallowed_bytes, lost as u64);
}

#[test]
fn what_jetstream_writes_is_an_acknowledgement_and_nothing_else_is() {
    let is_ack = |body: &str| {
        let rule = rule("nats.drop-puback = {}");
        let mut wire = session(slice::from_ref(&rule));
        wire.up(publish("orders.created", "_INBOX.a", "{}"));
        let answer = msg("_INBOX.a", "", body);
        // Cut within the body, so that nothing is decided by what happens to be there.
        wire.down(&answer[..answer.len() - 3]).down(&answer[answer.len() - 3..]);
        assert!(wire.client_got().is_empty() == (counts(&rule).1 == 1), "{body}");
        counts(&rule).1 == 1
    };
    for body in [
        r#"{"stream":"ORDERS", "seq":7}"#,
        r#"{"stream":"ORDERS","seq":7,"duplicate": true}"#,
        r#"{"stream":"ORDERS","domain":"hub","seq":7}"#,
        r#"{"stream":"ORDERS","seq":9,"batch":"b1","count":3}"#,
        r#"{"stream":"COUNTS","seq":9,"val":"12"}"#,
        r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"},"stream":"ORDERS","seq":0}"#,
        r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#,
    ] {
        assert!(is_ack(body), "{body}");
    }
    for body in [
        "",
        "+ACK",
        r#"{"ok":true}"#,
        r#"{"stream":"ORDERS"}"#,
        r#" {"stream":"ORDERS","seq":7}"#,
        r#"["stream","seq"]"#,
        r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404,"err_code":10059}}"#,
        r#"{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","stream":"ORDERS","message":{"seq":7}}"#,
    ] {
        assert!(!is_ack(body), "{body}");
    }
}

#[test]
fn an_acknowledgement_needs_a_publish_that_asked_for_one() {
    let rule = rule("nats.drop-puback = {}");
    let mut wire = session(slice::from_ref(&rule));
    // A consumer's own message, somebody else's inbox, an answer that came already, no responders.
    wire.up(publish("orders.created", "", "{}")).up(publish("orders.created", "_INBOX.a", "{}"));
    let headers = "NATS/1.0 503\r\n\r\n";
    let nobody = format!("HMSG _INBOX.a 1 {0} {0}\r\n{headers}\r\n", headers.len());
    let passed = [msg("orders.created", "_INBOX.a", "{}"), ack("_INBOX.b", 1), nobody.into_bytes()].concat();
    wire.down(&passed).down(ack("_INBOX.a", 1));
    assert_eq!(wire.client_got(), [passed, ack("_INBOX.a", 1)].concat());
    assert_eq!(counts(&rule), (0, 0, 0, 0));
}

#[test]
fn of_publishes_that_nobody_answers_the_oldest_is_forgotten() {
    let rule = rule("nats.drop-puback = {}");
    let mut wire = session(slice::from_ref(&rule));
    for number in 0..10_000 {
        wire.up(publish("orders.created", &format!("_INBOX.{number}"), "{}"));
    }
    wire.down(ack("_INBOX.0", 1));
    assert_eq!((wire.client_got(), counts(&rule)), (ack("_INBOX.0", 1), (0, 0, 0, 0)));
    wire.down(ack("_INBOX.9999", 1));
    assert_eq!((wire.client_got(), counts(&rule)), (vec![], (1, 1, 0, 0)));
}

#[test]
fn a_delivery_is_lost() {
    let rule = rule("nats.drop = { subject = 'orders.*' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(publish("orders.created", "_INBOX.a", "{}"));
    let lost = [msg("orders.created", "r", "lost"), hmsg("orders.paid", "", "lost")];
    wire.down([&lost[0][..], &msg("audit", "", "kept"), &lost[1], &ack("_INBOX.a", 1)].concat());
    assert_eq!(wire.client_got(), [msg("audit", "", "kept"), ack("_INBOX.a", 1)].concat());
    assert_eq!(counts(&rule), (2, 2, 0, 0));
    assert_eq!(rule.counters.read().swallowed_bytes, lost.concat().len() as u64);
}

#[test]
fn a_delivery_comes_twice() {
    let rule = rule("nats.duplicate = { subject = 'orders.>', nth = [1, 3] }");
    let mut wire = session(slice::from_ref(&rule));
    let (one, two, three) = (msg("orders.a", "r", "1"), msg("orders.b", "", "2"), hmsg("orders.c", "r", "3"));
    for byte in [&one[..], &two, &three, &msg("audit", "", "x")].concat() {
        wire.down([byte]);
    }
    let got = [&one[..], &one, &two, &three, &three, &msg("audit", "", "x")].concat();
    assert_eq!(wire.client_got(), got);
    assert_eq!(counts(&rule), (3, 2, 0, 0));
}

#[test]
fn a_delivery_that_is_too_large_to_keep_comes_once() {
    let large = msg("orders.a", "", &"x".repeat(8 * 1024 * 1024));
    let disguised = format!("MSG orders.a 1 r 5 0 {}\r\n", 9 * 1024 * 1024);
    let long = format!("MSG orders.{} 1 {}\r\n", "a".repeat(LOOK_BYTES_MAX), 5);
    for (line, body) in
        [("", large), (disguised.as_str(), vec![b'x'; 9 << 20]), (long.as_str(), b"12345".to_vec())]
    {
        let rule = rule("nats.duplicate = {}");
        let mut wire = session(slice::from_ref(&rule));
        let end = if line.is_empty() { "" } else { "\r\n" };
        let sent = [line.as_bytes(), &body, end.as_bytes()].concat();
        for chunk in sent.chunks(64 * 1024) {
            wire.down(chunk);
        }
        assert_eq!(wire.client_got().len(), sent.len());
        assert_eq!((counts(&rule), wire.inspector.opaque()), ((1, 0, 1, 0), None));
    }
    let rule = rule("nats.duplicate = {}");
    let mut wire = session(slice::from_ref(&rule));
    let fits = msg("orders.a", "", &"x".repeat(8 * 1024 * 1024 - 100));
    wire.down(&fits);
    assert_eq!((wire.client_got().len(), counts(&rule)), (2 * fits.len(), (1, 1, 0, 0)));
}

#[test]
fn a_publish_is_refused_between_two_deliveries() {
    let rule = rule("nats.err = { error = 'Permissions Violation for Publish', subject = 'orders.>' }");
    let mut wire = session(slice::from_ref(&rule));
    let delivery = msg("audit", "", &"x".repeat(2000));
    wire.down(&delivery[..1000]);
    let (refused, passed) = (publish("orders.created", "_INBOX.a", "{}"), publish("audit", "", "x"));
    wire.up([&hpub("orders.paid", "", "x")[..], &refused, &passed].concat());
    assert_eq!(wire.server_got(), passed);
    wire.down(&delivery[1000..]);
    let error = "-ERR 'Permissions Violation for Publish'\r\n";
    assert_eq!(wire.client_got(), [&delivery[..], error.as_bytes(), error.as_bytes()].concat());
    assert_eq!((wire.end.clone(), counts(&rule)), (None, (2, 2, 0, 0)));
    // The server did not see it and acknowledges nothing.
    wire.down(ack("_INBOX.a", 1));
    assert_eq!(wire.client_got(), ack("_INBOX.a", 1));
}

#[test]
fn a_refusal_that_closes_is_the_last_that_the_client_hears() {
    let rule = rule("nats.err = { error = 'Maximum Payload Violation', closes = true }");
    let mut wire = session(slice::from_ref(&rule));
    let large = publish("orders.created", "", &"x".repeat(100_000));
    wire.up(&large[..50_000]);
    assert_eq!(wire.end, Some(Output::Close), "at once, as the server would");
    assert_eq!(wire.client_got(), b"-ERR 'Maximum Payload Violation'\r\n");
    assert_eq!((wire.server_got(), counts(&rule)), (vec![], (1, 1, 0, 0)));

    let mut wire = session(&[rule]);
    let delivery = msg("audit", "", &"x".repeat(2000));
    wire.down(&delivery[..1000]).up(publish("a", "", "x"));
    assert_eq!(wire.end, None, "not in the middle of a delivery");
    wire.down(&delivery[1000..]);
    assert_eq!(wire.end, Some(Output::Close));
    assert_eq!(wire.client_got(), [&delivery[..], b"-ERR 'Maximum Payload Violation'\r\n"].concat());
}

#[test]
fn a_publish_or_a_delivery_is_slow() {
    let request = rule("nats.slow = { delay = '250ms', subject = 'orders.>' }");
    let mut wire = session(slice::from_ref(&request));
    wire.up([publish("audit", "", "x"), publish("orders.a", "r", "x")].concat());
    wire.down([msg("orders.a", "", "x"), ack("r", 1)].concat());
    assert_eq!(wire.holds, [(Way::Upstream, Duration::from_millis(250))]);
    assert_eq!(counts(&request), (1, 1, 0, 0));

    let reply = rule("nats.slow = { delay = '1s', of = 'reply', subject = 'orders.>' }");
    let mut wire = session(slice::from_ref(&reply));
    wire.up(publish("orders.a", "r", "x")).down([msg("audit", "", "x"), hmsg("orders.a", "", "x")].concat());
    assert_eq!(wire.holds, [(Way::Downstream, Duration::from_secs(1))]);
    assert_eq!(wire.client_got(), [msg("audit", "", "x"), hmsg("orders.a", "", "x")].concat());
    assert_eq!(counts(&reply), (1, 1, 0, 0));
}

#[test]
fn a_reset_comes_instead_of_the_publish() {
    let rule = rule("nats.reset = { subject = 'orders.*', nth = 2 }");
    let mut wire = session(slice::from_ref(&rule));
    let passed = [publish("orders.a", "", "x"), publish("orders.a.b", "", "x")].concat();
    wire.up([&passed[..], &hpub("orders.b", "", "x"), &publish("audit", "", "x")].concat());
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!((wire.server_got(), counts(&rule)), (passed, (2, 1, 0, 0)));
}

#[test]
fn triggers_choose_among_the_matches() {
    let lost = |fields: &str| {
        let rule = rule(&format!("nats.drop = {{ {fields} }}"));
        let mut wire = session(&[rule]);
        let sent: Vec<Vec<u8>> = (1..=9).map(|n| msg("a", "", &n.to_string())).collect();
        wire.down(sent.concat());
        let got = wire.client_got();
        (1..=9).filter(|n| !got.windows(3).any(|w| w == format!("\n{n}\r").as_bytes())).collect::<Vec<_>>()
    };
    assert_eq!(lost("nth = 4"), [4]);
    assert_eq!(lost("nth = [1, 9]"), [1, 9]);
    assert_eq!(lost("every = 4"), [4, 8]);
    let begun = info("").len() + CONNECT.len() + "PONG\r\n".len();
    let size = msg("a", "", "1").len();
    assert_eq!(lost(&format!("after_bytes = {}", begun + 6 * size)), [7, 8, 9]);
    assert_eq!(lost(&format!("after_bytes = {}", begun + 6 * size + 1)), [8, 9]);
    let share = lost("share = 0.5");
    assert_eq!(share, lost("share = 0.5"), "the seed decides");
    assert!((1..9).contains(&share.len()), "{share:?}");
}

#[test]
fn what_a_body_says_is_not_read() {
    let rule = rule("nats.err = { error = 'x' , subject = 'orders.>' }");
    let mut wire = session(slice::from_ref(&rule));
    let sent = publish("audit", "", "x\r\nPUB orders.created 2\r\nhi\r\n");
    wire.up(&sent);
    assert_eq!((wire.server_got(), counts(&rule)), (sent, (0, 0, 0, 0)));
    assert_eq!(wire.read(), ["PUB audit"]);
}

#[test]
fn a_body_is_not_kept_and_a_line_only_so_far() {
    let mut wire = session(&[rule("nats.drop = { subject = 'lost' }")]);
    let up = publish("audit", "", &"x".repeat(1_000_000));
    let down = msg("audit", "", &"y".repeat(1_000_000));
    let long = format!("PUB {} 2\r\nhi\r\n", "s".repeat(30_000)).into_bytes();
    for chunk in up.chunks(4096) {
        wire.up(chunk);
        assert_eq!(wire.inspector.held_bytes(), 0);
    }
    for chunk in down.chunks(100) {
        wire.down(chunk);
        assert!(wire.inspector.held_bytes() <= 100 * 6, "the line and half a kilobyte");
    }
    for chunk in long.chunks(1000) {
        wire.up(chunk);
        assert!(wire.inspector.held_bytes() <= LOOK_BYTES_MAX);
    }
    assert_eq!((wire.server_got(), wire.client_got()), ([up, long].concat(), down));
    assert_eq!(wire.inspector.opaque(), None);
}

#[test]
fn a_server_that_wants_tls_is_passed_and_the_rules_are_blind() {
    for wants in [",\"tls_required\":true", ", \"tls_required\" : true"] {
        let rule = rule("nats.drop = {}");
        let mut wire = Wire::new(Protocol::Nats, slice::from_ref(&rule));
        wire.down(info(wants)).up(b"\x16\x03\x01hello").down(b"\x16\x03\x03hi");
        assert_eq!(wire.inspector.opaque(), Some(Opaque::Encrypted));
        assert_eq!(wire.server_got(), b"\x16\x03\x01hello");
        assert_eq!(wire.client_got(), [&info(wants)[..], b"\x16\x03\x03hi"].concat());
        assert_eq!(counts(&rule), (0, 0, 0, 1));
    }
    let mut wire = Wire::new(Protocol::Nats, &[]);
    wire.down(info(",\"tls_required\":false,\"tls_available\":true"));
    assert_eq!(wire.inspector.opaque(), None, "the client decides");
    wire.up(b"\x16\x03\x01hello");
    assert_eq!(wire.inspector.opaque(), Some(Opaque::Encrypted));
}

#[test]
fn what_is_not_nats_passes_unseen() {
    for (up, down) in
        [(&b"GET / HTTP/1.1\r\n"[..], &b""[..]), (b"", b"HTTP/1.1 400\r\n"), (b"PUB a 1\r\nxyz", b"")]
    {
        let rule = rule("nats.reset = {}");
        let mut wire = Wire::new(Protocol::Nats, slice::from_ref(&rule));
        wire.up(up).down(down).up(publish("a", "", "x")).down("+OK\r\n");
        assert!(matches!(wire.inspector.opaque(), Some(Opaque::Malformed(_))));
        assert_eq!(wire.server_got(), [up, &publish("a", "", "x")].concat());
        assert_eq!(wire.client_got(), [down, b"+OK\r\n"].concat());
        assert_eq!(counts(&rule), (0, 0, 0, 1));
    }
}
