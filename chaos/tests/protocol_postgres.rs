//! PostgreSQL's protocol between a client and a server that are written down byte for byte.

mod protocol_support;

use std::slice;
use std::time::Duration;

use chaos::protocol::inspector::Output;
use chaos::protocol::rule::{Did, Rule};
use chaos::protocol::{Opaque, Protocol, Way};
use protocol_support::pg::{
    bind, bind_complete, cancel, complete, error, execute, gss, kinds, message, parse, parse_complete, query,
    ready, row, ssl, start, started, sync, types,
};
use protocol_support::{Wire, counts, fault, rule};
use std::sync::Arc;

/// A session that has started.
fn session(rules: &[Arc<Rule>]) -> Wire {
    let mut wire = Wire::new(Protocol::Postgres, rules);
    wire.up(start()).down(started());
    assert_eq!(wire.server_got(), start());
    assert_eq!(wire.client_got(), started());
    wire.read();
    wire
}

#[test]
fn messages_are_told_apart_and_replies_find_their_requests() {
    let mut wire = Wire::new(Protocol::Postgres, &[]);
    wire.up(ssl()).down("N").up(gss()).down("N").up(start()).down(started());
    wire.up(query("SELECT 1")).down([row(), complete("SELECT 1"), ready(b'I')].concat());
    wire.up([parse("s1", "UPDATE a SET n = 1"), bind("", "s1"), execute(""), sync()].concat());
    wire.down([parse_complete(), bind_complete(), complete("UPDATE 1"), ready(b'T')].concat());
    wire.up([bind("p", "s1"), execute("p"), sync()].concat());
    wire.down([bind_complete(), error("40001"), ready(b'E')].concat());
    assert_eq!(
        wire.read(),
        [
            "SSLRequest",
            "answer N",
            "GSSENCRequest",
            "answer N",
            "StartupMessage",
            "Authentication of #1",
            "ParameterStatus of #1",
            "BackendKeyData of #1",
            "ReadyForQuery I of #1",
            "Query \"SELECT 1\"",
            "DataRow of #2",
            "CommandComplete \"SELECT 1\" of #2",
            "ReadyForQuery I of #2",
            "Parse \"UPDATE a SET n = 1\" as \"s1\"",
            "Bind \"\" to \"s1\"",
            "Execute \"UPDATE a SET n = 1\"",
            "Sync",
            "ParseComplete of #3",
            "BindComplete of #4",
            "CommandComplete \"UPDATE 1\" of #5",
            "ReadyForQuery T of #6",
            "Bind \"p\" to \"s1\"",
            "Execute \"UPDATE a SET n = 1\"",
            "Sync",
            "BindComplete of #7",
            "ErrorResponse 40001 of #8",
            "ReadyForQuery E of #9",
        ]
    );
}

#[test]
fn offsets_and_lengths_cover_the_stream() {
    let mut wire = Wire::new(Protocol::Postgres, &[]);
    let sent = [start(), query("SELECT 1"), message(b'X', b"")].concat();
    for byte in &sent {
        wire.up([*byte]);
    }
    let found: Vec<(u64, u64)> = wire.inspector.messages().iter().map(|m| (m.offset, m.length)).collect();
    let (a, b) = (start().len() as u64, query("SELECT 1").len() as u64);
    assert_eq!(found, [(0, a), (a, b), (a + b, 5)]);
}

#[test]
fn the_nth_commit_is_applied_and_its_acknowledgement_lost() {
    let rule = rule("pg.drop-ack = { nth = 2 }");
    let mut wire = session(slice::from_ref(&rule));
    for _ in 0..2 {
        wire.up(query("INSERT INTO a VALUES (1)")).down([complete("INSERT 0 1"), ready(b'T')].concat());
        wire.client_got();
        wire.up(query("commit")).down([complete("COMMIT"), ready(b'I')].concat());
    }
    assert!(wire.to_server.ends_with(&query("commit")), "the server gets the COMMIT");
    assert_eq!(kinds(&wire.client_got()), "");
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(counts(&rule), (2, 1, 0, 0));
    let swallowed = complete("COMMIT").len() + ready(b'I').len();
    assert_eq!(rule.counters.read().swallowed_bytes, swallowed as u64);
}

