//! What a request over HTTP says, or why it says nothing. Pure.

use async_graphql::Variables;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use crate::engine::Request;

/// Why a request is none of GraphQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Unread {
    fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

/// The media type of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// What clients of before the specification expect.
    Json,
    /// The specification's own.
    GraphqlResponse,
}

impl Media {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
        }
    }

    /// The one that the caller likes best; without a wish, or with any will do, plain JSON.
    pub(super) fn wanted(accept: Option<&HeaderValue>) -> Result<Self, Unread> {
        let Some(accept) = accept else { return Ok(Self::Json) };
        let accept = accept.to_str().map_err(|_| Unread::bad("the Accept header is no text"))?;
        let mut best: Option<(u16, Self)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            let media = match name.as_str() {
                "application/graphql-response+json" => Self::GraphqlResponse,
                "application/json" | "application/*" | "*/*" | "" => Self::Json,
                _ => continue,
            };
            if weight > 0 && best.is_none_or(|(known, _)| weight > known) {
                best = Some((weight, media));
            }
        }
        best.map(|(_, media)| media).ok_or_else(|| Unread {
            status: StatusCode::NOT_ACCEPTABLE,
            message: "an answer is application/graphql-response+json or application/json".to_owned(),
        })
    }
}

fn thousandths(weight: &str) -> u16 {
    let weight: f32 = weight.trim().parse().unwrap_or(0.0);
    (weight.clamp(0.0, 1.0) * 1000.0) as u16
}

/// A form or a plain text can be sent by any page that a user has open, JSON only after the browser has asked.
pub(super) fn content_is_json(content_type: Option<&HeaderValue>) -> Result<(), Unread> {
    let given = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = given
        .split(';')
        .skip(1)
        .find_map(|part| part.trim().to_ascii_lowercase().strip_prefix("charset=").map(str::to_owned));
    let unicode = charset.is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8"));
    if name == "application/json" && unicode {
        return Ok(());
    }
    Err(Unread {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        message: format!("the Content-Type must be application/json in UTF-8, not `{given}`"),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    query: Option<String>,
    #[serde(default)]
    operation_name: Option<String>,
    #[serde(default)]
    variables: Option<Variables>,
    /// Nothing of it is used yet, but what is no object is refused.
    #[serde(default, rename = "extensions")]
    _extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Reads the body of a POST.
pub(super) fn from_body(body: &[u8]) -> Result<Request, Unread> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(Unread::bad("the body is a list: several operations in one request are not supported"));
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        Unread::bad(format!("the body is no JSON object with query, variables, operationName: {error}"))
    })?;
    request(body.query, body.operation_name, body.variables)
}

/// Reads the parameters of a GET.
pub(super) fn from_query(query: &str) -> Result<Request, Unread> {
    let (mut text, mut name, mut variables) = (None, None, None);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "query" => text = Some(value.into_owned()),
            "operationName" if !value.is_empty() => name = Some(value.into_owned()),
            "variables" if !value.is_empty() => {
                let given: Variables = serde_json::from_str(&value)
                    .map_err(|error| Unread::bad(format!("variables is no JSON object: {error}")))?;
                variables = Some(given);
            }
            _ => {}
        }
    }
    request(text, name, variables)
}

fn request(
    query: Option<String>,
    operation_name: Option<String>,
    variables: Option<Variables>,
) -> Result<Request, Unread> {
    let query = query.filter(|query| !query.trim().is_empty());
    let query = query.ok_or_else(|| Unread::bad("the request has no query"))?;
    let operation_name = operation_name.filter(|name| !name.is_empty());
    Ok(Request { query, operation_name, variables: variables.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &str) -> Option<Media> {
        Media::wanted(Some(&HeaderValue::from_str(accept).expect("a header"))).ok()
    }

    #[test]
    fn a_body_without_a_query_is_refused_with_a_reason() {
        let wrong = [
            "",
            "[]",
            "{",
            "{}",
            r#"{"query":"  "}"#,
            r#"{"query":7}"#,
            r#"{"query":"{a}","variables":[]}"#,
            r#"{"query":"{a}","operationName":1}"#,
            r#"{"query":"{a}","extensions":"x"}"#,
            r#"[{"query":"{a}"}]"#,
        ];
        for body in wrong {
            assert!(from_body(body.as_bytes()).is_err(), "{body}");
        }
        let body = br#"{"query":"query A($n: Int!) { products(limit: $n) { id } }","variables":{"n":1},"operationName":"A"}"#;
        let request = from_body(body).expect("a request");
        assert_eq!(request.operation_name.as_deref(), Some("A"));
        assert!(
            from_body(br#"{"query":"{a}","variables":null,"operationName":null,"extensions":null}"#).is_ok()
        );
    }

    #[test]
    fn the_parameters_of_a_get_are_read_as_a_body_is() {
        let request =
            from_query("query=%7Ba%7D&variables=%7B%22n%22%3A1%7D&operationName=").expect("a request");
        assert_eq!((request.query.as_str(), request.operation_name), ("{a}", None));
        assert!(from_query("variables={}").is_err() && from_query("query=%7Ba%7D&variables=1").is_err());
    }

    #[test]
    fn the_media_type_is_the_one_that_the_caller_likes_best() {
        let own = Some(Media::GraphqlResponse);
        assert_eq!(wanted("application/graphql-response+json"), own);
        assert_eq!(wanted("application/graphql-response+json, application/json;q=0.9"), own);
        assert_eq!(wanted("application/json, application/graphql-response+json;q=0.5"), Some(Media::Json));
        assert_eq!(wanted("*/*"), Some(Media::Json));
        assert_eq!(wanted("text/html"), None);
        assert_eq!(Media::wanted(None), Ok(Media::Json));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_request_or_are_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            text in "(\\{\"(query|variables|operationName|extensions)\":)?[\\[\\]{}:,\"a-z0-9\\\\ue.+-]{0,80}",
        ) {
            let _ = from_body(&bytes);
            let _ = from_query(&text);
            if let Ok(request) = from_body(text.as_bytes()) {
                assert!(!request.query.trim().is_empty());
            }
        }
    }

    #[test]
    fn a_form_is_refused() {
        for (given, fine) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/json; charset=latin1", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain", false),
        ] {
            let header = HeaderValue::from_str(given).expect("a header");
            assert_eq!(content_is_json(Some(&header)).is_ok(), fine, "{given}");
        }
        assert!(content_is_json(None).is_err());
    }
}
