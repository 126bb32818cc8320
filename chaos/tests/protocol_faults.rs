//! Wire faults as scenario files write them: each form means what it says, and what is wrong is named.

mod protocol_support;

use std::time::Duration;

use chaos::protocol::fault::{
    NatsErr, NatsFault, PgDropAck, PgError, PgFault, RedisFault, RedisReply, WireEvent, WireFault,
};
use chaos::protocol::rule::{Action, Match, Names, Side, Then};
use chaos::protocol::trigger::{Every, Nth, Share, Trigger};
use chaos::protocol::{Protocol, Way};
use protocol_support::{Wire, counts, fault, pg, redis};

fn wrong(toml: &str) -> String {
    fault(toml).expect_err("wrong")
}

/// Each fault in its shortest form and with every field that it has.
const FORMS: [(&str, &str, &str); 14] = [
    ("pg.drop-ack", "", "match = '/^INSERT/', then = 'silence'"),
    ("pg.error", "sqlstate = '40001'", "sqlstate = '57P01', message = 'bye', fatal = true, match = 'COMMIT'"),
    ("pg.slow", "delay = '10ms'", "delay = '1m 30s', of = 'reply', match = 'SELECT'"),
    ("pg.reset", "", "match = 'SELECT'"),
    ("redis.reply", "error = 'OOM'", "error = 'ERR of my own', command = ['GET', 'SCRIPT LOAD'], key = 'a*'"),
    ("redis.drop-reply", "", "command = 'SET', key = 'a?', then = 'silence'"),
    ("redis.slow", "delay = '10ms'", "delay = '2s', of = 'reply', command = 'GET', key = 'a'"),
    ("redis.reset", "", "command = ['GET'], key = 'a'"),
    ("nats.drop-puback", "", "subject = 'orders.>'"),
    ("nats.drop", "", "subject = 'orders.*'"),
    ("nats.duplicate", "", "subject = 'orders.created'"),
    ("nats.err", "error = 'Stale Connection'", "error = 'x', subject = '*.created', closes = true"),
    ("nats.slow", "delay = '10ms'", "delay = '1s', of = 'reply', subject = 'a'"),
    ("nats.reset", "", "subject = 'a'"),
];

const TRIGGER: &str = "nth = [3, 5], every = 1, share = 0.25, after_bytes = 4096";

fn forms() -> impl Iterator<Item = (&'static str, String)> {
    FORMS.into_iter().flat_map(|(kind, least, most)| {
        let most = format!("{kind} = {{ {most}, {TRIGGER} }}");
        [(kind, format!("{kind} = {{ {least} }}")), (kind, most)]
    })
}

#[test]
fn every_form_is_read_as_the_fault_that_it_names() {
    for (kind, toml) in forms() {
        let fault = fault(&toml).unwrap_or_else(|error| panic!("{toml}: {error}"));
        assert_eq!(fault.kind(), kind, "{toml}");
        assert_eq!(fault.protocol().name(), kind.split('.').next().expect("a protocol"), "{toml}");
        let rule = fault.rule(3);
        assert_eq!((rule.id, rule.protocol), (3, fault.protocol()));
        let trigger = match toml.contains(TRIGGER) {
            true => Trigger { nth: Nth(vec![3, 5]), every: Every(1), share: Share(0.25), after_bytes: 4096 },
            false => Trigger::always(),
        };
        assert_eq!(rule.trigger, trigger, "{toml}");
    }
}

#[test]
fn what_was_read_is_written_and_read_again() {
    for (_, toml) in forms() {
        let read = fault(&toml).expect("a fault");
        let written = toml::to_string(&read).unwrap_or_else(|error| panic!("{toml}: {error}"));
        let again: WireFault = toml::from_str(&written).unwrap_or_else(|error| panic!("{written}{error}"));
        assert_eq!(again, read, "{written}");
        let json = serde_json::to_string(&read).expect("JSON");
        assert_eq!(serde_json::from_str::<WireFault>(&json).expect("a fault"), read, "{json}");
    }
}

