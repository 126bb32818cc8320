//! A shop behind the real listener: what callers over HTTP meet.

use std::net::SocketAddr;

use fraiseql_runtime::api;
use fraiseql_runtime::api::middleware::gate::Gate;
use fraiseql_runtime::observability::health::HealthChecker;
use fraiseql_runtime::server::workers::Workers;
use fraiseql_runtime::server::{self, Application, Ended};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Shop;

/// A shop's server.
pub struct Front {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    stop: CancellationToken,
    server: JoinHandle<Ended>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Value,
}

impl Front {
    /// Serves the shop on a free port.
    pub async fn of(shop: &Shop) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (config, metrics) = (shop.config(), shop.metrics.clone());
        let mut health = HealthChecker::new("1");
        shop.state.add_health_checks(&mut health);
        let routes = api::product(&shop.state);
        let gate = Some(Gate::new(&shop.state));
        let tracer = shop.state.tracer.clone();
        let application = Application { routes, health, workers: Workers::default(), gate, tracer };
        let stop = CancellationToken::new();
        let end = stop.clone();
        let server =
            tokio::spawn(async move { server::serve(listener, &config, metrics, application, end).await });
        Self { address, client: reqwest::Client::new(), stop, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/graphql", self.address)
    }

    /// Posts a body in JSON and wishes for this media type.
    pub async fn post(&self, accept: &str, body: &Value) -> Answer {
        let request = self.client.post(self.url()).header("accept", accept).json(body);
        read(request).await
    }

    /// Begins the end of the server.
    pub fn begin_shutdown(&self) {
        self.stop.cancel();
    }

    /// Ends the server.
    pub async fn ended(self) -> Ended {
        self.stop.cancel();
        self.server.await.expect("the server does not panic")
    }
}

/// Sends a request and reads its answer.
pub async fn read(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let bytes = answer.bytes().await.expect("a body");
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, content_type, body }
}