#[test]
fn nothing_ends_before_the_server_is_done() {
    let rule = rule("pg.drop-ack = { match = 'INSERT INTO a' }");
    let mut wire = session(slice::from_ref(&rule));
    // Without BEGIN the statement is durable with ReadyForQuery only.
    wire.up([parse("", "insert into a values (1) returning id"), bind("", ""), execute(""), sync()].concat());
    wire.down([parse_complete(), bind_complete(), row(), complete("INSERT 0 1")].concat());
    assert_eq!(wire.end, None);
    wire.down(ready(b'I'));
    assert_eq!(wire.end, Some(Output::Reset));
    assert_eq!(kinds(&wire.client_got()), "12", "the row is part of the acknowledgement");
}

#[test]
fn a_commit_that_the_server_fails_or_rolls_back_is_not_an_acknowledgement() {
    let rule = rule("pg.drop-ack = {}");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(query("COMMIT")).down([complete("ROLLBACK"), ready(b'I')].concat());
    wire.up(query("COMMIT")).down([error("40001"), ready(b'I')].concat());
    assert_eq!(kinds(&wire.client_got()), "CZ(I)E(40001)Z(I)");
    assert_eq!(counts(&rule), (2, 0, 2, 0));
    assert_eq!(wire.reports.iter().filter(|report| report.did == Did::Missed).count(), 2);
}

