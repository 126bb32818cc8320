//! A connection with an inspector between its two ends, and the bytes that clients and servers write.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chaos::protocol::fault::WireFault;
use chaos::protocol::inspector::{Inspector, Output};
use chaos::protocol::rule::{Counts, Did, Report, Rule};
use chaos::protocol::{Protocol, Way};
use tokio::time::Instant;

pub mod talk;

/// What came out of an inspector.
pub struct Wire {
    pub inspector: Inspector,
    pub start: Instant,
    pub now: Instant,
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
    pub holds: Vec<(Way, Duration)>,
    pub reports: Vec<Report>,
    pub end: Option<Output>,
}

impl Wire {
    pub fn new(protocol: Protocol, rules: &[Arc<Rule>]) -> Wire {
        let now = Instant::now();
        let mut inspector = Inspector::new(protocol, rules, 1);
        inspector.read_along();
        Wire {
            inspector,
            start: now,
            now,
            to_server: vec![],
            to_client: vec![],
            holds: vec![],
            reports: vec![],
            end: None,
        }
    }

    pub fn up(&mut self, bytes: impl AsRef<[u8]>) -> &mut Wire {
        self.feed(Way::Upstream, bytes.as_ref())
    }

    pub fn down(&mut self, bytes: impl AsRef<[u8]>) -> &mut Wire {
        self.feed(Way::Downstream, bytes.as_ref())
    }

    fn feed(&mut self, way: Way, bytes: &[u8]) -> &mut Wire {
        assert!(self.end.is_none(), "the connection has ended");
        let mut out = vec![];
        self.inspector.feed(way, Bytes::copy_from_slice(bytes), self.now, &mut out);
        self.take(out)
    }

    pub fn finish(&mut self, way: Way) -> &mut Wire {
        let mut out = vec![];
        self.inspector.end(way, &mut out);
        self.take(out)
    }

    pub fn take(&mut self, out: Vec<Output>) -> &mut Wire {
        for output in out {
            assert!(self.end.is_none(), "{output:?} follows {:?}", self.end);
            match output {
                Output::Forward { way, bytes } | Output::Inject { way, bytes } => match way {
                    Way::Upstream => self.to_server.extend_from_slice(&bytes),
                    Way::Downstream => self.to_client.extend_from_slice(&bytes),
                },
                Output::Hold { way, until } => self.holds.push((way, until - self.now)),
                Output::Report(report) => self.reports.push(report),
                end @ (Output::Reset | Output::Close) => self.end = Some(end),
            }
        }
        self
    }

    /// What was sent to the server since the last call.
    pub fn server_got(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_server)
    }

    /// What was sent to the client since the last call.
    pub fn client_got(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_client)
    }

    /// The messages since the last call, each in a line.
    pub fn read(&mut self) -> Vec<String> {
        self.inspector.messages().into_iter().map(|message| message.what).collect()
    }

    pub fn acted(&self) -> usize {
        self.reports.iter().filter(|report| report.did == Did::Acted).count()
    }
}

/// A rule from the TOML of a scenario: `pg.error = { sqlstate = "40001" }`.
pub fn rule(toml: &str) -> Arc<Rule> {
    fault(toml).unwrap_or_else(|error| panic!("{toml}: {error}")).rule(7)
}

pub fn fault(toml: &str) -> Result<WireFault, String> {
    #[derive(serde::Deserialize)]
    struct Scenario {
        inject: WireFault,
    }
    toml::from_str::<Scenario>(&format!("inject.{toml}"))
        .map(|scenario| scenario.inject)
        .map_err(|error| error.message().to_owned())
}

pub fn counts(rule: &Rule) -> (u64, u64, u64, u64) {
    let Counts { matched, acted, missed, blind, .. } = rule.counters.read();
    (matched, acted, missed, blind)
}

