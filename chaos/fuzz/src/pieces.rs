//! How an input says what comes on which way of a connection, in which cuts.
//!
//! Bytes stand for themselves. Behind [`MARK`] a byte begins another piece: its way, whether it comes many times, and how many
//! bytes arrive at once. A byte that is put in or taken out moves the bounds of no other piece, and a word of a dictionary
//! stays whole wherever it lands, so that what was learned of one piece is kept while another is changed.

use chaos::protocol::Way;

/// Begins a piece; twice: the byte itself.
pub const MARK: u8 = 0xfe;

const UPSTREAM: u8 = 0x80;
const MANY: u8 = 0x40;
const AT_ONCE: u8 = 0x3f;

/// How often a piece comes that comes many times, and the bytes that it makes of it at most: a few such pieces reach beyond
/// every bound, and more of them only cost time.
const TIMES: usize = 300;
const MANY_BYTES_MAX: usize = 24 * 1024;
const MANY_PIECES_MAX: usize = 4;

/// Bytes that come on a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub way: Way,
    pub bytes: Vec<u8>,
    /// So many arrive at once.
    pub cut: usize,
}

/// The pieces of an input; what stands before the first mark is sent upstream.
pub fn pieces(input: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut control, mut bytes) = (UPSTREAM, Vec::new());
    let mut many = 0;
    let mut rest = input.iter().copied();
    loop {
        match rest.next() {
            Some(MARK) => match rest.next() {
                Some(MARK) => bytes.push(MARK),
                next => {
                    pieces.extend(piece(control, std::mem::take(&mut bytes), &mut many));
                    control = next.unwrap_or(UPSTREAM);
                }
            },
            Some(byte) => bytes.push(byte),
            None => {
                pieces.extend(piece(control, bytes, &mut many));
                return pieces;
            }
        }
    }
}

fn piece(control: u8, bytes: Vec<u8>, many: &mut usize) -> Option<Piece> {
    if bytes.is_empty() {
        return None;
    }
    let way = if control & UPSTREAM == 0 { Way::Downstream } else { Way::Upstream };
    if control & MANY != 0 && *many < MANY_PIECES_MAX {
        *many += 1;
        let bytes = bytes.repeat(TIMES.min(MANY_BYTES_MAX / bytes.len()).max(1));
        return Some(Piece { way, cut: bytes.len(), bytes });
    }
    let cut = match usize::from(control & AT_ONCE) {
        0 => bytes.len(),
        cut => cut,
    };
    Some(Piece { way, bytes, cut })
}
