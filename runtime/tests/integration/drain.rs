//! The end of a server: requests in flight finish, new connections are refused, the grace is kept.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::sync::Notify;

use crate::support::{TestFrame, eventually};

/// A route that says when it was entered and answers when it is told to.
fn gated() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, gate) = (entered.clone(), release.clone());
    let handler = move || {
        let (inside, gate) = (inside.clone(), gate.clone());
        async move {
            inside.notify_one();
            gate.notified().await;
            "finished"
        }
    };
    (Router::new().route("/slow", get(handler)), entered, release)
}

#[tokio::test]
async fn a_request_in_flight_finishes_and_new_connections_are_refused() {
    let (routes, entered, release) = gated();
    let frame = TestFrame::spawn(routes).await;
    let request = tokio::spawn(frame.client.get(frame.url("/slow")).send());
    entered.notified().await;
    frame.begin_shutdown();
    let address = frame.address;
    eventually("refused connections", async || match tokio::net::TcpStream::connect(address).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    release.notify_one();
    let answer = request.await.expect("no panic").expect("an answer");
    assert_eq!(answer.text().await.expect("a body"), "finished");
    assert!(frame.ended().await.is_clean());
}

#[tokio::test]
async fn a_request_that_outlives_the_grace_is_cut_and_reported() {
    let (routes, entered, _release) = gated();
    let frame = TestFrame::with("[server]\nshutdown_grace = \"50ms\"", routes, []).await;
    let request = tokio::spawn(frame.client.get(frame.url("/slow")).send());
    entered.notified().await;
    let ended =
        tokio::time::timeout(Duration::from_secs(5), frame.ended()).await.expect("ends after the grace");
    assert_eq!(ended.drained.connections_cut, 1);
    assert!(!ended.is_clean());
    assert!(request.await.expect("no panic").is_err(), "the caller learns that there is no answer");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let (routes, ..) = gated();
    let frame = TestFrame::spawn(routes).await;
    frame.get("/livez").await;
    let ended = tokio::time::timeout(Duration::from_secs(5), frame.ended()).await.expect("ends at once");
    assert!(ended.is_clean());
}
