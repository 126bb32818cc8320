//! Strings with the escapes of JSON, bytes in hexadecimal, and JSON that is JSON already.

use super::Error;

const HEX: &[u8; 16] = b"0123456789abcdef";

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
    std::str::from_utf8(raw).map_err(|_| Error::malformed("UTF-8"))?;
    quoted(raw, out);
    Ok(())
}

/// What `to_json` gives for `bytea`: its text in hexadecimal, whose backslash is escaped.
pub(super) fn bytea(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    out.reserve(raw.len() * 2 + 5);
    out.extend_from_slice(br#""\\x"#);
    out.extend(raw.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
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

/// The string between its quotes. What needs no escape, which is nearly everything, is copied in runs.
fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    loop {
        let plain = plain_length(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(byte) = rest.get(plain) else { break };
        escape(*byte, out);
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

/// Bytes before the first that has to be escaped.
fn plain_length(text: &[u8]) -> usize {
    const WORD: usize = size_of::<u64>();
    let words = text.chunks_exact(WORD);
    let tail = words.remainder();
    for (index, word) in words.enumerate() {
        let found = escaped_in(u64::from_le_bytes(word.try_into().expect("a word has its length")));
        if found != 0 {
            return index * WORD + found.trailing_zeros() as usize / 8;
        }
    }
    let before = text.len() - tail.len();
    before + tail.iter().position(|byte| needs_escape(*byte)).unwrap_or(tail.len())
}

/// The high bit of the lowest byte that needs an escape is set, and of none below it. Bytes above may be marked wrongly,
/// because a borrow goes upwards.
const fn escaped_in(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20);
    (control | quote.wrapping_sub(ONES) | backslash.wrapping_sub(ONES)) & !word & HIGH
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cold]
fn escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

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
        assert_eq!(text(b"plain, then \xe4", &mut out), Err(Error::malformed("UTF-8")));
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
                Err(_) => prop_assert!(out.is_empty()),
            }
        }
    }
}
