//! Whether the bytes of a webhook come from who knows the secret, in the way of each provider.
//!
//! Promises: the bytes as they came are looked at, before anything reads them; how long that takes does not depend on
//! how much of a signature is right; what does not have the form of a signature is a wrong one. All three are HMAC (RFC 2104)
//! with SHA-256.

pub mod github;
pub mod shopify;
pub mod stripe;

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use self::github::GitHubVerifier;
pub use self::shopify::ShopifyVerifier;
pub use self::stripe::StripeVerifier;

/// Says whether a signature is right.
pub trait SignatureVerifier: Send + Sync {
    /// Whether `signature`, as its header has it, is that of `payload` with `secret`. `timestamp`: when it was signed, in
    /// seconds since 1970, for who has that from elsewhere; it must be the time that was signed.
    ///
    /// # Errors
    /// When the signature is right and its time is not; providers that sign no time have no errors.
    fn verify(
        &self,
        payload: &[u8],
        signature: &str,
        secret: &str,
        timestamp: Option<&str>,
    ) -> Result<bool, SignatureError>;
}

/// Why a right signature is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It was made too long ago, or one of the two clocks is wrong.
    #[error("the signature's time is {} s {} ours: at most {} s are allowed", .off.as_secs(), if *.ahead { "ahead of" } else { "behind" }, .tolerance.as_secs())]
    Expired {
        /// How far it is from ours.
        off: Duration,
        /// Whether it is after ours.
        ahead: bool,
        /// What would be allowed.
        tolerance: Duration,
    },
    /// It is no number of seconds.
    #[error("the signature's time is not a number of seconds")]
    Timestamp,
}

/// The code of `parts`, one after another.
fn code(secret: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// What a test signs with: the code in hexadecimal.
#[cfg(test)]
pub(super) fn hexadecimal(secret: &str, parts: &[&[u8]]) -> String {
    code(secret, parts).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
