//! Where messages of NATS end: a control line, and behind some a payload whose length the line names.

use super::super::session::Scan;
use super::super::{Opaque, Way};

const TLS_HANDSHAKE: u8 = 0x16;
/// INFO and CONNECT are the long ones; a server takes 4 KiB of others by default.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Servers allow 64 MiB at most.
const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Verb {
    Info,
    Connect,
    Pub,
    Hpub,
    Sub,
    Unsub,
    Msg,
    Hmsg,
    Ping,
    Pong,
    Ok,
    Err,
}

impl Verb {
    pub const ALL: [Verb; 12] = [
        Verb::Info,
        Verb::Connect,
        Verb::Pub,
        Verb::Hpub,
        Verb::Sub,
        Verb::Unsub,
        Verb::Msg,
        Verb::Hmsg,
        Verb::Ping,
        Verb::Pong,
        Verb::Ok,
        Verb::Err,
    ];

    /// As the documentation writes it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Info => "INFO",
            Verb::Connect => "CONNECT",
            Verb::Pub => "PUB",
            Verb::Hpub => "HPUB",
            Verb::Sub => "SUB",
            Verb::Unsub => "UNSUB",
            Verb::Msg => "MSG",
            Verb::Hmsg => "HMSG",
            Verb::Ping => "PING",
            Verb::Pong => "PONG",
            Verb::Ok => "+OK",
            Verb::Err => "-ERR",
        }
    }

    /// Verbs that a peer sends on this way.
    pub fn parse(way: Way, word: &[u8]) -> Option<Verb> {
        use Verb::{Connect, Err, Hmsg, Hpub, Info, Msg, Ok, Ping, Pong, Pub, Sub, Unsub};
        let known: &[Verb] = match way {
            Way::Upstream => &[Connect, Pub, Hpub, Sub, Unsub, Ping, Pong],
            Way::Downstream => &[Info, Msg, Hmsg, Ping, Pong, Ok, Err],
        };
        known.iter().copied().find(|verb| word.eq_ignore_ascii_case(verb.name().as_bytes()))
    }

    fn carries(self) -> bool {
        matches!(self, Verb::Pub | Verb::Hpub | Verb::Msg | Verb::Hmsg)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Line,
    /// Bytes of the payload to come.
    Payload(u64),
    /// Its line end: 0 before the return, 1 behind it.
    End(u8),
}

/// Scans one way.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    word: [u8; 8],
    word_size: usize,
    verb: Option<Verb>,
    line: usize,
    /// The number that the last word of the line is, so far.
    number: Option<u64>,
    between: bool,
    payload: u64,
    /// Length of the message, once its line is complete.
    total: Option<u64>,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner {
            state: State::Line,
            word: [0; 8],
            word_size: 0,
            verb: None,
            line: 0,
            number: None,
            between: true,
            payload: 0,
            total: None,
        }
    }
}

impl Scanner {
    pub fn scan(&mut self, way: Way, bytes: &[u8]) -> Scan {
        let mut at = 0;
        if self.state == State::Line && self.line == 0 {
            self.begin();
        }
        while at < bytes.len() {
            let byte = bytes[at];
            match self.state {
                State::Payload(left) => {
                    let here = (bytes.len() - at) as u64;
                    if left > here {
                        self.state = State::Payload(left - here);
                        return Scan::More;
                    }
                    // At most the length of a slice.
                    at += left as usize;
                    self.state = State::End(0);
                    continue;
                }
                State::End(0) if byte == b'\r' => self.state = State::End(1),
                State::End(1) if byte == b'\n' => {
                    self.state = State::Line;
                    self.line = 0;
                    return Scan::End(at + 1);
                }
                State::End(_) => return Scan::Opaque(Opaque::Malformed("a payload longer than announced")),
                State::Line => match self.line_byte(way, byte) {
                    Ok(false) => {}
                    Ok(true) => return Scan::End(at + 1),
                    Err(why) => return Scan::Opaque(why),
                },
            }
            at += 1;
        }
        Scan::More
    }

    fn begin(&mut self) {
        *self = Scanner::default();
    }