/// PostgreSQL's messages.
pub mod pg {
    pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 4).expect("a short message");
        [&[kind][..], &size.to_be_bytes(), body].concat()
    }

    fn startup(code: u32, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 8).expect("a short message");
        [&size.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    pub fn start() -> Vec<u8> {
        startup(196_608, b"user\0me\0database\0shop\0\0")
    }

    pub fn ssl() -> Vec<u8> {
        startup(80_877_103, b"")
    }

    pub fn gss() -> Vec<u8> {
        startup(80_877_104, b"")
    }

    pub fn cancel() -> Vec<u8> {
        startup(80_877_102, b"\0\0\0\x01\0\0\0\x02")
    }

    pub fn query(text: &str) -> Vec<u8> {
        message(b'Q', &[text.as_bytes(), b"\0"].concat())
    }

    pub fn parse(name: &str, text: &str) -> Vec<u8> {
        message(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"].concat())
    }

    pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
        message(b'B', &[portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
    }

    pub fn execute(portal: &str) -> Vec<u8> {
        message(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"].concat())
    }

    pub fn sync() -> Vec<u8> {
        message(b'S', b"")
    }

    pub fn ready(status: u8) -> Vec<u8> {
        message(b'Z', &[status])
    }

    pub fn complete(tag: &str) -> Vec<u8> {
        message(b'C', &[tag.as_bytes(), b"\0"].concat())
    }

    pub fn error(sqlstate: &str) -> Vec<u8> {
        message(b'E', &[b"SERROR\0C", sqlstate.as_bytes(), b"\0Mno\0\0"].concat())
    }

    pub fn parse_complete() -> Vec<u8> {
        message(b'1', b"")
    }

    pub fn bind_complete() -> Vec<u8> {
        message(b'2', b"")
    }

    pub fn row() -> Vec<u8> {
        message(b'D', b"\0\x01\0\0\0\x01x")
    }

    /// The server's side of a start: authentication, a parameter, the key, ready.
    pub fn started() -> Vec<u8> {
        [message(b'R', &[0; 4]), message(b'S', b"TimeZone\0UTC\0"), message(b'K', &[0; 8]), ready(b'I')]
            .concat()
    }

    /// Types of messages, a letter each.
    pub fn types(mut bytes: &[u8]) -> String {
        let mut types = String::new();
        while let [kind, rest @ ..] = bytes {
            let size = u32::from_be_bytes(rest[..4].try_into().expect("a length")) as usize;
            types.push(char::from(*kind));
            bytes = &rest[size..];
        }
        types
    }

    /// Types of what a client got, with the codes of errors and the status of ReadyForQuery.
    pub fn kinds(mut bytes: &[u8]) -> String {
        let mut kinds = String::new();
        while let [kind, rest @ ..] = bytes {
            let size = u32::from_be_bytes(rest[..4].try_into().expect("a length")) as usize;
            kinds.push(char::from(*kind));
            if *kind == b'E' {
                let body = String::from_utf8_lossy(&rest[4..size]).into_owned();
                let code =
                    body.split('\0').find_map(|field| field.strip_prefix('C')).expect("a code").to_owned();
                kinds.push_str(&format!("({code})"));
            }
            if *kind == b'Z' {
                kinds.push_str(&format!("({})", char::from(rest[4])));
            }
            bytes = &rest[size..];
        }
        kinds
    }
}

/// Redis's messages.
pub mod redis {
    pub fn command(words: &[&str]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(bulk(word));
        }
        bytes
    }

    pub fn bulk(text: &str) -> Vec<u8> {
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    /// What the server gets instead of a command that fails.
    pub fn refused() -> Vec<u8> {
        command(&["chaos.refused"])
    }

    /// What the server says to that.
    pub const UNKNOWN: &str = "-ERR unknown command 'chaos.refused', with args beginning with: \r\n";
}

/// NATS's messages.
pub mod nats {
    pub const HEADERS: &str = "NATS/1.0\r\nA: b\r\n\r\n";

    fn with_body(words: &[&str], body: &str) -> Vec<u8> {
        let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
        format!("{} {}\r\n{body}\r\n", words.join(" "), body.len()).into_bytes()
    }

    /// `reply` may be empty.
    pub fn publish(subject: &str, reply: &str, body: &str) -> Vec<u8> {
        with_body(&["PUB", subject, reply], body)
    }

    pub fn hpub(subject: &str, reply: &str, body: &str) -> Vec<u8> {
        let size = HEADERS.len().to_string();
        with_body(&["HPUB", subject, reply, &size], &[HEADERS, body].concat())
    }

    pub fn msg(subject: &str, reply: &str, body: &str) -> Vec<u8> {
        with_body(&["MSG", subject, "1", reply], body)
    }

    pub fn hmsg(subject: &str, reply: &str, body: &str) -> Vec<u8> {
        let size = HEADERS.len().to_string();
        with_body(&["HMSG", subject, "1", reply, &size], &[HEADERS, body].concat())
    }

    pub fn info(more: &str) -> Vec<u8> {
        format!("INFO {{\"server_id\":\"N\",\"headers\":true{more}}} \r\n").into_bytes()
    }

    /// JetStream's acknowledgement of a publish with this reply subject.
    pub fn ack(reply: &str, seq: u64) -> Vec<u8> {
        msg(reply, "", &format!("{{\"stream\":\"ORDERS\", \"seq\":{seq}}}"))
    }
}
