//! Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>…]`, the code over `<seconds>.<body>`.
//!
//! While a secret is replaced there is a `v1` of each; one that is right is enough. Other schemes (`v0`) are passed over.
//! Source: docs.stripe.com/webhooks/signature.

use std::time::Duration;

use hmac::Mac;

use super::{SignatureError, SignatureVerifier, code};
use crate::clock::{Clock, SystemClock};
use crate::security::api_key::parse_hash;

/// So many codes of one header are looked at; Stripe sends two at most.
const CODES_MAX: usize = 8;

/// Believes what was signed within the tolerance.
#[derive(Debug, Clone, Copy)]
pub struct StripeVerifier<C = SystemClock> {
    clock: C,
    tolerance: Duration,
}

impl<C: Clock> StripeVerifier<C> {
    /// With this clock; a signature's time may be so far from it, either way.
    pub const fn new(clock: C, tolerance: Duration) -> Self {
        Self { clock, tolerance }
    }

    fn check_time(&self, timestamp: &str) -> Result<(), SignatureError> {
        let at: i64 = timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
        let now = self.clock.utc().timestamp();
        let (off, ahead) = (Duration::from_secs(at.abs_diff(now)), at > now);
        if off > self.tolerance {
            return Err(SignatureError::Expired { off, ahead, tolerance: self.tolerance });
        }
        Ok(())
    }
}

impl<C: Clock> SignatureVerifier for StripeVerifier<C> {
    fn verify(
        &self,
        payload: &[u8],
        signature: &str,
        secret: &str,
        timestamp: Option<&str>,
    ) -> Result<bool, SignatureError> {
        let (mut signed, mut codes) = (None, Vec::new());
        for part in signature.split(',') {
            match part.trim().split_once('=') {
                Some(("t", text)) => signed = signed.or(Some(text)),
                Some(("v1", text)) if codes.len() < CODES_MAX => codes.push(text),
                _ => {}
            }
        }
        let Some(signed) = signed else { return Ok(false) };
        if timestamp.is_some_and(|timestamp| timestamp != signed) {
            return Ok(false);
        }
        let mac = code(secret, &[signed.as_bytes(), b".", payload]);
        // Every code is looked at, whichever is right.
        let right = codes
            .iter()
            .filter_map(|code| parse_hash(code))
            .fold(false, |right, code| mac.clone().verify_slice(&code).is_ok() | right);
        // Only then the time: what it says of a signature that is wrong is nobody's word.
        if right { self.check_time(signed).map(|()| true) } else { Ok(false) }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::super::hexadecimal;
    use super::*;
    use crate::clock::TestClock;

    const NOW: i64 = 1_700_000_000;

    fn verifier() -> StripeVerifier<TestClock> {
        let now = DateTime::from_timestamp(NOW, 0).expect("a time");
        StripeVerifier::new(TestClock::new(now), Duration::from_secs(300))
    }

    fn signed(at: &str, payload: &[u8], secret: &str) -> String {
        format!("t={at},v1={}", hexadecimal(secret, &[at.as_bytes(), b".", payload]))
    }

    #[test]
    fn the_time_may_be_five_minutes_off_either_way() {
        for (off, believed) in
            [(0, true), (-300, true), (300, true), (-301, false), (301, false), (-360, false)]
        {
            let header = signed(&(NOW + off).to_string(), b"{}", "s");
            let told = verifier().verify(b"{}", &header, "s", None);
            let (by, tolerance) = (Duration::from_secs(off.unsigned_abs()), Duration::from_secs(300));
            let refused = SignatureError::Expired { off: by, ahead: off > 0, tolerance };
            assert_eq!(told, if believed { Ok(true) } else { Err(refused) }, "{off}");
        }
    }

    #[test]
    fn one_right_code_is_enough_while_a_secret_is_replaced() {
        let at = NOW.to_string();
        let (old, new) = (signed(&at, b"{}", "old"), hexadecimal("new", &[at.as_bytes(), b".{}"]));
        let both = format!("{old},v1={new},v0=00");
        for (secret, right) in [("old", true), ("new", true), ("other", false)] {
            assert_eq!(verifier().verify(b"{}", &both, secret, None), Ok(right), "{secret}");
        }
    }

    #[test]
    fn the_time_is_part_of_what_was_signed() {
        let header = signed(&(NOW - 600).to_string(), b"{}", "s");
        let moved = header.replace(&(NOW - 600).to_string(), &NOW.to_string());
        assert_eq!(verifier().verify(b"{}", &moved, "s", None), Ok(false));
        let header = signed(&NOW.to_string(), b"{}", "s");
        assert_eq!(verifier().verify(b"{}", &header, "s", Some(&NOW.to_string())), Ok(true));
        assert_eq!(verifier().verify(b"{}", &header, "s", Some("1")), Ok(false));
        let header = signed("soon", b"{}", "s");
        assert_eq!(verifier().verify(b"{}", &header, "s", None), Err(SignatureError::Timestamp));
    }

    proptest! {
        #[test]
        fn whatever_else_is_in_the_header_is_wrong(header in ".{0,120}") {
            prop_assert_eq!(verifier().verify(b"{}", &header, "s", None), Ok(false));
        }

        #[test]
        fn another_byte_anywhere_is_another_signature(payload in proptest::collection::vec(any::<u8>(), 1..64), at in 0_usize..64, bit in 0_u8..8) {
            let header = signed(&NOW.to_string(), &payload, "s");
            prop_assert_eq!(verifier().verify(&payload, &header, "s", None), Ok(true));
            let mut other = payload.clone();
            let at = at % other.len();
            other[at] ^= 1 << bit;
            prop_assert_eq!(verifier().verify(&other, &header, "s", None), Ok(false));
        }
    }
}
