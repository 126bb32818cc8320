//! API keys: who shows one that is known by its hash is the caller that it stands for.
//!
//! Promises: only hashes are kept; a key is found in the same time whichever it is and however much of it is right; a
//! key that is not known makes nobody, and is not the same as none.
//! A hash without salt and stretching is enough for a key that a machine drew, which is what a key has to be.

use sha2::{Digest, Sha256};

use super::guard::Caller;

/// A key by its hash, and whom it stands for.
#[derive(Clone)]
struct Known {
    sha256: [u8; 32],
    caller: Caller,
}

/// All keys.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<Known>);

impl ApiKeys {
    /// With one more; `None` when the hash is not 64 hexadecimal digits.
    #[must_use]
    pub fn with(mut self, sha256: &str, caller: Caller) -> Option<Self> {
        self.0.push(Known { sha256: parse_hash(sha256)?, caller });
        Some(self)
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whom a key stands for.
    pub fn caller(&self, key: &str) -> Option<Caller> {
        let given: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut found = None;
        for known in &self.0 {
            // Every byte of every hash is looked at.
            let differs = known.sha256.iter().zip(given).fold(0, |sum, (one, other)| sum | (one ^ other));
            if differs == 0 {
                found = Some(&known.caller);
            }
        }
        found.cloned()
    }
}

/// The bytes of a SHA-256 in hexadecimal.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "secret".
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_key_is_known_by_its_hash() {
        let caller = Caller::known("ci", ["EDITOR"]);
        let keys = ApiKeys::default().with(SECRET, caller.clone()).expect("a hash");
        assert_eq!(keys.caller("secret"), Some(caller));
        for wrong in ["", "Secret", "secret ", SECRET] {
            assert_eq!(keys.caller(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_hash_is_no_key() {
        for wrong in ["", "2bb8", &SECRET.replace('2', "x"), &format!("{SECRET}0"), &"ü".repeat(32)] {
            assert!(ApiKeys::default().with(wrong, Caller::Anonymous).is_none(), "{wrong}");
        }
    }
}
