//! GitHub: `X-Hub-Signature-256: sha256=<hex>`, the code over the body. No time is signed, so that only what is remembered
//! tells a delivery from its repetition. Source: docs.github.com, "Validating webhook deliveries".

use hmac::Mac;

use super::{SignatureError, SignatureVerifier, code};
use crate::security::api_key::parse_hash;

/// Believes what is signed, whenever that was.
#[derive(Debug, Clone, Copy, Default)]
pub struct GitHubVerifier;

impl SignatureVerifier for GitHubVerifier {
    fn verify(
        &self,
        payload: &[u8],
        signature: &str,
        secret: &str,
        _timestamp: Option<&str>,
    ) -> Result<bool, SignatureError> {
        let given = signature.strip_prefix("sha256=").and_then(parse_hash);
        Ok(given.is_some_and(|given| code(secret, &[payload]).verify_slice(&given).is_ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_its_documentation_is_right_and_nothing_near_it() {
        const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let verify = |payload: &[u8], signature: &str, secret| {
            GitHubVerifier.verify(payload, signature, secret, None).expect("no time is signed")
        };
        assert!(verify(b"Hello, World!", SIGNATURE, "It's a Secret to Everybody"));
        assert!(!verify(b"Hello, World", SIGNATURE, "It's a Secret to Everybody"));
        assert!(!verify(b"Hello, World!", SIGNATURE, "It's a Secret"));
        for wrong in ["", "sha256=", &SIGNATURE[7..], &SIGNATURE[..70], &SIGNATURE.replace("sha256", "sha1")]
        {
            assert!(!verify(b"Hello, World!", wrong, "It's a Secret to Everybody"), "{wrong}");
        }
    }
}
