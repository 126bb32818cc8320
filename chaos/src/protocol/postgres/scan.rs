//! Where messages of PostgreSQL's protocol end: a length behind a type byte, or, before a session starts, a bare length.

use super::super::session::Scan;
use super::super::{Opaque, Way};

/// First byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// The server's own bound for a startup message.
const STARTUP_BYTES_MAX: u32 = 10_000;

/// How the next message of a way begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shape {
    /// Length and code, without a type.
    #[default]
    Startup,
    /// Type and length.
    Typed,
    /// The single byte that answers a request for encryption.
    Answer,
}

/// Scans one way; holds a header and no more.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    pub shape: Shape,
    header: [u8; 8],
    have: usize,
    /// Bytes of the message behind those scanned; set once the header is complete.
    left: Option<u64>,
    total: u64,
}

impl Scanner {
    pub fn scan(&mut self, way: Way, bytes: &[u8]) -> Scan {
        let mut used = 0;
        if self.left.is_none() {
            while self.have < self.header_size() {
                let Some(byte) = bytes.get(used) else { return Scan::More };
                self.header[self.have] = *byte;
                self.have += 1;
                used += 1;
                if self.have == 1
                    && let Some(why) = self.wrong_start(way, *byte)
                {
                    return Scan::Opaque(why);
                }
            }
            match self.length() {
                Ok(total) => {
                    self.total = total;
                    self.left = Some(total - self.have as u64);
                }
                Err(why) => return Scan::Opaque(why),
            }
        }
        let left = self.left.unwrap_or_default();
        let here = (bytes.len() - used) as u64;
        if left > here {
            self.left = Some(left - here);
            return Scan::More;
        }
        self.left = None;
        self.have = 0;
        // `left` is at most the length of a slice.
        Scan::End(used + left as usize)
    }

    /// Nothing of the next message has come.
    pub fn at_boundary(&self) -> bool {
        self.have == 0
    }

    /// Bytes that have to be there to decide the message.
    pub fn look(&self, way: Way) -> usize {
        // At the end of a message the header is forgotten, but then all of it is there.
        if self.left.is_none() || self.shape != Shape::Typed {
            return usize::MAX;
        }
        let whole = match way {
            Way::Upstream => matches!(self.header[0], b'Q' | b'P' | b'B' | b'E' | b'C' | b'D'),
            Way::Downstream => matches!(self.header[0], b'C' | b'E' | b'Z'),
        };
        if whole { usize::try_from(self.total).unwrap_or(usize::MAX) } else { self.header_size() }
    }

    fn header_size(&self) -> usize {
        match self.shape {
            Shape::Startup => 8,
            Shape::Typed => 5,
            Shape::Answer => 1,
        }
    }

    fn wrong_start(&self, way: Way, byte: u8) -> Option<Opaque> {
        match (self.shape, way) {
            (Shape::Startup, _) if byte == TLS_HANDSHAKE => Some(Opaque::Encrypted),
            (Shape::Startup, _) if byte != 0 => Some(Opaque::Malformed("a startup message is not that long")),
            (Shape::Typed, way) if super::message::name(way, byte).is_none() => {
                Some(Opaque::Malformed("a type that no message has"))
            }
            (Shape::Answer, _) if !matches!(byte, b'S' | b'G' | b'N') => {
                Some(Opaque::Malformed("no answer to a request for encryption"))
            }
            _ => None,
        }
    }

    /// Length of the message with its header, by a complete header.
    fn length(&self) -> Result<u64, Opaque> {
        let number = |at: usize| {
            u32::from_be_bytes([
                self.header[at],
                self.header[at + 1],
                self.header[at + 2],
                self.header[at + 3],
            ])
        };
        match self.shape {
            Shape::Answer => Ok(1),
            Shape::Startup => match number(0) {
                length @ 8..=STARTUP_BYTES_MAX => Ok(u64::from(length)),
                _ => Err(Opaque::Malformed("a startup message is not that long")),
            },
            Shape::Typed => match number(1) {
                length @ 4..=0x7fff_ffff => Ok(u64::from(length) + 1),
                _ => Err(Opaque::Malformed("a message has 4 bytes to 2 GiB")),
            },
        }
    }
}
