//! Strings with the escapes of JSON, bytes in hexadecimal, and JSON that is JSON already.

use super::Error;
use super::number::hex;

/// Appends `null`.
#[inline]
pub fn write_null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"null");
}

/// Appends `text` as a JSON string.
#[inline]
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    quoted(text.as_bytes(), out);
}

/// Appends `name` as the key of a JSON object, with its colon.
#[inline]
pub fn write_key(name: &str, out: &mut Vec<u8>) {
    write_string(name, out);
    out.push(b':');
}

/// Text of a database. Its encoding is checked: a database in SQL_ASCII sends what it has.
pub(super) fn text(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if !quoted(raw, out) && std::str::from_utf8(raw).is_err() {
        return Err(Error::malformed("UTF-8"));
    }
    Ok(())
}

/// What `to_json` gives for `bytea`: its text in hexadecimal, whose backslash is escaped.
pub(super) fn bytea(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    out.reserve(raw.len() * 2 + 5);
    out.extend_from_slice(br#""\\x"#);
    let start = out.len();
    out.resize(start + raw.len() * 2, 0);
    let (digits, _) = out[start..].as_chunks_mut();
    for (digits, byte) in digits.iter_mut().zip(raw) {
        *digits = hex(*byte);
    }
    out.push(b'"');
    Ok(())
}

/// PostgreSQL keeps the text of a `json` and has checked it.
pub(super) fn json(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if raw.is_empty() || std::str::from_utf8(raw).is_err() {
        return Err(Error::malformed("json"));
    }
    out.extend_from_slice(raw);
    Ok(())
}

/// The version of the format comes first, then the text.
pub(super) fn jsonb(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    match raw {
        [1, text @ ..] => json(text, out),
        _ => Err(Error::malformed("jsonb")),
    }
}

const WORD: usize = size_of::<u64>();
const ONES: u64 = u64::MAX / 255;
/// The high bit of each byte, which ASCII does not use.
const HIGH: u64 = ONES << 7;

/// The string between its quotes; answers whether it is ASCII. What needs no escape, which is nearly everything, is
/// found by words and copied at once; behind the first escape words are copied one by one, because runs are short there.
fn quoted(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(text.len() + WORD + 2);
    out.push(b'"');
    let (plain, seen) = plain_length(text);
    let (plain, rest) = text.split_at(plain);
    out.extend_from_slice(plain);
    let rest_is_ascii = rest.is_empty() || escaped(rest, out);
    out.push(b'"');
    rest_is_ascii && seen & HIGH == 0
}

/// Bytes at the beginning of which none has to be escaped, and the bits that are in what was looked at. These are all
/// bytes, or those before the word that has one to escape.
fn plain_length(text: &[u8]) -> (usize, u64) {
    let (words, tail) = text.as_chunks::<WORD>();
    let mut seen = 0;
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        seen |= word;
        if escapes_in(word) != 0 {
            return (index * WORD, seen);
        }
    }
    let last = match text.last_chunk::<WORD>() {
        // Overlaps the word before it, which is cheaper than bytes one by one.
        Some(last) => u64::from_le_bytes(*last),
        None => tail.iter().fold(ONES * b' ' as u64, |word, byte| word << 8 | u64::from(*byte)),
    };
    let plain = if escapes_in(last) == 0 { text.len() } else { words.len() * WORD };
    (plain, seen | last)
}

/// Escapes what needs it; answers whether all is ASCII.
fn escaped(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = text;
    let mut seen = 0;
    while let Some((word, after)) = rest.split_first_chunk::<WORD>() {
        let bits = u64::from_le_bytes(*word);
        seen |= bits;
        let found = escapes_in(bits);
        out.extend_from_slice(word);
        if found == 0 {
            rest = after;
            continue;
        }
        let plain = found.trailing_zeros() as usize / 8;
        out.truncate(out.len() - (WORD - plain));
        escape(rest[plain], out);
        rest = &rest[plain + 1..];
    }
    for byte in rest {
        seen |= u64::from(*byte);
        if needs_escape(*byte) { escape(*byte, out) } else { out.push(*byte) }
    }
    seen & HIGH == 0
}