    /// True when the message ends with this byte of its line.
    fn line_byte(&mut self, way: Way, byte: u8) -> Result<bool, Opaque> {
        if self.line == 0 && byte == TLS_HANDSHAKE {
            return Err(Opaque::Encrypted);
        }
        self.line += 1;
        if self.line > LINE_BYTES_MAX {
            return Err(Opaque::Beyond("a control line's length"));
        }
        if byte == b'\n' {
            return self.line_end(way);
        }
        if self.verb.is_none() {
            match byte {
                b' ' | b'\t' | b'\r' => self.verb = Some(self.known(way)?),
                _ if self.word_size == self.word.len() => return Err(Opaque::Malformed("no such verb")),
                _ => {
                    self.word[self.word_size] = byte;
                    self.word_size += 1;
                }
            }
            return Ok(false);
        }
        match byte {
            b' ' | b'\t' | b'\r' => self.between = true,
            byte => {
                let before = if std::mem::take(&mut self.between) { Some(0) } else { self.number };
                let digit = |number: u64| (number * 10).checked_add(u64::from(byte - b'0'));
                self.number = match before {
                    Some(number) if byte.is_ascii_digit() && number <= PAYLOAD_BYTES_MAX => digit(number),
                    _ => None,
                };
            }
        }
        Ok(false)
    }

    fn known(&self, way: Way) -> Result<Verb, Opaque> {
        Verb::parse(way, &self.word[..self.word_size]).ok_or(Opaque::Malformed("no such verb"))
    }

    fn line_end(&mut self, way: Way) -> Result<bool, Opaque> {
        let verb = match self.verb {
            Some(verb) => verb,
            None => self.known(way)?,
        };
        self.verb = Some(verb);
        self.total = Some(self.line as u64);
        if !verb.carries() {
            // The next message begins anew; what this one is stays known until then.
            self.line = 0;
            return Ok(true);
        }
        match self.number {
            Some(size @ 0..=PAYLOAD_BYTES_MAX) => {
                self.payload = size;
                self.total = Some(self.line as u64 + size + 2);
                self.state = State::Payload(size);
                Ok(false)
            }
            _ => Err(Opaque::Malformed("a payload without a length")),
        }
    }

    /// Length of the message in bytes, line ends included; `None` while its line is not complete.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Bytes that have to be there to decide the message: its line, and so many bytes behind it.
    pub fn look(&self, behind: usize) -> usize {
        match self.state {
            State::Line => usize::MAX,
            _ => self.line + behind.min(usize::try_from(self.payload).unwrap_or(usize::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(way: Way, mut bytes: &[u8]) -> Result<Vec<usize>, Opaque> {
        let mut scanner = Scanner::default();
        let mut sizes = vec![];
        while !bytes.is_empty() {
            match scanner.scan(way, bytes) {
                Scan::End(count) => {
                    sizes.push(count);
                    bytes = &bytes[count..];
                }
                Scan::More => break,
                Scan::Opaque(why) => return Err(why),
            }
        }
        Ok(sizes)
    }

    #[test]
    fn lines_and_payloads_end_where_they_end() {
        let sent =
            b"CONNECT {}\r\nPUB a 3\r\n\r\n \r\nHPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nsub a 1\r\nPING\r\n";
        assert_eq!(sizes(Way::Upstream, sent), Ok(vec![12, 14, 32, 9, 6]));
        let answered = b"INFO {}\r\nMSG a 1 0\r\n\r\nMSG a 1 r.x 2\r\nhi\r\n+OK\r\n-ERR 'x'\r\nPONG\r\n";
        assert_eq!(sizes(Way::Downstream, answered), Ok(vec![9, 13, 19, 5, 10, 6]));
    }

    #[test]
    fn what_is_not_nats_is_refused_at_once() {
        assert_eq!(sizes(Way::Upstream, b"GET / HTTP/1.1\r\n"), Err(Opaque::Malformed("no such verb")));
        assert_eq!(sizes(Way::Upstream, b"\x16\x03\x01"), Err(Opaque::Encrypted));
        assert_eq!(
            sizes(Way::Upstream, b"PUB a b\r\n"),
            Err(Opaque::Malformed("a payload without a length"))
        );
        assert_eq!(
            sizes(Way::Upstream, b"PUB a 1\r\nxyz"),
            Err(Opaque::Malformed("a payload longer than announced"))
        );
        assert_eq!(
            sizes(Way::Upstream, b"PUB a 99999999999999999999999\r\n"),
            Err(Opaque::Malformed("a payload without a length"))
        );
        // Verbs of the other way.
        assert!(sizes(Way::Downstream, b"PUB a 1\r\nx\r\n").is_err());
    }
}
