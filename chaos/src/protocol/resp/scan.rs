//! Where commands and replies of Redis end: RESP 2 and 3, and inline commands. Holds the counts of the arrays it is in.

use super::super::session::Scan;
use super::super::{Opaque, Way};

const TLS_HANDSHAKE: u8 = 0x16;
/// Arrays in arrays; Redis itself nests a handful.
const DEPTH_MAX: usize = 32;
/// Longest line: inline commands, simple strings and errors.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// An array, map or the like that is not complete.
#[derive(Debug, Clone, Copy)]
struct Open {
    left: u64,
    /// Attributes stand before the value that they describe and are no value themselves.
    attribute: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Before a value.
    #[default]
    Value,
    /// In a line that ends a value, with so many bytes so far; true after a carriage return.
    Line(usize, bool),
    /// In an inline command.
    Inline(usize),
    Number(Number),
    /// In a string, with so many bytes to come, its line end included.
    String(u64),
}

/// A length or a count, digit by digit.
#[derive(Debug, Clone, Copy)]
struct Number {
    of: u8,
    value: u64,
    digits: u8,
    negative: bool,
    ended: bool,
}

/// Scans one way.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    open: Vec<Open>,
    state: State,
    begun: bool,
}

/// What a value's line leads to.
enum Next {
    State(State),
    Complete,
}

impl Scanner {
    pub fn scan(&mut self, way: Way, bytes: &[u8]) -> Scan {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::String(left) => {
                    let here = (bytes.len() - at) as u64;
                    if left > here {
                        self.state = State::String(left - here);
                        return Scan::More;
                    }
                    // At most the length of a slice.
                    at += left as usize;
                    if self.completed() {
                        return Scan::End(at);
                    }
                    continue;
                }
                State::Inline(size) => match bytes[at..].iter().position(|byte| *byte == b'\n') {
                    Some(end) if size + end < LINE_BYTES_MAX => {
                        self.reset();
                        return Scan::End(at + end + 1);
                    }
                    None if size + bytes.len() - at <= LINE_BYTES_MAX => {
                        self.state = State::Inline(size + bytes.len() - at);
                        return Scan::More;
                    }
                    _ => return Scan::Opaque(Opaque::Beyond("an inline command's length")),
                },
                _ => {}
            }
            match self.byte(way, bytes[at]) {
                Ok(Next::State(state)) => self.state = state,
                Ok(Next::Complete) => {
                    if self.completed() {
                        return Scan::End(at + 1);
                    }
                }
                Err(why) => return Scan::Opaque(why),
            }
            at += 1;
        }
        Scan::More
    }

    fn byte(&mut self, way: Way, byte: u8) -> Result<Next, Opaque> {
        match self.state {
            State::Value => {
                let first = !std::mem::replace(&mut self.begun, true);
                match way {
                    Way::Upstream if first => start_of_command(byte),
                    Way::Upstream if byte == b'$' => Ok(Next::State(number(byte))),
                    Way::Upstream => Err(Opaque::Malformed("an argument that is no bulk string")),
                    Way::Downstream => start_of_value(byte),
                }
            }
            State::Line(size, returned) => match byte {
                b'\n' if returned => Ok(Next::Complete),
                _ if returned => Err(Opaque::Malformed("a line that ends with half a line end")),
                _ if size >= LINE_BYTES_MAX => Err(Opaque::Beyond("a line's length")),
                b'\n' => Err(Opaque::Malformed("a line that ends with half a line end")),
                byte => Ok(Next::State(State::Line(size + 1, byte == b'\r'))),
            },
            State::Number(number) => self.number(number, byte),
            State::String(_) | State::Inline(_) => Err(Opaque::Malformed("a string")),
        }
    }

    fn number(&mut self, mut number: Number, byte: u8) -> Result<Next, Opaque> {
        match byte {
            b'\n' if number.ended && number.digits > 0 => return self.counted(number),
            b'\r' if !number.ended => number.ended = true,
            b'-' if number.digits == 0 && !number.negative && !number.ended => number.negative = true,
            b'?' if number.digits == 0 => return Err(Opaque::Unsupported("values of unknown length")),
            b'0'..=b'9' if number.digits < 18 && !number.ended => {
                number.value = number.value * 10 + u64::from(byte - b'0');
                number.digits += 1;
            }
            _ => return Err(Opaque::Malformed("a length that is no number")),
        }
        Ok(Next::State(State::Number(number)))
    }

    /// The line with a length or a count is complete.
    fn counted(&mut self, number: Number) -> Result<Next, Opaque> {
        let aggregate = matches!(number.of, b'*' | b'%' | b'~' | b'>' | b'|');
        if number.negative {
            return match (number.value, number.of) {
                (1, b'$' | b'*') => Ok(Next::Complete),
                _ => Err(Opaque::Malformed("a negative length")),
            };
        }
        if !aggregate {
            return Ok(Next::State(State::String(number.value + 2)));
        }
        let attribute = number.of == b'|';
        let left = if matches!(number.of, b'%' | b'|') { number.value * 2 } else { number.value };
        if left == 0 {
            return Ok(if attribute { Next::State(State::Value) } else { Next::Complete });
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Opaque::Beyond("the depth of arrays"));
        }
        self.open.push(Open { left, attribute });
        Ok(Next::State(State::Value))
    }

    /// A value is complete. True when the message is.
    fn completed(&mut self) -> bool {
        self.state = State::Value;
        while let Some(open) = self.open.last_mut() {
            open.left -= 1;
            if open.left > 0 {
                return false;
            }
            let attribute = open.attribute;
            self.open.pop();
            if attribute {
                return false;
            }
        }
        self.reset();
        true
    }

    fn reset(&mut self) {
        self.state = State::Value;
        self.begun = false;
        // A message that was deeply nested gives its memory back.
        self.open.shrink_to(4);
    }
}

