//! What a request over HTTP says, or why it says nothing. Pure.

use async_graphql::Variables;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::sse::EVENT_STREAM;
use crate::engine::Request;
use crate::engine::persisted::{Persisted, Refused};

/// Why a request is none of GraphQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong with it.
    pub message: String,
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

    /// The one that the caller likes best; without a wish, or with any will do, plain JSON. `None` for who takes only a
    /// stream of events.
    pub(super) fn wanted(accept: Option<&HeaderValue>) -> Result<Option<Self>, Unread> {
        let Some(accept) = accept else { return Ok(Some(Self::Json)) };
        let accept = accept.to_str().map_err(|_| Unread::bad("the Accept header is no text"))?;
        let mut best: Option<(u16, Self)> = None;
        let mut events = false;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            let media = match name.as_str() {
                "application/graphql-response+json" => Self::GraphqlResponse,
                "application/json" | "application/*" | "*/*" | "" => Self::Json,
                EVENT_STREAM => {
                    events |= weight > 0;
                    continue;
                }
                _ => continue,
            };
            if weight > 0 && best.is_none_or(|(known, _)| weight > known) {
                best = Some((weight, media));
            }
        }
        match best {
            Some((_, media)) => Ok(Some(media)),
            None if events => Ok(None),
            None => Err(Unread {
                status: StatusCode::NOT_ACCEPTABLE,
                message:
                    "an answer is application/graphql-response+json, application/json or text/event-stream"
                        .to_owned(),
            }),
        }
    }
}

/// Whether the caller takes a stream of events too.
pub(super) fn takes_events(accept: Option<&HeaderValue>) -> bool {
    let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(EVENT_STREAM))
            && parts.all(|part| part.strip_prefix("q=").is_none_or(|weight| thousandths(weight) > 0))
    })
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

/// A request as it was sent: with a text, or with a name for one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    query: Option<String>,
    #[serde(default, alias = "id")]
    document_id: Option<String>,
    #[serde(default)]
    operation_name: Option<String>,
    #[serde(default)]
    variables: Option<Variables>,
    #[serde(default)]
    extensions: Option<Map<String, Value>>,
    /// From the extensions.
    #[serde(skip)]
    hash: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PersistedQuery {
    version: u32,
    sha256_hash: String,
}

impl Asked {
    /// The request with its text.
    ///
    /// # Errors
    /// When there is no text that may be executed.
    pub fn resolve(self, persisted: &Persisted) -> Result<Request, Refused> {
        let name = self.hash.or(self.document_id);
        let query = persisted.resolve(self.query, name.as_deref())?;
        let operation_name = self.operation_name.filter(|name| !name.is_empty());
        Ok(Request { query, operation_name, variables: self.variables.unwrap_or_default() })
    }

    /// Reads what of the extensions is ours; the rest is for others.
    fn checked(mut self) -> Result<Self, Unread> {
        let Some(given) = self.extensions.as_mut().and_then(|given| given.remove("persistedQuery")) else {
            return Ok(self);
        };
        let query: PersistedQuery = serde_json::from_value(given)
            .map_err(|error| Unread::bad(format!("extensions.persistedQuery cannot be read: {error}")))?;
        if query.version != 1 {
            return Err(Unread::bad(format!("there is no version {} of persistedQuery", query.version)));
        }
        self.hash = Some(query.sha256_hash);
        Ok(self)
    }
}

/// What the body of a POST holds.
#[derive(Debug, Clone)]
pub enum Posted {
    /// One operation.
    One(Asked),
    /// Several, to be answered by a list.
    Batch(Vec<Asked>),
}

/// Reads the body of a POST; `batch_max` operations at most, 0 for one that is no list.
///
/// # Errors
/// When it is no JSON object, or no list of so many at most.
pub fn from_body(body: &[u8], batch_max: usize) -> Result<Posted, Unread> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return one(body).map(Posted::One);
    }
    if batch_max == 0 {
        return Err(Unread::bad("the body is a list: several operations in one request are not supported"));
    }
    let batch: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    match batch.len() {
        0 => Err(Unread::bad("the list has no operation")),
        count if count > batch_max => {
            Err(Unread::bad(format!("the list has {count} operations, {batch_max} are allowed")))
        }
        _ => {
            let asked = batch.into_iter().map(|asked| one(asked.get().as_bytes()));
            asked.collect::<Result<_, _>>().map(Posted::Batch)
        }
    }
}

/// Reads one request in JSON.
pub(super) fn one(body: &[u8]) -> Result<Asked, Unread> {
    // A JSON array would be taken for the fields in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Unread::bad("the body is no JSON object with query, variables, operationName"));
    }
    serde_json::from_slice::<Asked>(body).map_err(|error| unreadable(&error))?.checked()
}

fn unreadable(error: &serde_json::Error) -> Unread {
    Unread::bad(format!("the body is no JSON object with query, variables, operationName: {error}"))
}

/// Reads the parameters of a GET.
pub(super) fn from_query(query: &str) -> Result<Asked, Unread> {
    let mut asked = Asked::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "query" => asked.query = Some(value.into_owned()),
            "documentId" | "id" if !value.is_empty() => asked.document_id = Some(value.into_owned()),
            "operationName" if !value.is_empty() => asked.operation_name = Some(value.into_owned()),
            "variables" if !value.is_empty() => asked.variables = Some(object("variables", &value)?),
            "extensions" if !value.is_empty() => asked.extensions = Some(object("extensions", &value)?),
            _ => {}
        }
    }
    asked.checked()
}

