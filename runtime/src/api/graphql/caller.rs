//! Who calls, by the key that a request shows: `Authorization: Bearer …` or `X-API-Key: …`. Browsers cannot send these with a
//! WebSocket, so that the payload of `connection_init` may have an entry of either name.
//!
//! Promises: no other header makes anybody; a key that is not known is refused and does not make the caller anonymous,
//! since whoever sends one wants to be somebody; two keys are refused. Where no keys are configured none is looked at.

use axum::extract::Extension;
use axum::response::Response;
use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::request::Media;
use super::{errors, send};
use crate::api::middleware::gate::Identified;
use crate::security::api_key::ApiKeys;
use crate::security::guard::Caller;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Whom the headers make, or the answer that refuses them.
pub(super) fn identify(
    keys: &ApiKeys,
    identified: Option<Extension<Identified>>,
    headers: &HeaderMap,
) -> Result<Caller, Box<Response>> {
    let made = match identified {
        Some(Extension(Identified(made))) => made,
        None => caller(keys, headers),
    };
    made.ok_or_else(|| {
        let wanted = Media::wanted(headers.get(ACCEPT));
        let media = wanted.ok().flatten().unwrap_or(Media::Json);
        let body = errors("the key is not known", "UNAUTHENTICATED");
        let mut response = send(media, StatusCode::UNAUTHORIZED, body, false);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Box::new(response)
    })
}

/// Whom the headers make; `None` for a key that is not known, and for two.
pub(in crate::api) fn caller(keys: &ApiKeys, headers: &HeaderMap) -> Option<Caller> {
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

/// Whom the payload of `connection_init` makes of `caller`, whom the headers made; `None` for a key that is not known, and
/// for a second one.
pub(super) fn of_init(keys: &ApiKeys, caller: &Caller, payload: &Map<String, Value>) -> Option<Caller> {
    if keys.is_empty() {
        return Some(caller.clone());
    }
    let mut shown = payload.iter().filter_map(|(name, value)| match name.to_ascii_lowercase().as_str() {
        "authorization" => Some(value.as_str().and_then(bearer_of)),
        "x-api-key" => Some(value.as_str()),
        _ => None,
    });
    match (shown.next(), shown.next()) {
        (None, _) => Some(caller.clone()),
        (Some(Some(key)), None) if *caller == Caller::Anonymous => keys.caller(key),
        _ => None,
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    bearer_of(value.to_str().ok()?)
}

fn bearer_of(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
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
    fn the_first_message_of_a_websocket_may_show_the_key() {
        let (keys, ci) = (keys(), Caller::known("ci", ["EDITOR"]));
        let init =
            |caller: &Caller, payload: Value| of_init(&keys, caller, payload.as_object().expect("an object"));
        let nobody = Caller::Anonymous;
        for payload in [json!({"Authorization": "Bearer k-1"}), json!({"x-api-key": "k-1", "other": 7})] {
            assert_eq!(init(&nobody, payload.clone()), Some(ci.clone()), "{payload}");
            assert_eq!(init(&ci, payload), None, "a second key");
        }
        assert_eq!(init(&nobody, json!({"role": "ADMIN"})), Some(nobody.clone()));
        assert_eq!(init(&ci, json!({})), Some(ci.clone()));
        for payload in [
            json!({"authorization": "k-1"}),
            json!({"authorization": 7}),
            json!({"x-api-key": "k-2"}),
            json!({"x-api-key": "k-1", "X-API-Key": "k-1"}),
        ] {
            assert_eq!(init(&nobody, payload.clone()), None, "{payload}");
        }
        let anything = json!({"x-api-key": "k-2"});
        let anything = anything.as_object().expect("an object");
        assert_eq!(of_init(&ApiKeys::default(), &nobody, anything), Some(Caller::Anonymous));
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
