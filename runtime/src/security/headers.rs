//! The security headers of every answer, also of 404, 413, timeouts and panics.
//!
//! The set depends on the mode and is fixed at the start, not asked per request.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Mode;

/// What is added to every answer.
#[derive(Debug, Clone)]
pub struct SecurityHeaders(Vec<(HeaderName, HeaderValue)>);

impl SecurityHeaders {
    pub fn new(mode: Mode) -> Self {
        let mut headers = vec![
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (X_XSS_PROTECTION, "1; mode=block"),
            (REFERRER_POLICY, "strict-origin-when-cross-origin"),
            (
                CONTENT_SECURITY_POLICY,
                "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'",
            ),
            (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
            (CACHE_CONTROL, "no-store"),
        ];
        if mode == Mode::Production {
            headers.push((STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"));
        }
        Self(headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect())
    }

    /// Adds what is missing; a handler that set one of them knew why.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_production_promises_https() {
        let has_hsts = |mode| {
            let mut headers = HeaderMap::new();
            SecurityHeaders::new(mode).apply(&mut headers);
            headers.contains_key(STRICT_TRANSPORT_SECURITY)
        };
        assert!(has_hsts(Mode::Production));
        assert!(!has_hsts(Mode::Development));
    }

    #[test]
    fn a_header_of_the_handler_stays() {
        let mut headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("max-age=60"))]);
        SecurityHeaders::new(Mode::Development).apply(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], "max-age=60");
    }
}
