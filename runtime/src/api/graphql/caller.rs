//! Who calls, by the key that a request shows: `Authorization: Bearer …` or `X-API-Key: …`.
//!
//! Promises: no other header makes anybody; a key that is not known is refused and does not make the caller anonymous,
//! since whoever sends one wants to be somebody; two keys are refused. Where no keys are configured none is looked at.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::request::Media;
use super::{errors, respond};
use crate::security::api_key::ApiKeys;
use crate::security::guard::Caller;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Puts the [`Caller`] into the request's extensions.
pub(super) async fn identify(State(keys): State<Arc<ApiKeys>>, mut request: Request, next: Next) -> Response {
    let Some(caller) = caller(&keys, request.headers()) else {
        let media = Media::wanted(request.headers().get(ACCEPT)).unwrap_or(Media::Json);
        let body = errors("the key is not known", "UNAUTHENTICATED");
        let mut response = respond(media, StatusCode::UNAUTHORIZED, body);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn caller(keys: &ApiKeys, headers: &HeaderMap) -> Option<Caller> {
    if keys.is_empty() {
        return Some(Caller::Anonymous);
    }
    let shown = headers.get_all(AUTHORIZATION).iter().map(bearer);
    let mut shown = shown.chain(headers.get_all(X_API_KEY).iter().map(|value| value.to_str().ok()));
    match (shown.next(), shown.next()) {
        (None, _) => Some(Caller::Anonymous),
        (Some(Some(key)), None) => keys.caller(key),
        _ => None,
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn keys() -> ApiKeys {
        let hash: String = Sha256::digest(b"k-1").iter().map(|byte| format!("{byte:02x}")).collect();
        ApiKeys::default().with(&hash, Caller::known("ci", ["EDITOR"])).expect("a hash")
    }

    fn asked(keys: &ApiKeys, shown: &[(HeaderName, &'static str)]) -> Option<Caller> {
        let mut headers = HeaderMap::new();
        for (name, value) in shown {
            headers.append(name, HeaderValue::from_static(value));
        }
        caller(keys, &headers)
    }

    #[test]
    fn a_known_key_makes_somebody_and_nothing_else_does() {
        let (keys, ci) = (keys(), Some(Caller::known("ci", ["EDITOR"])));
        assert_eq!(asked(&keys, &[(AUTHORIZATION, "Bearer k-1")]), ci);
        assert_eq!(asked(&keys, &[(AUTHORIZATION, "bearer  k-1 ")]), ci);
        assert_eq!(asked(&keys, &[(X_API_KEY, "k-1")]), ci);
        assert_eq!(asked(&keys, &[]), Some(Caller::Anonymous));
        let role = HeaderName::from_static("x-role");
        assert_eq!(asked(&keys, &[(role, "ADMIN")]), Some(Caller::Anonymous));
    }

    #[test]
    fn a_wrong_key_is_refused() {
        let keys = keys();
        for shown in [
            &[(AUTHORIZATION, "Bearer k-2")][..],
            &[(AUTHORIZATION, "Bearer")],
            &[(AUTHORIZATION, "Basic k-1")],
            &[(X_API_KEY, "")],
            &[(X_API_KEY, "k-1"), (X_API_KEY, "k-1")],
            &[(X_API_KEY, "k-1"), (AUTHORIZATION, "Bearer k-2")],
        ] {
            assert_eq!(asked(&keys, shown), None, "{shown:?}");
        }
        assert_eq!(asked(&ApiKeys::default(), &[(X_API_KEY, "k-2")]), Some(Caller::Anonymous));
    }
}
