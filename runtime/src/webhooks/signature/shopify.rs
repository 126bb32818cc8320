//! Shopify: `X-Shopify-Hmac-Sha256: <base64>`, the code over the body. No time is signed, so that only what is remembered
//! tells a delivery from its repetition. Source: shopify.dev, "Deliver webhooks through HTTPS".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;

use super::{SignatureError, SignatureVerifier, code};

/// Believes what is signed, whenever that was.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShopifyVerifier;

impl SignatureVerifier for ShopifyVerifier {
    fn verify(
        &self,
        payload: &[u8],
        signature: &str,
        secret: &str,
        _timestamp: Option<&str>,
    ) -> Result<bool, SignatureError> {
        let given = STANDARD.decode(signature);
        Ok(given.is_ok_and(|given| code(secret, &[payload]).verify_slice(&given).is_ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '{"id":1}' | openssl dgst -sha256 -hmac hush -binary | base64`
    const SIGNATURE: &str = "VnKUjZsLuN5iZWjn5EntcBVCF9kMN43LglzCE1/GSeY=";

    #[test]
    fn what_openssl_signed_is_right_and_nothing_near_it() {
        let verify = |payload: &[u8], signature: &str, secret| {
            ShopifyVerifier.verify(payload, signature, secret, None).expect("no time is signed")
        };
        assert!(verify(br#"{"id":1}"#, SIGNATURE, "hush"));
        assert!(!verify(br#"{"id":2}"#, SIGNATURE, "hush"));
        assert!(!verify(br#"{"id":1}"#, SIGNATURE, "Hush"));
        for wrong in ["", "=", &SIGNATURE[1..], &SIGNATURE[..40], &SIGNATURE.to_lowercase()] {
            assert!(!verify(br#"{"id":1}"#, wrong, "hush"), "{wrong}");
        }
    }
}
