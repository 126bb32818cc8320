//! UUIDs and ULIDs.

use super::Error;
use super::number::{fixed, hex};

/// Crockford's base 32: no I, L, O and U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ULID_LENGTH: usize = 26;

pub(super) fn uuid(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let id = fixed::<16>(raw, "uuid")?;
    let mut text = *b"\"00000000-0000-0000-0000-000000000000\"";
    for (byte, at) in id.iter().zip([1, 3, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 29, 31, 33, 35]) {
        [text[at], text[at + 1]] = hex(*byte);
    }
    out.extend_from_slice(&text);
    Ok(())
}

/// A ULID that is kept in the 128 bits of a `uuid`.
pub(super) fn ulid_from_uuid(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let id = u128::from_be_bytes(fixed(raw, "uuid")?);
    let mut text = [b'"'; ULID_LENGTH + 2];
    let mut rest = id;
    for character in text[1..=ULID_LENGTH].iter_mut().rev() {
        *character = CROCKFORD[(rest & 31) as usize];
        rest >>= 5;
    }
    out.extend_from_slice(&text);
    Ok(())
}

/// A ULID that is kept as text: checked and written as it stands, so that a filter on it finds it again.
pub(super) fn ulid_from_text(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let fits = raw.len() == ULID_LENGTH
        // The first character has three of the 128 bits.
        && matches!(raw[0], b'0'..=b'7')
        && raw.iter().all(|character| CROCKFORD.contains(&character.to_ascii_uppercase()));
    if !fits {
        return Err(Error::malformed("ULID"));
    }
    out.push(b'"');
    out.extend_from_slice(raw);
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(write: fn(&[u8], &mut Vec<u8>) -> Result<(), Error>, raw: &[u8]) -> Result<String, Error> {
        let mut out = Vec::new();
        write(raw, &mut out)?;
        Ok(serde_json::from_slice(&out).expect("a JSON string"))
    }

    /// Reads a ULID by the definition: 26 digits of base 32.
    fn read(text: &str) -> u128 {
        text.bytes().fold(0, |id, character| {
            let digit = CROCKFORD.iter().position(|digit| *digit == character).expect("a digit");
            id << 5 | digit as u128
        })
    }

    #[test]
    fn the_ends_of_the_ulids() {
        assert_eq!(shown(ulid_from_uuid, &[0; 16]).as_deref(), Ok("00000000000000000000000000"));
        assert_eq!(shown(ulid_from_uuid, &[255; 16]).as_deref(), Ok("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"));
    }

    #[test]
    fn a_ulid_in_text_is_checked_and_kept() {
        for text in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav"] {
            assert_eq!(shown(ulid_from_text, text.as_bytes()).as_deref(), Ok(text));
        }
        let no_ulids = [
            "",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "01ARZ3NDEKTSV4RRFFQ69G5F\"V",
        ];
        for text in no_ulids {
            assert_eq!(shown(ulid_from_text, text.as_bytes()), Err(Error::malformed("ULID")), "{text}");
        }
    }

    #[test]
    fn sixteen_bytes_and_no_other_length() {
        for length in (0..40).filter(|length| *length != 16) {
            for write in [uuid, ulid_from_uuid] {
                assert_eq!(shown(write, &vec![0; length]), Err(Error::malformed("uuid")));
            }
        }
    }

    proptest! {
        #[test]
        fn identifiers_read_back(id in any::<u128>()) {
            let raw = id.to_be_bytes();
            let text = shown(uuid, &raw).expect("a UUID");
            prop_assert_eq!(text, uuid::Uuid::from_u128(id).to_string());
            let text = shown(ulid_from_uuid, &raw).expect("a ULID");
            prop_assert_eq!(read(&text), id);
            prop_assert_eq!(shown(ulid_from_text, text.as_bytes()), Ok(text));
        }
    }
}