fn object<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, Unread> {
    // Else a list would be taken for the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(Unread::bad(format!("{name} is no JSON object")));
    }
    serde_json::from_str(text).map_err(|error| Unread::bad(format!("{name} is no JSON object: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &str) -> Option<Media> {
        Media::wanted(Some(&HeaderValue::from_str(accept).expect("a header"))).ok().flatten()
    }

    fn request(body: &[u8]) -> Result<Request, String> {
        let posted = from_body(body, 0).map_err(|unread| unread.message)?;
        let Posted::One(asked) = posted else { return Err("a list".to_owned()) };
        asked.resolve(&Persisted::default()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_body_without_a_query_is_refused_with_a_reason() {
        let wrong = [
            "",
            "[]",
            "{",
            "{}",
            "7",
            r#"{"query":"  "}"#,
            r#"{"query":7}"#,
            r#"{"query":"{a}","extensions":[]}"#,
            r#"{"query":"{a}","extensions":{"persistedQuery":{"version":2,"sha256Hash":""}}}"#,
            r#"{"query":"{a}","variables":[]}"#,
            r#"{"query":"{a}","operationName":1}"#,
            r#"{"query":"{a}","extensions":"x"}"#,
            r#"[{"query":"{a}"}]"#,
        ];
        for body in wrong {
            assert!(request(body.as_bytes()).is_err(), "{body}");
        }
        let body = br#"{"query":"query A($n: Int!) { products(limit: $n) { id } }","variables":{"n":1},"operationName":"A"}"#;
        assert_eq!(request(body).expect("a request").operation_name.as_deref(), Some("A"));
        assert!(
            request(br#"{"query":"{a}","variables":null,"operationName":null,"extensions":null}"#).is_ok()
        );
        assert!(request(br#"{"query":"{a}","extensions":{"other":[1]}}"#).is_ok());
    }

    #[test]
    fn a_list_of_requests_is_bounded() {
        let count = |body: &[u8]| match from_body(body, 2) {
            Ok(Posted::Batch(batch)) => batch.len(),
            _ => 0,
        };
        assert_eq!(count(br#" [{"query":"{a}"},{"query":"{b}"}]"#), 2);
        assert_eq!(count(br#"[{"query":"{a}"},{"query":"{b}"},{"query":"{c}"}]"#), 0);
        assert_eq!(count(b"[]"), 0);
        for wrong in [&br#"[{"query":"{a}"},7]"#[..], br#"[["{a}"]]"#] {
            assert_eq!(count(wrong), 0);
        }
    }

    #[test]
    fn a_hash_in_the_extensions_goes_before_a_document_id() {
        let asked = |query: &str| {
            let resolved = from_query(query).expect("readable").resolve(&Persisted::default());
            resolved.expect_err("nothing is known")
        };
        let extensions =
            "extensions=%7B%22persistedQuery%22:%7B%22version%22:1,%22sha256Hash%22:%22ab%22%7D%7D";
        for query in ["documentId=sha256:ab", "id=ab", extensions] {
            assert_eq!(asked(query), Refused::NotFound, "{query}");
        }
        assert_eq!(asked("operationName=A"), Refused::Missing);
    }

    #[test]
    fn the_parameters_of_a_get_are_read_as_a_body_is() {
        let asked =
            from_query("query=%7Ba%7D&variables=%7B%22n%22%3A1%7D&operationName=").expect("a request");
        let request = asked.resolve(&Persisted::default()).expect("a query");
        assert_eq!((request.query.as_str(), request.operation_name), ("{a}", None));
        for wrong in
            ["query=%7Ba%7D&variables=1", "query=%7Ba%7D&variables=%5B%5D", "query=%7Ba%7D&extensions=7"]
        {
            assert!(from_query(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_media_type_is_the_one_that_the_caller_likes_best() {
        let own = Some(Media::GraphqlResponse);
        assert_eq!(wanted("application/graphql-response+json"), own);
        assert_eq!(wanted("application/graphql-response+json, application/json;q=0.9"), own);
        assert_eq!(wanted("application/json, application/graphql-response+json;q=0.5"), Some(Media::Json));
        assert_eq!(wanted("*/*"), Some(Media::Json));
        assert_eq!(wanted("text/html"), None);
        assert_eq!(Media::wanted(None), Ok(Some(Media::Json)));
        let events = HeaderValue::from_static("text/event-stream");
        assert_eq!(Media::wanted(Some(&events)), Ok(None));
        assert!(takes_events(Some(&events)));
        let several = HeaderValue::from_static("application/json, text/event-stream;q=0.5, multipart/mixed");
        assert_eq!(
            (Media::wanted(Some(&several)), takes_events(Some(&several))),
            (Ok(Some(Media::Json)), true)
        );
        let none = HeaderValue::from_static("application/json, text/event-stream;q=0");
        assert!(!takes_events(Some(&none)) && !takes_events(None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_request_or_are_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            text in "(\\{\"(query|variables|operationName|extensions)\":)?[\\[\\]{}:,\"a-z0-9\\\\ue.+-]{0,80}",
        ) {
            let _ = from_body(&bytes, 2);
            let _ = from_query(&text);
            match from_body(text.as_bytes(), 2) {
                Ok(Posted::Batch(batch)) => assert!((1..=2).contains(&batch.len())),
                Ok(Posted::One(asked)) => {
                    if let Ok(request) = asked.resolve(&Persisted::default()) {
                        assert!(!request.query.trim().is_empty());
                    }
                }
                Err(_) => {}
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
