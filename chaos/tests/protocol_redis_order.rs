//! Redis's protocol where replies do not simply follow commands: RESP 3, subscriptions, silence, and what is not Redis.

mod protocol_support;

use std::slice;
use std::sync::Arc;

use chaos::protocol::inspector::Output;
use chaos::protocol::rule::{Did, Rule};
use chaos::protocol::{Opaque, Protocol, REQUESTS_MAX, Way};
use protocol_support::redis::{UNKNOWN, command, refused};
use protocol_support::{Wire, counts, rule};

fn session(rules: &[Arc<Rule>]) -> Wire {
    Wire::new(Protocol::Redis, rules)
}

fn get() -> Vec<u8> {
    command(&["GET", "a"])
}

const HELLO: &str = "%1\r\n$5\r\nproto\r\n:3\r\n";
const PUSH: &str = ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
const SUBSCRIBED: &str = ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";

#[test]
fn pushes_take_no_reply_away() {
    let rule = rule("redis.drop-reply = { command = 'GET' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([command(&["HELLO", "3"]), command(&["SUBSCRIBE", "c"]), get()].concat());
    wire.down([HELLO, SUBSCRIBED, PUSH, PUSH, "$1\r\n1\r\n"].concat());
    assert_eq!(wire.client_got(), [HELLO, SUBSCRIBED, PUSH, PUSH].concat().as_bytes());
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(counts(&rule), (1, 1, 0, 0));
}

#[test]
fn attributes_belong_to_the_reply_behind_them() {
    let rule = rule("redis.drop-reply = { command = 'GET', then = 'silence' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([command(&["PING"]), get()].concat());
    let first = "|1\r\n+ttl\r\n:60\r\n+PONG\r\n";
    wire.down([first, "|1\r\n+ttl\r\n:60\r\n_\r\n"].concat());
    assert_eq!(wire.client_got(), first.as_bytes());
    assert_eq!(counts(&rule), (1, 1, 0, 0));
}

#[test]
fn a_hello_that_fails_leaves_nobody_sure_whose_a_reply_is() {
    let rule = rule("redis.drop-reply = { command = 'GET' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([command(&["HELLO", "3"]), command(&["SUBSCRIBE", "c"]), get()].concat());
    // RESP 2 from here on: the subscription is answered by an array.
    let answers =
        "-NOPROTO unsupported protocol version\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n-ERR no\r\n";
    wire.down(answers);
    assert_eq!((wire.client_got(), wire.end.clone()), (answers.as_bytes().to_vec(), None));
    assert_eq!(counts(&rule), (1, 0, 1, 0));
}

#[test]
fn an_error_keeps_the_version_that_was_agreed() {
    let rule = rule("redis.drop-reply = { command = 'GET' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(command(&["HELLO", "3"])).down(HELLO);
    wire.up(command(&["HELLO", "3", "AUTH", "x", "y"])).down("-WRONGPASS no\r\n");
    wire.up([command(&["SUBSCRIBE", "c"]), get()].concat());
    wire.down([SUBSCRIBED, "$1\r\n1\r\n"].concat());
    assert_eq!(counts(&rule), (1, 1, 0, 0), "still RESP 3: the subscription is answered by a push");
}

#[test]
fn in_a_subscription_of_resp_2_a_command_is_left_alone() {
    let leave: [(&[&str], &str); 2] =
        [(&["HELLO", "2"], "*2\r\n$5\r\nproto\r\n:2\r\n"), (&["RESET"], "+RESET\r\n")];
    for back in [None, Some(leave[0]), Some(leave[1])] {
        let rule = rule("redis.reply = { error = 'LOADING', command = 'GET' }");
        let mut wire = session(slice::from_ref(&rule));
        if let Some((words, answer)) = back {
            wire.up(command(&["HELLO", "3"])).down(HELLO).up(command(words)).down(answer);
        }
        wire.server_got();
        wire.client_got();
        let sent = [command(&["SUBSCRIBE", "c"]), get()].concat();
        wire.up(&sent);
        assert_eq!(wire.server_got(), sent, "there is nowhere to put an error");
        let messages =
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        wire.down(messages);
        assert_eq!(wire.client_got(), messages.as_bytes());
        assert_eq!(counts(&rule), (1, 0, 1, 0), "{back:?}");
    }
}

#[test]
fn replies_lost_in_a_subscription_or_under_monitor_are_missed() {
    for first in [&["SUBSCRIBE", "c"][..], &["PSUBSCRIBE", "c*"], &["UNSUBSCRIBE"], &["MONITOR"]] {
        let dropping = rule("redis.drop-reply = { command = 'PING' }");
        let slow = rule("redis.slow = { delay = '1s', of = 'reply', command = 'GET' }");
        let mut wire = session(&[dropping.clone(), slow.clone()]);
        wire.up([command(first), command(&["PING"]), get()].concat());
        wire.down("+OK\r\n+1 monitored\r\n+PONG\r\n");
        assert_eq!((wire.end.clone(), wire.holds.len()), (None, 0));
        assert_eq!(wire.client_got(), b"+OK\r\n+1 monitored\r\n+PONG\r\n");
        assert_eq!((counts(&dropping), counts(&slow)), ((1, 0, 1, 0), (1, 0, 1, 0)), "{first:?}");
    }
}

#[test]
fn with_replies_off_nothing_is_refused_and_no_reply_is_expected() {
    let rule = rule("redis.reply = { error = 'LOADING', command = 'GET' }");
    let mut wire = session(slice::from_ref(&rule));
    let off = command(&["CLIENT", "REPLY", "OFF"]);
    let on = command(&["CLIENT", "REPLY", "ON"]);
    wire.up([off.clone(), get(), on.clone(), get()].concat());
    assert_eq!(wire.server_got(), [off, get(), on, refused()].concat());
    wire.down(["+OK\r\n", UNKNOWN].concat());
    assert_eq!(wire.client_got(), b"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(counts(&rule), (2, 1, 1, 0));
}

#[test]
fn a_skipped_reply_is_not_expected() {
    let rule = rule("redis.drop-reply = { command = 'GET' }");
    let mut wire = session(slice::from_ref(&rule));
    let skip = command(&["CLIENT", "REPLY", "SKIP"]);
    wire.up([skip, get(), command(&["PING"]), get()].concat());
    assert_eq!(counts(&rule), (2, 0, 1, 0));
    wire.down("+PONG\r\n");
    assert_eq!((wire.client_got(), wire.end.clone()), (b"+PONG\r\n".to_vec(), None));
    wire.down("$1\r\n1\r\n");
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(counts(&rule), (2, 1, 1, 0));
}

#[test]
fn reset_ends_the_silence() {
    let rule = rule("redis.drop-reply = { command = 'GET' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([command(&["CLIENT", "REPLY", "OFF"]), get(), command(&["RESET"]), get()].concat());
    wire.down("+RESET\r\n");
    assert_eq!((wire.client_got(), wire.end.clone()), (b"+RESET\r\n".to_vec(), None));
    wire.down("$1\r\n1\r\n");
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(counts(&rule), (2, 1, 1, 0));
}

#[test]
fn a_client_that_speaks_tls_is_passed_and_the_rules_are_blind() {
    let rule = rule("redis.reply = { error = 'OOM' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(b"\x16\x03\x01").up(b"\x02\x00hello").down(b"\x16\x03\x03hi");
    assert_eq!(wire.inspector.opaque(), Some(Opaque::Encrypted));
    assert_eq!(wire.server_got(), b"\x16\x03\x01\x02\x00hello");
    assert_eq!(wire.client_got(), b"\x16\x03\x03hi");
    assert_eq!(counts(&rule), (0, 0, 0, 1));
    assert!(matches!(wire.reports[..], [report] if report.did == Did::Blind(Opaque::Encrypted)));
}

#[test]
fn what_is_not_redis_passes_unseen() {
    for (way, bytes) in [
        (Way::Upstream, &b"\0\0\0\x08\x04\xd2\x16\x2f"[..]),
        (Way::Upstream, b"*1\r\n:1\r\n"),
        (Way::Downstream, b"HTTP/1.1 200 OK\r\n"),
        (Way::Downstream, b"$?\r\n"),
    ] {
        let rule = rule("redis.reply = { error = 'LOADING' }");
        let mut wire = session(slice::from_ref(&rule));
        match way {
            Way::Upstream => wire.up(bytes),
            Way::Downstream => wire.down(bytes),
        };
        wire.up(get()).down("+OK\r\n");
        assert!(wire.inspector.opaque().is_some(), "{}", bytes.escape_ascii());
        let (up, down) = if way == Way::Upstream { (bytes, &b""[..]) } else { (&b""[..], bytes) };
        assert_eq!(wire.server_got(), [up, &get()].concat());
        assert_eq!(wire.client_got(), [down, b"+OK\r\n"].concat());
        assert_eq!(counts(&rule), (0, 0, 0, 1));
    }
}

#[test]
fn a_replica_is_not_followed() {
    let mut wire = session(&[]);
    wire.up(command(&["PSYNC", "?", "-1"])).down("+FULLRESYNC abc 0\r\n$3\r\nRDB*1\r\n");
    assert_eq!(wire.inspector.opaque(), Some(Opaque::Unsupported("replication")));
    assert_eq!(wire.client_got(), b"+FULLRESYNC abc 0\r\n$3\r\nRDB*1\r\n");
}

#[test]
fn more_commands_than_are_kept_make_the_connection_opaque() {
    let mut wire = session(&[]);
    wire.up(b"PING\r\n".repeat(REQUESTS_MAX));
    assert_eq!(wire.inspector.opaque(), None);
    wire.up(b"PING\r\n");
    assert_eq!(wire.inspector.opaque(), Some(Opaque::Beyond("commands without replies")));
    assert_eq!(wire.server_got(), b"PING\r\n".repeat(REQUESTS_MAX + 1));
}

#[test]
fn a_command_is_refused_to_its_end_even_if_nothing_more_is_seen() {
    let rule = rule("redis.reply = { error = 'OOM' }");
    let mut wire = session(slice::from_ref(&rule));
    let large = command(&["SET", "a", &"x".repeat(100_000)]);
    wire.up(&large[..50_000]).down("garbage").up(&large[50_000..]).up("PING\r\n");
    assert_eq!(wire.inspector.opaque(), Some(Opaque::Malformed("a type that no reply has")));
    assert_eq!(wire.server_got(), [&refused()[..], b"PING\r\n"].concat(), "no half command");
    assert_eq!(wire.client_got(), b"garbage");
    assert_eq!(rule.counters.read().swallowed_bytes, large.len() as u64);
}

#[test]
fn an_incomplete_command_goes_out_with_the_end_of_its_stream_unless_the_connection_ended() {
    let mut wire = session(&[rule("redis.reset = { command = 'SET' }")]);
    wire.up("*1\r\n$4\r\nPI");
    assert_eq!(wire.server_got(), b"");
    wire.finish(Way::Upstream);
    assert_eq!(wire.server_got(), b"*1\r\n$4\r\nPI");

    let mut wire = session(&[rule("redis.reset = { command = 'SET' }")]);
    wire.up([command(&["SET", "a", "1"]), b"*1\r\n".to_vec()].concat());
    assert_eq!(wire.end, Some(Output::Reset));
    wire.finish(Way::Upstream).finish(Way::Downstream);
    assert_eq!((wire.server_got(), wire.client_got()), (vec![], vec![]));
}
