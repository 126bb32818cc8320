//! Redis's protocol between a client and a server that are written down byte for byte: what each fault does.

mod protocol_support;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use chaos::protocol::inspector::Output;
use chaos::protocol::rule::{Did, Rule};
use chaos::protocol::{LOOK_BYTES_MAX, Protocol, Way};
use protocol_support::redis::{UNKNOWN, bulk, command, refused};
use protocol_support::{Wire, counts, rule};

fn session(rules: &[Arc<Rule>]) -> Wire {
    Wire::new(Protocol::Redis, rules)
}

fn set() -> Vec<u8> {
    command(&["SET", "a", "1"])
}

fn get() -> Vec<u8> {
    command(&["GET", "a"])
}

const READONLY: &str = "-READONLY You can't write against a read only replica.\r\n";

/// Does a fault, given by its fields, refuse this command?
fn refuses(fields: &str, words: &[&str]) -> bool {
    let mut wire = session(&[rule(&format!("redis.reply = {{ {fields} }}"))]);
    wire.up(command(words));
    match wire.server_got() {
        got if got == refused() => true,
        got if got == command(words) => false,
        other => panic!("neither passed nor refused: {}", other.escape_ascii()),
    }
}

#[test]
fn pipelined_replies_find_their_commands() {
    let mut wire = session(&[]);
    wire.up([set(), get(), b"PING\r\n".to_vec()].concat());
    wire.down("+OK\r\n$1\r\n1\r\n+PONG\r\n:1\r\n");
    let read = ["SET a", "GET a", "PING", "+ of #1", "$ of #2", "+ of #3", ": of nobody"];
    assert_eq!(wire.read(), read);
    assert_eq!(wire.inspector.opaque(), None);
}

#[test]
fn a_refused_command_is_answered_in_its_place() {
    let rule = rule("redis.reply = { error = 'READONLY' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([get(), set(), get()].concat());
    assert_eq!(wire.server_got(), [get(), refused(), get()].concat());
    wire.down(["$1\r\n1\r\n", UNKNOWN, "$1\r\n1\r\n"].concat());
    assert_eq!(wire.client_got(), ["$1\r\n1\r\n", READONLY, "$1\r\n1\r\n"].concat().as_bytes());
    assert_eq!(counts(&rule), (1, 1, 0, 0));
    assert_eq!(wire.acted(), 1);
}

#[test]
fn an_error_strikes_the_commands_that_it_is_about() {
    for error in ["READONLY", "OOM", "MISCONF", "NOREPLICAS"] {
        let fields = format!("error = '{error}'");
        for writes in [&["set", "a", "1"][..], &["DEL", "a"], &["EVAL", "return 1", "0"], &["SORT", "a"]] {
            assert!(refuses(&fields, writes), "{error} {writes:?}");
        }
        assert!(!refuses(&fields, &["GET", "a"]), "{error}");
    }
    assert!(refuses("error = 'NOSCRIPT'", &["EVALSHA", "abc", "0"]));
    assert!(!refuses("error = 'NOSCRIPT'", &["EVAL", "return 1", "0"]));
    for error in ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOAUTH", "ERR of my own"] {
        let fields = format!("error = '{error}'");
        assert!(refuses(&fields, &["GET", "a"]) && refuses(&fields, &["PING"]), "{error}");
        // A client could not even connect, which is another fault.
        for setup in [&["AUTH", "x"][..], &["HELLO", "3"], &["CLIENT", "SETNAME", "x"], &["SELECT", "1"]] {
            assert!(!refuses(&fields, setup), "{error} {setup:?}");
        }
    }
}

#[test]
fn commands_and_keys_narrow_a_fault() {
    let named = "error = 'LOADING', command = ['get', 'SCRIPT LOAD', 'AUTH']";
    assert!(refuses(named, &["GET", "a"]));
    assert!(refuses(named, &["script", "load", "return 1"]));
    assert!(refuses(named, &["AUTH", "x"]), "what is named is struck");
    assert!(!refuses(named, &["SCRIPT", "EXISTS", "abc"]));
    assert!(!refuses(named, &["SET", "a", "1"]));

    let keyed = "error = 'LOADING', key = 'session:*'";
    assert!(refuses(keyed, &["GET", "session:1"]));
    assert!(refuses(keyed, &["EVALSHA", "abc", "1", "session:1"]));
    assert!(refuses(keyed, &["XREAD", "COUNT", "1", "STREAMS", "session:1", "0"]));
    assert!(!refuses(keyed, &["GET", "user:1"]));
    assert!(!refuses(keyed, &["PING", "session:1"]), "PING has no key");
}

