//! A server of HTTP that takes every request, or answers each with one status.

use std::sync::Arc;

use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::{Book, Taken};

pub(super) struct HttpStub {
    server: MockServer,
}

struct Answers {
    book: Arc<Book>,
}

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let key =
            request.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        match self.book.call(Taken { key: key.to_owned(), body }) {
            Ok(()) => ResponseTemplate::new(200),
            Err(refusal) => ResponseTemplate::new(refusal.status).set_delay(refusal.after),
        }
    }
}

impl HttpStub {
    pub(super) async fn start(book: Arc<Book>) -> HttpStub {
        // The book keeps what is taken; wiremock would keep everything.
        let server = MockServer::builder().disable_request_recording().start().await;
        Mock::given(any()).respond_with(Answers { book }).mount(&server).await;
        HttpStub { server }
    }

    pub(super) fn url(&self) -> String {
        self.server.uri()
    }
}