#[test]
fn what_is_left_out_means_the_usual() {
    let WireFault::Pg(PgFault::DropAck(PgDropAck { r#match, then, .. })) =
        fault("pg.drop-ack = {}").expect("a fault")
    else {
        panic!("another fault")
    };
    assert!(r#match.matches(b" commit work") && r#match.matches(b"END;") && !r#match.matches(b"ENDED"));
    assert_eq!(then, Then::Reset);
    let WireFault::Pg(PgFault::Error(PgError { r#match, fatal, .. })) =
        fault("pg.error = { sqlstate = '40001' }").expect("a fault")
    else {
        panic!("another fault")
    };
    assert!(r#match.matches(b"anything") && r#match.matches(b"") && !fatal);
    let WireFault::Redis(RedisFault::Reply(RedisReply { error, .. })) =
        fault("redis.reply = { error = 'NOSCRIPT' }").expect("a fault")
    else {
        panic!("another fault")
    };
    assert_eq!(error.message(), "NOSCRIPT No matching script. Please use EVAL.");
    assert_eq!(error.strikes(), Names::These(vec!["EVALSHA".into(), "EVALSHA_RO".into()]));
    let WireFault::Nats(NatsFault::Err(NatsErr { subject, closes, .. })) =
        fault("nats.err = { error = 'x' }").expect("a fault")
    else {
        panic!("another fault")
    };
    assert!(subject.matches(b"orders.created") && !closes);
}

#[test]
fn the_words_mean_what_the_rule_does() {
    let action = |toml: &str| fault(toml).expect("a fault").rule(1).action.clone();
    let minute = Duration::from_secs(90);
    assert_eq!(
        action("pg.slow = { delay = '1m 30s', of = 'reply' }"),
        Action::Delay { by: minute, of: Side::Reply }
    );
    let day = Duration::from_secs(86_400);
    assert_eq!(action("redis.slow = { delay = '2days' }"), Action::Delay { by: day, of: Side::Request });
    assert_eq!(action("redis.drop-reply = { then = 'silence' }"), Action::DropReply(Then::Silence));
    assert_eq!(action("nats.drop = {}"), Action::Drop);
    let matches = |toml: &str| fault(toml).expect("a fault").rule(1).matches.clone();
    assert!(matches!(matches("nats.slow = { delay = '1s' }"), Match::Publish(_)));
    assert!(matches!(matches("nats.slow = { delay = '1s', of = 'reply' }"), Match::Delivery(_)));
    let Action::Error(refusal) = action("pg.error = { sqlstate = '57P01', message = 'bye', fatal = true }")
    else {
        panic!("another action")
    };
    assert!(refusal.closes);
    let text = String::from_utf8_lossy(&refusal.bytes[5..]).into_owned();
    assert_eq!(text, "SFATAL\0VFATAL\0C57P01\0Mbye\0Rchaos\0\0");
    let Action::Error(refusal) = action("nats.err = { error = 'Stale Connection' }") else {
        panic!("another action")
    };
    assert_eq!(&refusal.bytes[..], b"-ERR 'Stale Connection'\r\n");
}

#[test]
fn unknown_names_are_told_with_the_ones_that_there_are() {
    assert_eq!(wrong("kafka.drop = {}"), "unknown variant `kafka`, expected one of `pg`, `redis`, `nats`");
    assert_eq!(
        wrong("pg.drop = {}"),
        "unknown variant `drop`, expected one of `drop-ack`, `error`, `slow`, `reset`"
    );
    assert_eq!(
        wrong("pg.drop-ack = { mach = 'COMMIT' }"),
        "unknown field `mach`, expected one of `match`, `then`, `nth`, `every`, `share`, `after_bytes`"
    );
    assert_eq!(
        wrong("redis.reply = { error = 'OOM', subject = 'a' }"),
        "unknown field `subject`, expected one of `error`, `command`, `key`, `nth`, `every`, `share`, `after_bytes`"
    );
    assert_eq!(
        wrong("pg.drop-ack = { then = 'close' }"),
        "unknown variant `close`, expected `reset` or `silence`"
    );
    assert_eq!(
        wrong("pg.slow = { delay = '1s', of = 'both' }"),
        "unknown variant `both`, expected `request` or `reply`"
    );
    assert_eq!(wrong("pg.error = {}"), "missing field `sqlstate`");
    assert_eq!(wrong("redis.slow = {}"), "missing field `delay`");
}

#[test]
fn wrong_errors_say_what_an_error_is() {
    let sqlstate = |text: &str| wrong(&format!("pg.error = {{ sqlstate = '{text}' }}"));
    let shape = "is not an SQLSTATE: five digits or capital letters, such as 40001";
    for text in ["4001", "40p01", "400010", "", "4000é"] {
        assert_eq!(sqlstate(text), format!("`{text}` {shape}"));
    }
    let success = "is not an error: classes 00, 01 and 02 are success and warnings";
    for text in ["00000", "01000", "02000"] {
        assert_eq!(sqlstate(text), format!("`{text}` {success}"));
    }

    let redis = |text: &str| wrong(&format!("redis.reply = {{ error = \"{text}\" }}"));
    assert_eq!(
        redis("READ_ONLY"),
        "`READ_ONLY` is not an error of Redis: write one of READONLY, NOSCRIPT, OOM, LOADING, BUSY, MISCONF, \
         MASTERDOWN, CLUSTERDOWN, TRYAGAIN, NOAUTH, NOREPLICAS or a whole message"
    );
    assert_eq!(redis("err no"), "`err no` does not begin with a word in capitals, such as ERR");
    assert_eq!(redis("ERR a\\r\\n+OK"), "an error is one line without control characters");
    let long = format!("ERR {}", "x".repeat(1021));
    assert_eq!(redis(&long), "an error has at most 1024 bytes, this one has 1025");

    let nats = |text: &str| wrong(&format!("nats.err = {{ error = \"{text}\" }}"));
    assert_eq!(nats(""), "`` is not an error of NATS: write what stands between its quotes");
    assert_eq!(nats("'x'"), "`'x'` is not an error of NATS: write what stands between its quotes");
    assert_eq!(nats("a\\nb"), "an error is one line without control characters");
}

#[test]
fn wrong_triggers_say_what_may_be_written() {
    let trigger = |fields: &str| wrong(&format!("pg.reset = {{ {fields} }}"));
    assert_eq!(trigger("nth = 0"), "invalid value: integer `0`, expected an ordinal from 1");
    assert_eq!(trigger("nth = -1"), "invalid value: integer `-1`, expected an ordinal from 1");
    assert_eq!(trigger("nth = [1, 0]"), "invalid value: integer `0`, expected an ordinal from 1");
    assert_eq!(trigger("nth = []"), "invalid length 0, expected at least one ordinal");
    assert_eq!(
        trigger("nth = 'first'"),
        "invalid type: string \"first\", expected an ordinal from 1, or a list of them"
    );
    let many: Vec<String> = (1..=1025).map(|n| n.to_string()).collect();
    assert_eq!(trigger(&format!("nth = [{}]", many.join(","))), "at most 1024 ordinals");
    assert_eq!(trigger("every = 0"), "`every` is at least 1, not 0");
    assert_eq!(trigger("share = 0.0"), "`share` is above 0 and at most 1, not 0");
    assert_eq!(trigger("share = 1.5"), "`share` is above 0 and at most 1, not 1.5");
    assert_eq!(trigger("share = -0.5"), "`share` is above 0 and at most 1, not -0.5");
    assert_eq!(trigger("share = nan"), "`share` is above 0 and at most 1, not NaN");
    assert!(fault("pg.reset = { share = 1 }").is_ok(), "a whole number is a number");
    assert!(trigger("after_bytes = -1").contains("-1"));
    assert_eq!(wrong("pg.slow = { delay = 'soon' }"), "invalid value: string \"soon\", expected a duration");
    assert_eq!(wrong("pg.slow = { delay = 5 }"), "invalid type: integer `5`, expected a duration");
}

#[test]
fn wrong_patterns_say_what_is_wrong() {
    assert_eq!(
        wrong("pg.error = { sqlstate = '40001', match = '/(/' }"),
        "`/(/` is not a regular expression: unclosed group"
    );
    assert_eq!(wrong("pg.reset = { match = '' }"), "a pattern must not be empty");
    assert_eq!(wrong("redis.reset = { key = '' }"), "a pattern must not be empty");
    assert_eq!(wrong("nats.drop = { subject = '' }"), "a pattern must not be empty");
    let subject =
        "is not a subject: tokens are separated by single dots, `*` stands for a token, `>` for the rest";
    for text in ["orders..x", "orders.>.x", "ord*", ".a", "a b"] {
        assert_eq!(wrong(&format!("nats.drop = {{ subject = '{text}' }}")), format!("`{text}` {subject}"));
    }
    assert_eq!(
        wrong("redis.reset = { command = 'GET a b' }"),
        "`GET a b` is not a command: write a name such as SET or SCRIPT LOAD"
    );
    assert_eq!(wrong("redis.reset = { command = [] }"), "invalid length 0, expected at least one command");
    let many = vec!["'GET'"; 257].join(",");
    assert_eq!(wrong(&format!("redis.reset = {{ command = [{many}] }}")), "at most 256 commands");
    let long = "x".repeat(1025);
    assert_eq!(
        wrong(&format!("redis.reset = {{ key = '{long}' }}")),
        "a pattern has at most 1024 bytes, this one has 1025"
    );
}

fn event(text: &str) -> Result<WireEvent, String> {
    text.parse()
}

#[test]
fn events_name_messages() {
    for (text, protocol) in [
        ("pg:COMMIT", Protocol::Postgres),
        ("pg:INSERT INTO orders", Protocol::Postgres),
        ("pg:Execute", Protocol::Postgres),
        ("pg:queries", Protocol::Postgres),
        ("redis:EVALSHA", Protocol::Redis),
        ("redis:SCRIPT LOAD", Protocol::Redis),
        ("redis:commands", Protocol::Redis),
        ("nats:PUB orders.>", Protocol::Nats),
        ("nats:PubAck", Protocol::Nats),
        ("nats:+OK", Protocol::Nats),
    ] {
        let event = event(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((event.protocol(), event.to_string()), (protocol, text.to_owned()));
        let json = serde_json::to_string(&event).expect("JSON");
        assert_eq!(serde_json::from_str::<WireEvent>(&json).expect("an event"), event);
    }
}

#[test]
fn wrong_events_say_what_may_be_written() {
    let wrong = |text: &str| event(text).expect_err("wrong");
    let forms = "names no message; write `pg:`, `redis:` or `nats:` and what it is";
    for text in ["COMMIT", "", "mysql:COMMIT", "PG:COMMIT"] {
        assert_eq!(wrong(text), format!("`{text}` {forms}"));
    }
    assert_eq!(wrong("pg:"), "`pg:` names no message after the colon");
    assert_eq!(wrong("redis: "), "`redis: ` names no message after the colon");
    assert_eq!(wrong("redis:G\tT"), "`G\tT` is not a command: write a name such as SET or SCRIPT LOAD");
    assert_eq!(wrong("nats:FETCH a"), "`nats:FETCH a`: NATS has no message `FETCH`");
    assert_eq!(
        wrong("nats:PUB a..b"),
        "`nats:PUB a..b`: `a..b` is not a subject: tokens are separated by single dots, `*` stands for a token, \
         `>` for the rest"
    );
    let long = format!("pg:{}", "x".repeat(1025));
    assert!(wrong(&long).ends_with("a pattern has at most 1024 bytes, this one has 1025"));
}

#[test]
fn an_event_is_counted_and_the_named_ones_are_reported() {
    let watch = |text: &str, nth: Vec<u64>| event(text).expect("an event").watch(4, Nth(nth));
    let commits = watch("pg:COMMIT", vec![2]);
    let completes = watch("pg:CommandComplete", vec![]);
    let mut wire = Wire::new(Protocol::Postgres, &[commits.clone(), completes.clone()]);
    wire.up(pg::start()).down(pg::started());
    for _ in 0..3 {
        wire.up(pg::query("commit; ")).down([pg::complete("COMMIT"), pg::ready(b'I')].concat());
    }
    assert_eq!((counts(&commits), counts(&completes)), ((3, 1, 0, 0), (3, 3, 0, 0)));
    assert_eq!(wire.acted(), 4);
    assert!(wire.reports.iter().all(|report| report.rule == 4));
    assert_eq!(wire.reports.iter().filter(|report| report.way == Way::Downstream).count(), 3);
    assert!(wire.client_got().ends_with(&pg::ready(b'I')));

    let scripts = watch("redis:script load", vec![]);
    let all = watch("redis:commands", vec![1]);
    let mut wire = Wire::new(Protocol::Redis, &[scripts.clone(), all.clone()]);
    let sent =
        [redis::command(&["SCRIPT", "LOAD", "x"]), redis::command(&["AUTH", "x"]), b"PING\r\n".to_vec()];
    wire.up(sent.concat());
    assert_eq!((counts(&scripts), counts(&all)), ((1, 1, 0, 0), (2, 1, 0, 0)));
    assert_eq!(wire.server_got(), sent.concat());
}