fn number(of: u8) -> State {
    State::Number(Number { of, value: 0, digits: 0, negative: false, ended: false })
}

fn start_of_command(byte: u8) -> Result<Next, Opaque> {
    match byte {
        b'*' => Ok(Next::State(number(byte))),
        TLS_HANDSHAKE => Err(Opaque::Encrypted),
        b'\n' => Ok(Next::Complete),
        b'\r' | b' '..=b'~' => Ok(Next::State(State::Inline(1))),
        _ => Err(Opaque::Malformed("no command")),
    }
}

fn start_of_value(byte: u8) -> Result<Next, Opaque> {
    match byte {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(Next::State(State::Line(0, false))),
        b'$' | b'!' | b'=' | b'*' | b'%' | b'~' | b'>' | b'|' => Ok(Next::State(number(byte))),
        _ => Err(Opaque::Malformed("a type that no reply has")),
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
    fn replies_of_all_kinds_end_where_they_end() {
        for reply in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-1\r\n",
            "$5\r\nhel\r\n\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
            "%1\r\n+a\r\n%1\r\n+b\r\n_\r\n",
            "~2\r\n#t\r\n,3.14\r\n",
            ">2\r\n+message\r\n(123\r\n",
            "|1\r\n+ttl\r\n:3\r\n*1\r\n|0\r\n+x\r\n",
            "=8\r\ntxt:some\r\n",
            "!4\r\nERR \r\n",
        ] {
            let twice = [reply, reply].concat();
            assert_eq!(sizes(Way::Downstream, twice.as_bytes()), Ok(vec![reply.len(); 2]), "{reply:?}");
        }
    }

    #[test]
    fn commands_are_arrays_or_lines() {
        assert_eq!(sizes(Way::Upstream, b"*1\r\n$4\r\nPING\r\nPING\r\n\r\nGET x\n"), Ok(vec![14, 6, 2, 6]));
        assert_eq!(
            sizes(Way::Upstream, b"*1\r\n:1\r\n"),
            Err(Opaque::Malformed("an argument that is no bulk string"))
        );
        assert_eq!(sizes(Way::Upstream, b"\x16\x03\x01"), Err(Opaque::Encrypted));
    }

    #[test]
    fn depth_and_lines_are_bounded() {
        assert_eq!(
            sizes(Way::Downstream, "*1\r\n".repeat(40).as_bytes()),
            Err(Opaque::Beyond("the depth of arrays"))
        );
        let line = ["+", &"x".repeat(LINE_BYTES_MAX + 1)].concat();
        assert_eq!(sizes(Way::Downstream, line.as_bytes()), Err(Opaque::Beyond("a line's length")));
        assert!(matches!(sizes(Way::Downstream, b"$99999999999999999999\r\n"), Err(Opaque::Malformed(_))));
    }
}
