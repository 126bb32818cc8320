//! Cursors: where a row is in an order. Opaque to callers, checked when they come back.
//!
//! A cursor is base64url of a JSON list: a fingerprint of the order, then the text of each sort key. A cursor of another
//! order, or one that was made up, is refused; its keys are parameters like any other value, so it can do no more harm
//! than an argument.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::engine::schema::model::SortKey;

/// Bytes of a cursor at most.
const BYTES_MAX: usize = 16 * 1024;

/// What cursors of this order begin with.
pub fn fingerprint(table: &str, keys: &[SortKey]) -> String {
    let mut hash = Sha256::new();
    hash.update(table.as_bytes());
    for key in keys {
        hash.update([0, u8::from(key.descending)]);
        hash.update(key.column.name.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..6])
}

/// Writes the cursor of a row.
pub fn write(fingerprint: &str, keys: &[Option<&str>]) -> String {
    let list: Vec<Option<&str>> = std::iter::once(Some(fingerprint)).chain(keys.iter().copied()).collect();
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&list).unwrap_or_default())
}

/// The keys of a cursor; `None` for one of another order, or none at all.
pub fn read(cursor: &str, fingerprint: &str) -> Option<Vec<Option<String>>> {
    if cursor.len() > BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let mut list: Vec<Option<String>> = serde_json::from_slice(&bytes).ok()?;
    if list.first()?.as_deref() != Some(fingerprint) || list.iter().flatten().any(|key| key.contains('\0')) {
        return None;
    }
    list.remove(0);
    Some(list)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_went(keys in proptest::collection::vec(proptest::option::of("[^\0]{0,20}"), 0..4)) {
            let given: Vec<Option<&str>> = keys.iter().map(Option::as_deref).collect();
            prop_assert_eq!(read(&write("order", &given), "order"), Some(keys));
        }

        #[test]
        fn anything_may_come_as_a_cursor(text in ".{0,200}") {
            let _ = read(&text, "order");
        }
    }

    #[test]
    fn a_cursor_of_another_order_is_refused() {
        let cursor = write("by name", &[Some("a")]);
        assert_eq!(read(&cursor, "by price"), None);
        assert_eq!(read("", "by name"), None);
        assert_eq!(read(&"A".repeat(BYTES_MAX + 1), "by name"), None);
    }
}
