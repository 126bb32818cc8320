//! Every answer carries the security headers and a request id, also when something went wrong.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::support::TestFrame;

fn routes() -> Router {
    Router::new()
        .route("/graphql", post(async |body: Bytes| body.len().to_string()))
        .route("/panic", get(panics))
        .route("/hang", get(async || std::future::pending::<()>().await))
}

async fn panics() -> &'static str {
    panic!("the password is hunter2")
}

const SHORT: &str = "[server]\nrequest_timeout = \"50ms\"\nmax_body = \"1KiB\"";

#[tokio::test]
async fn headers_and_request_id_are_on_every_answer() {
    let frame = TestFrame::with(SHORT, routes(), []).await;
    let large = "x".repeat(2_000);
    let cases = [
        (Method::GET, "/livez", "", StatusCode::OK),
        (Method::GET, "/nowhere?token=secret", "", StatusCode::NOT_FOUND),
        (Method::PUT, "/livez", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/graphql", large.as_str(), StatusCode::PAYLOAD_TOO_LARGE),
        (Method::GET, "/panic", "", StatusCode::INTERNAL_SERVER_ERROR),
        (Method::GET, "/hang", "", StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (method, path, body, status) in cases {
        let request = frame.client.request(method, frame.url(path)).body(body.to_owned());
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        for name in [
            "x-content-type-options",
            "x-frame-options",
            "x-xss-protection",
            "referrer-policy",
            "content-security-policy",
            "permissions-policy",
        ] {
            assert!(answer.headers().contains_key(name), "{path} lacks {name}");
        }
        assert!(!answer.headers().contains_key("strict-transport-security"), "{path} outside production");
        let id = answer.headers()["x-request-id"].to_str().expect("ASCII").parse::<Uuid>();
        assert!(id.is_ok(), "{path}: the request id is a UUID");
        if !status.is_success() {
            let text = answer.text().await.expect("a body");
            let body: Value =
                serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: JSON, not {text}"));
            assert!(body["error"]["code"].is_string(), "{path}: {body}");
            assert!(!text.contains("hunter2") && !text.contains("secret"), "{path}: {text}");
        }
    }
}

#[tokio::test]
async fn production_promises_https() {
    use fraiseql_runtime::config::{Config, source::Environment};
    let environment = Environment::from([
        ("DATABASE_URL", "postgres://db/shop"),
        ("REDIS_URL", "redis://cache"),
        ("NATS_URL", "nats://bus"),
        ("FRAISEQL_ENV", "production"),
    ]);
    let config = Config::parse("", "test.toml", &environment).expect("valid");
    let mut headers = http::HeaderMap::new();
    fraiseql_runtime::security::headers::SecurityHeaders::new(config.mode).apply(&mut headers);
    assert_eq!(headers["strict-transport-security"], "max-age=31536000; includeSubDomains");
}

#[tokio::test]
async fn a_request_id_of_the_caller_is_kept_when_it_is_one() {
    let frame = TestFrame::spawn(routes()).await;
    let answer_to = async |id: &str| {
        let request = frame.client.get(frame.url("/livez")).header("x-request-id", id);
        let answer = request.send().await.expect("an answer");
        answer.headers()["x-request-id"].to_str().expect("ASCII").to_owned()
    };
    let id = "6f1c2a9e-0000-4000-8000-00000000beef";
    assert_eq!(answer_to(id).await, id);
    let invented = answer_to("line\tbreak or anything").await;
    assert_ne!(invented, "line\tbreak or anything");
    assert!(invented.parse::<Uuid>().is_ok());
}

#[tokio::test]
async fn a_body_that_hides_its_length_is_cut_at_the_limit() {
    let frame = TestFrame::with(SHORT, routes(), []).await;
    let chunks = futures::stream::iter((0..4).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 600])));
    let request = reqwest_stream(&frame, chunks).await;
    assert_eq!(request, 413);
}

/// Sends the chunks by hand, because the client library would need a feature for it.
async fn reqwest_stream(
    frame: &TestFrame,
    chunks: impl futures::Stream<Item = Result<Vec<u8>, std::io::Error>>,
) -> u16 {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(frame.address).await.expect("connects");
    let mut request = b"POST /graphql HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let mut chunks = std::pin::pin!(chunks);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.expect("a chunk");
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    stream.write_all(&request).await.expect("sent");
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await.expect("a status line");
    String::from_utf8_lossy(&head[9..]).parse().expect("a status")
}
