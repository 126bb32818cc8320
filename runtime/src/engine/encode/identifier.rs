//! UUIDs and ULIDs.

use super::Error;
use super::number::fixed;

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Crockford's base 32: no I, L, O and U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ULID_LENGTH: usize = 26;

pub(super) fn uuid(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let id = fixed::<16>(raw, "uuid")?;
    let mut text = *b"\"00000000-0000-0000-0000-000000000000\"";
    for (byte, at) in id.iter().zip([1, 3, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 29, 31, 33, 35]) {
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
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