#[test]
fn a_command_refused_within_a_transaction_spoils_it() {
    let rule = rule("redis.reply = { error = 'OOM', command = 'SET' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([command(&["MULTI"]), set(), get(), command(&["EXEC"])].concat());
    assert_eq!(
        wire.server_got(),
        [command(&["MULTI"]), refused(), get(), command(&["EXEC"])].concat(),
        "the server spoils the transaction by itself, because of a command that it does not know"
    );
    let abort = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    wire.down(["+OK\r\n", UNKNOWN, "+QUEUED\r\n", abort].concat());
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    assert_eq!(wire.client_got(), ["+OK\r\n", oom, "+QUEUED\r\n", abort].concat().as_bytes());
    assert_eq!(counts(&rule), (1, 1, 0, 0));
}

#[test]
fn a_transaction_is_executed_and_its_reply_lost() {
    let rule = rule("redis.drop-reply = { command = 'EXEC' }");
    let mut wire = session(slice::from_ref(&rule));
    let sent = [command(&["MULTI"]), set(), command(&["EXEC"]), get()].concat();
    wire.up(&sent);
    assert_eq!(wire.server_got(), sent);
    let lost = "*2\r\n+OK\r\n*1\r\n$1\r\nx\r\n";
    wire.down(["+OK\r\n+QUEUED\r\n", &lost[..9]].concat());
    assert_eq!(wire.end, None, "a reply is swallowed as a whole");
    wire.down([&lost[9..], "$1\r\n1\r\n"].concat());
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(wire.client_got(), b"+OK\r\n+QUEUED\r\n");
    assert_eq!(counts(&rule), (1, 1, 0, 0));
    assert_eq!(rule.counters.read().swallowed_bytes, lost.len() as u64);
}

#[test]
fn a_swallowed_reply_can_leave_the_connection_open_and_silent() {
    let rule = rule("redis.drop-reply = { command = 'SET', then = 'silence' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([get(), set(), get()].concat()).down("$1\r\n1\r\n+OK\r\n$1\r\n1\r\n").down("+more\r\n");
    assert_eq!(wire.end, None);
    assert_eq!(wire.client_got(), b"$1\r\n1\r\n");
    wire.up(get());
    assert_eq!(wire.server_got(), [get(), set(), get(), get()].concat());
    assert_eq!(counts(&rule), (1, 1, 0, 0));
    assert_eq!(rule.counters.read().swallowed_bytes, 5 + 7 + 7);
}

#[test]
fn a_slow_command_holds_itself_or_its_reply_back() {
    let request = rule("redis.slow = { delay = '250ms', command = 'SET' }");
    let mut wire = session(slice::from_ref(&request));
    wire.up([get(), set(), get()].concat());
    assert_eq!(wire.holds, [(Way::Upstream, Duration::from_millis(250))]);
    assert_eq!(wire.server_got(), [get(), set(), get()].concat());
    assert_eq!(counts(&request), (1, 1, 0, 0));

    let reply = rule("redis.slow = { delay = '1s', of = 'reply', command = 'SET' }");
    let mut wire = session(slice::from_ref(&reply));
    wire.up([get(), set()].concat());
    assert_eq!((wire.holds.len(), counts(&reply)), (0, (1, 0, 0, 0)));
    wire.down("$1\r\n1\r\n").down("+OK\r\n");
    assert_eq!(wire.holds, [(Way::Downstream, Duration::from_secs(1))]);
    assert_eq!(wire.client_got(), b"$1\r\n1\r\n+OK\r\n");
    assert_eq!(counts(&reply), (1, 1, 0, 0));
}

#[test]
fn a_reset_comes_instead_of_the_command() {
    let rule = rule("redis.reset = { command = 'SET' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([get(), set(), get()].concat());
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(wire.server_got(), get());
    assert_eq!(counts(&rule), (1, 1, 0, 0));
}

#[test]
fn a_line_is_a_command_too() {
    let rule = rule("redis.reply = { error = 'READONLY', key = 'a b' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up("\r\nset other 1\r\n").up("SE").up("T \"a b\" 1\r\nPING\r\n*0\r\n*-1\r\n");
    assert_eq!(
        wire.server_got(),
        [b"\r\nset other 1\r\n", &refused()[..], b"PING\r\n*0\r\n*-1\r\n"].concat()
    );
    wire.down(["+OK\r\n", UNKNOWN, "+PONG\r\n"].concat());
    assert_eq!(wire.client_got(), ["+OK\r\n", READONLY, "+PONG\r\n"].concat().as_bytes());
    assert_eq!(counts(&rule), (1, 1, 0, 0));
    let read = ["nothing", "set other", "SET a b", "PING", "nothing", "nothing"];
    assert_eq!(wire.read()[..6], read);
}

#[test]
fn a_large_command_is_decided_by_its_beginning() {
    let rule = rule("redis.reply = { error = 'OOM', key = 'blob' }");
    let mut wire = session(slice::from_ref(&rule));
    let large = command(&["SET", "blob", &"x".repeat(1_000_000)]);
    for chunk in large.chunks(4096) {
        wire.up(chunk);
        assert!(wire.inspector.held_bytes() <= LOOK_BYTES_MAX);
    }
    wire.up(get());
    assert_eq!(wire.server_got(), [refused(), get()].concat());
    assert_eq!(rule.counters.read().swallowed_bytes, large.len() as u64);
}

#[test]
fn a_large_reply_is_swallowed_as_it_comes() {
    let rule = rule("redis.drop-reply = { command = 'GET' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(get());
    let large = bulk(&"x".repeat(1_000_000));
    for chunk in large.chunks(4096) {
        assert_eq!(wire.end, None);
        wire.down(chunk);
        assert_eq!(wire.inspector.held_bytes(), 0, "nothing is kept of what is swallowed");
    }
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(wire.client_got(), b"");
    assert_eq!(rule.counters.read().swallowed_bytes, large.len() as u64);
}

#[test]
fn a_key_that_goes_beyond_what_is_looked_at_is_not_known() {
    let words = ["SET", &"k".repeat(2 * LOOK_BYTES_MAX), "1"];
    assert!(!refuses("error = 'OOM', key = 'k*'", &words));
    assert!(refuses("error = 'OOM'", &words));
}

#[test]
fn triggers_choose_among_the_matches() {
    let holds = |fields: &str, pipelined: bool| -> Vec<usize> {
        let mut wire = session(&[rule(&format!("redis.slow = {{ delay = '1ms', {fields} }}"))]);
        if pipelined {
            wire.up(get().repeat(12));
            return vec![wire.holds.len()];
        }
        let mut struck = vec![];
        for number in 1..=12 {
            let before = wire.holds.len();
            wire.up(get()).down("+OK\r\n");
            struck.extend((wire.holds.len() > before).then_some(number));
        }
        struck
    };
    assert_eq!(holds("nth = 3", false), [3]);
    assert_eq!(holds("nth = [2, 7]", false), [2, 7]);
    assert_eq!(holds("every = 5", false), [5, 10]);
    // 20 bytes and 5 for the answer: the fifth begins behind 100 bytes.
    assert_eq!(get().len(), 20);
    assert_eq!(holds("after_bytes = 100", false), [5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(holds("after_bytes = 101", false), [6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(holds("after_bytes = 100", true), [12 - 5], "that all came at once makes no difference");
    assert_eq!(holds("after_bytes = 100, nth = 2", false), [6], "counted from where the fault begins");
    let share = holds("share = 0.5", false);
    assert_eq!(share, holds("share = 0.5", false), "the seed decides");
    assert!((1..12).contains(&share.len()), "{share:?}");
}

#[test]
fn ordinals_count_over_the_connections_of_a_link() {
    let rule = rule("redis.reset = { nth = 2 }");
    let (mut first, mut second) = (session(slice::from_ref(&rule)), session(slice::from_ref(&rule)));
    first.up(get());
    second.up(get());
    assert_eq!((first.end, second.end), (None, Some(Output::Reset)));
}

#[test]
fn what_a_rule_has_begun_it_goes_through_with() {
    let rule = rule("redis.reply = { error = 'READONLY' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(set());
    wire.inspector.set_rules(&[], &mut vec![]);
    wire.up(set()).down([UNKNOWN, "+OK\r\n"].concat());
    assert_eq!(wire.client_got(), [READONLY, "+OK\r\n"].concat().as_bytes());
    assert_eq!(wire.reports.iter().filter(|report| report.did == Did::Acted).count(), 1);
}

#[test]
fn two_faults_on_one_command_count_and_the_first_acts() {
    let first = rule("redis.slow = { delay = '1s', nth = 2 }");
    let second = rule("redis.reply = { error = 'READONLY' }");
    let mut wire = session(&[first.clone(), second.clone()]);
    wire.up([set(), set()].concat());
    assert_eq!(wire.server_got(), [refused(), set()].concat());
    wire.down([UNKNOWN, "+OK\r\n"].concat());
    assert_eq!((counts(&first), counts(&second)), ((2, 1, 0, 0), (2, 1, 0, 0)));
}