/// The high bit of the lowest byte that needs an escape is set, and of none below it. Bytes above may be marked wrongly,
/// because a borrow goes upwards.
const fn escapes_in(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20);
    (control | quote.wrapping_sub(ONES) | backslash.wrapping_sub(ONES)) & !word & HIGH
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[inline]
fn escape(byte: u8, out: &mut Vec<u8>) {
    match SHORT[usize::from(byte)] {
        0 => {
            let [high, low] = hex(byte);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
        short => out.extend_from_slice(&[b'\\', short]),
    }
}

/// The letter behind the backslash; 0 for the bytes that have none.
const SHORT: [u8; 256] = {
    let mut short = [0; 256];
    short[b'"' as usize] = b'"';
    short[b'\\' as usize] = b'\\';
    short[0x08] = b'b';
    short[0x09] = b't';
    short[0x0a] = b'n';
    short[0x0c] = b'f';
    short[0x0d] = b'r';
    short
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(text: &str) -> String {
        let mut out = Vec::new();
        write_string(text, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    /// Any byte that JSON cares for, at any place of a word, among bytes of one to four.
    fn texts() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            6 => proptest::char::range('a', 'z'),
            2 => proptest::char::range('\0', '\u{80}'),
            1 => prop_oneof![Just('"'), Just('\\'), Just('\u{1f}'), Just('!'), Just('\u{7f}')],
            1 => any::<char>(),
        ];
        proptest::collection::vec(character, 0..70).prop_map(String::from_iter)
    }

    #[test]
    fn every_character_of_one_byte_at_every_place_of_a_word() {
        for byte in 0..128_u8 {
            for place in 0..40 {
                let mut text = vec![b'x'; 40];
                text[place] = byte;
                let text = String::from_utf8(text).expect("ASCII");
                assert_eq!(string(&text), serde_json::to_string(&text).expect("JSON"), "{byte} at {place}");
            }
        }
    }

    #[test]
    fn a_key_is_a_string_and_a_colon() {
        let mut out = Vec::new();
        write_key("na\"me", &mut out);
        write_null(&mut out);
        assert_eq!(out, br#""na\"me":null"#);
    }

    #[test]
    fn text_in_another_encoding_is_malformed() {
        let mut out = Vec::new();
        for broken in
            [&b"plain, then \xe4"[..], b"\xe4 and then plain", b"a \"word\" with \xe4 in it", b"\"\xe4"]
        {
            assert_eq!(text(broken, &mut Vec::new()), Err(Error::malformed("UTF-8")), "{broken:?}");
        }
        assert_eq!(json(b"\"\xe4\"", &mut out), Err(Error::malformed("json")));
        assert_eq!(jsonb(b"\x01\"\xe4\"", &mut out), Err(Error::malformed("json")));
        assert_eq!(out, b"");
    }

    #[test]
    fn json_is_spliced_as_it_is() {
        let mut out = Vec::new();
        let text = b"{\"b\" : 1e400,\n\"b\":\"\\u0000\"}";
        json(text, &mut out).expect("JSON");
        assert_eq!(out, text);
        out.clear();
        jsonb(b"\x01[1, 2]", &mut out).expect("JSON");
        assert_eq!(out, b"[1, 2]");
        for raw in [&b""[..], b"\x01", b"\x02{}", b"{}"] {
            assert!(jsonb(raw, &mut out).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn bytes_are_hexadecimal() {
        let mut out = Vec::new();
        bytea(&[0, 0x7f, 0xab, 0xff], &mut out).expect("bytes");
        assert_eq!(out, br#""\\x007fabff""#);
    }

    proptest! {
        #[test]
        fn strings_are_escaped_as_the_standard_says(text in texts()) {
            prop_assert_eq!(string(&text), serde_json::to_string(&text).expect("JSON"));
        }

        #[test]
        fn any_bytes_are_a_string_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            match text(&raw, &mut out) {
                Ok(()) => {
                    let read: String = serde_json::from_slice(&out).expect("JSON");
                    prop_assert_eq!(read.as_bytes(), raw.as_slice());
                }
                Err(_) => prop_assert!(std::str::from_utf8(&raw).is_err()),
            }
        }
    }
}