#[test]
fn a_swallowed_reply_can_leave_the_connection_open_and_silent() {
    let rule = rule("pg.drop-ack = { then = 'silence' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(query("COMMIT")).down([complete("COMMIT"), ready(b'I')].concat());
    wire.up(query("SELECT 1")).down([row(), complete("SELECT 1"), ready(b'I')].concat());
    assert_eq!(wire.end, None);
    assert_eq!(kinds(&wire.client_got()), "");
    assert_eq!(wire.server_got(), [query("COMMIT"), query("SELECT 1")].concat());
}

#[test]
fn a_simple_query_fails_with_the_code_and_the_server_reports_the_status() {
    let rule = rule("pg.error = { sqlstate = '40001', match = '/^update/', nth = 1 }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(query("BEGIN")).down([complete("BEGIN"), ready(b'T')].concat());
    wire.server_got();
    wire.up(query("UPDATE a SET n = 1"));
    let instead = wire.server_got();
    assert_eq!(instead, query("failed by chaos"), "the server does not see the statement");
    wire.down([error("42601"), ready(b'E')].concat());
    assert_eq!(kinds(&wire.client_got()), "CZ(T)E(40001)Z(E)");
    wire.up(query("UPDATE a SET n = 1"));
    assert_eq!(wire.server_got(), query("UPDATE a SET n = 1"), "only the first");
    assert_eq!(counts(&rule), (2, 1, 0, 0));
}

#[test]
fn an_execute_fails_in_its_place_and_the_rest_is_skipped_by_the_server() {
    let rule = rule("pg.error = { sqlstate = '40P01', match = 'stock' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([parse("a", "SELECT 1"), parse("b", "UPDATE stock SET n = 1"), sync()].concat());
    wire.down([parse_complete(), parse_complete(), ready(b'I')].concat());
    wire.server_got();
    wire.client_got();
    let batch = [bind("", "a"), execute(""), bind("", "b"), execute(""), bind("", "a"), execute(""), sync()];
    wire.up(batch.concat());
    let server = wire.server_got();
    assert_eq!(types(&server), "BEBEBES");
    assert!(server.windows(14).any(|window| window == b"no such portal"));
    wire.down([bind_complete(), complete("SELECT 1"), bind_complete(), error("34000"), ready(b'I')].concat());
    assert_eq!(kinds(&wire.client_got()), "2C2E(40P01)Z(I)");
    assert_eq!(counts(&rule), (1, 1, 0, 0));
    // The replies that come afterwards belong to what is asked afterwards.
    wire.read();
    wire.up([bind("", "a"), execute(""), sync()].concat());
    wire.down([bind_complete(), complete("SELECT 1"), ready(b'I')].concat());
    let read = wire.read();
    assert!(read.iter().any(|line| line.starts_with("CommandComplete") && line.contains("of #")), "{read:?}");
}

#[test]
fn a_commit_that_fails_ends_its_transaction() {
    let rule = rule("pg.error = { sqlstate = '40001', match = 'COMMIT' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(query("COMMIT"));
    assert_eq!(wire.server_got(), query("ROLLBACK"));
    wire.down([complete("ROLLBACK"), ready(b'I')].concat());
    assert_eq!(kinds(&wire.client_got()), "E(40001)Z(I)");

    wire.up(
        [parse("", "COMMIT"), bind("", ""), execute(""), message(b'H', b""), bind("", "x"), sync()].concat()
    );
    let server = wire.server_got();
    assert!(
        server.ends_with(&[query("ROLLBACK"), sync()].concat()),
        "what the server would skip is not sent"
    );
    wire.down([parse_complete(), bind_complete(), complete("ROLLBACK"), ready(b'I'), ready(b'I')].concat());
    assert_eq!(kinds(&wire.client_got()), "12E(40001)Z(I)");
    assert_eq!(counts(&rule), (2, 2, 0, 0));
}

#[test]
fn a_fatal_error_closes_the_session() {
    let rule = rule("pg.error = { sqlstate = '57P01', fatal = true }");
    let mut wire = session(&[rule]);
    wire.up(query("SELECT 1")).down([error("42601"), ready(b'I')].concat());
    assert_eq!(kinds(&wire.client_got()), "E(57P01)");
    assert_eq!(wire.end, Some(Output::Close));
}

#[test]
fn a_request_behind_an_error_of_the_server_is_missed() {
    let rule = rule("pg.error = { sqlstate = '40001', match = 'b' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([parse("", "SELECT a"), bind("", ""), execute("")].concat());
    wire.up([parse("", "SELECT b"), bind("", ""), execute(""), sync()].concat());
    wire.down([parse_complete(), bind_complete(), error("22012"), ready(b'I')].concat());
    assert_eq!(kinds(&wire.client_got()), "12E(22012)Z(I)");
    assert_eq!(counts(&rule), (1, 0, 1, 0));
}

#[test]
fn what_is_sent_into_the_servers_skipping_is_missed() {
    let rules = [
        rule("pg.error = { sqlstate = '40001', match = 'b' }"),
        rule("pg.drop-ack = { match = 'c' }"),
        rule("pg.slow = { delay = '1s', of = 'reply', match = 'd' }"),
    ];
    let mut wire = session(&rules);
    wire.up([parse("", "SELECT a"), bind("", ""), execute("")].concat());
    wire.down([parse_complete(), bind_complete(), error("22012")].concat());
    for text in ["SELECT b", "SELECT c", "SELECT d"] {
        wire.up([parse("", text), bind("", ""), execute("")].concat());
    }
    wire.up(sync()).down(ready(b'I'));
    assert_eq!(kinds(&wire.client_got()), "12E(22012)Z(I)");
    assert_eq!(rules.each_ref().map(|rule| counts(rule)), [(1, 0, 1, 0); 3]);
}

#[test]
fn a_row_is_swallowed_to_its_end_even_if_nothing_more_is_seen() {
    let rule = rule("pg.drop-ack = { match = 'SELECT' }");
    let mut wire = session(slice::from_ref(&rule));
    let row = message(b'D', &[b'x'; 1000]);
    wire.up(query("SELECT 1")).down(&row[..500]).up(b"\xff").down(&row[500..]).down(ready(b'I'));
    assert!(wire.inspector.opaque().is_some());
    assert_eq!(kinds(&wire.client_got()), "Z(I)", "no half message");
    assert_eq!(rule.counters.read().swallowed_bytes, row.len() as u64);
}

#[test]
fn a_slow_statement_holds_itself_or_its_reply_back() {
    let request = rule("pg.slow = { delay = '250ms', match = 'COMMIT' }");
    let mut wire = session(&[request]);
    wire.up([query("SELECT 1"), query("COMMIT")].concat());
    assert_eq!(wire.holds, [(Way::Upstream, Duration::from_millis(250))]);

    let reply = rule("pg.slow = { delay = '1s', of = 'reply', match = 'COMMIT' }");
    let mut wire = session(&[reply]);
    wire.up(query("COMMIT"));
    assert_eq!(wire.holds, []);
    wire.down([complete("COMMIT"), ready(b'I')].concat());
    assert_eq!(wire.holds, [(Way::Downstream, Duration::from_secs(1))]);
    assert_eq!(kinds(&wire.client_got()), "CZ(I)");
}

#[test]
fn an_encrypted_session_is_passed_and_every_rule_says_that_it_is_blind() {
    for (answer, request) in [(b"S", ssl()), (b"G", gss())] {
        let rule = rule("pg.error = { sqlstate = '40001' }");
        let mut wire = Wire::new(Protocol::Postgres, slice::from_ref(&rule));
        wire.up(&request).down(answer).up(b"\x16\x03\x01hello").down(b"\x16\x03\x03hi");
        assert_eq!(wire.inspector.opaque(), Some(Opaque::Encrypted));
        assert_eq!(wire.server_got(), [&request[..], b"\x16\x03\x01hello"].concat());
        assert_eq!(wire.client_got(), [&answer[..], b"\x16\x03\x03hi"].concat());
        assert_eq!(counts(&rule), (0, 0, 0, 1));
        // A rule that comes later is told as well, and none twice.
        let later = fault("pg.drop-ack = {}").expect("a fault").rule(8);
        let mut out = vec![];
        wire.inspector.set_rules(slice::from_ref(&later), &mut out);
        wire.inspector.set_rules(slice::from_ref(&later), &mut out);
        assert_eq!((counts(&later), out.len()), ((0, 0, 0, 1), 1));
    }
}

#[test]
fn tls_without_asking_first_is_seen() {
    let mut wire = Wire::new(Protocol::Postgres, &[]);
    wire.up(b"\x16\x03\x01\x02");
    assert_eq!(wire.inspector.opaque(), Some(Opaque::Encrypted));
    assert_eq!(wire.server_got(), b"\x16\x03\x01\x02");
}

#[test]
fn a_request_to_cancel_passes() {
    let mut wire = Wire::new(Protocol::Postgres, &[rule("pg.drop-ack = {}")]);
    wire.up(cancel());
    assert_eq!(wire.read(), ["CancelRequest"]);
    assert_eq!((wire.server_got(), wire.inspector.opaque()), (cancel(), None));
}

#[test]
fn what_is_not_the_protocol_passes_unseen() {
    let rule = rule("pg.drop-ack = {}");
    let mut wire = session(slice::from_ref(&rule));
    wire.up(b"Q\0\0").up(b"\0\x01garbage").down(b"whatever");
    assert!(matches!(wire.inspector.opaque(), Some(Opaque::Malformed(_))));
    assert_eq!(wire.server_got(), b"Q\0\0\0\x01garbage");
    assert_eq!(wire.client_got(), b"whatever");
    assert_eq!(counts(&rule), (0, 0, 0, 1));
}

#[test]
fn a_statement_that_nobody_saw_parsed_counts_as_blind() {
    let rule = rule("pg.error = { sqlstate = '40001' }");
    let mut wire = session(slice::from_ref(&rule));
    wire.up([bind("", "made_elsewhere"), execute(""), sync()].concat());
    assert_eq!(counts(&rule), (0, 0, 0, 1));
    assert_eq!(wire.server_got(), [bind("", "made_elsewhere"), execute(""), sync()].concat());
}

#[test]
fn rules_that_come_later_know_the_statements_of_before() {
    let mut wire = session(&[]);
    wire.up([parse("s1", "UPDATE stock SET n = 1"), sync()].concat())
        .down([parse_complete(), ready(b'I')].concat());
    let rule = rule("pg.error = { sqlstate = '40001', match = 'UPDATE stock' }");
    let mut out = vec![];
    wire.inspector.set_rules(slice::from_ref(&rule), &mut out);
    wire.up([bind("", "s1"), execute(""), sync()].concat());
    assert_eq!(counts(&rule).0, 1);
}

#[test]
fn a_rule_does_not_act_on_half_a_message() {
    let mut wire = session(&[]);
    let commit = query("COMMIT");
    wire.up(&commit[..7]);
    assert_eq!(wire.to_server.len(), 7, "without rules nothing is kept back");
    let rule = rule("pg.reset = {}");
    wire.inspector.set_rules(slice::from_ref(&rule), &mut vec![]);
    wire.up(&commit[7..]);
    assert_eq!((wire.server_got(), counts(&rule)), (commit, (0, 0, 0, 0)));
    wire.up(query("SELECT 1"));
    assert_eq!(wire.end, Some(Output::Reset));
}

#[test]
fn a_large_statement_is_decided_by_its_beginning() {
    let rule = rule("pg.error = { sqlstate = '53100', match = 'INSERT INTO blobs' }");
    let mut wire = session(slice::from_ref(&rule));
    let large = query(&format!("INSERT INTO blobs VALUES ('{}')", "x".repeat(1_000_000)));
    for chunk in large.chunks(4096) {
        wire.up(chunk);
        assert!(wire.inspector.held_bytes() <= chaos::protocol::LOOK_BYTES_MAX);
    }
    assert_eq!(wire.server_got(), query("failed by chaos"));
    assert_eq!(rule.counters.read().swallowed_bytes, large.len() as u64);
}

#[test]
fn an_incomplete_message_goes_out_with_the_end_of_its_stream() {
    let mut wire = session(&[rule("pg.drop-ack = {}")]);
    wire.up(&query("COMMIT")[..6]);
    assert_eq!(wire.server_got(), b"");
    wire.finish(Way::Upstream);
    assert_eq!(wire.server_got(), &query("COMMIT")[..6]);
}
