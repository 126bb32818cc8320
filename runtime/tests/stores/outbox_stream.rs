//! The stream in a real NATS: how long it drops repetitions, and what of a stream that was there is changed.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use fraiseql_runtime::storage::nats::{Nats, Options};
use harness::environment::ServiceName;

use crate::support::stream::messages;
use crate::support::{Stage, eventually};

const HOUR: Duration = Duration::from_secs(3600);

/// A handle on the stream `name`, connected.
async fn handle(stage: &Stage, name: &str, duplicate_window: Duration) -> Nats {
    let options = Options {
        connect_timeout: Duration::from_secs(5),
        publish_timeout: Duration::from_secs(5),
        stream: name.to_owned(),
        subject_prefix: name.to_owned(),
        duplicate_window,
    };
    let nats = Nats::new(stage.url(ServiceName::Nats).as_str(), options).await.expect("a client");
    eventually("nats answers", async || nats.ping().await.map_err(|error| error.to_string())).await;
    nats
}

async fn publish(nats: &Nats, name: &str, id: &str) {
    nats.publish(format!("{name}.created"), id, Bytes::from_static(b"{}"), None).await.expect("stored");
}

async fn stream_of(stage: &Stage, name: &str) -> stream::Config {
    let context = context(stage).await;
    let stream = context.get_stream(name).await.expect("the stream is there");
    stream.cached_info().config.clone()
}

async fn context(stage: &Stage) -> jetstream::Context {
    let client = async_nats::connect(stage.url(ServiceName::Nats).as_str()).await.expect("connected");
    jetstream::new(client)
}

async fn stored(stage: &Stage, name: &str) -> usize {
    messages(&stage.url(ServiceName::Nats), name).await.len()
}

pub async fn a_repetition_is_dropped_within_the_window_and_kept_after_it(stage: Arc<Stage>) {
    let name = format!("window{}", stage.number());
    let nats = handle(&stage, &name, HOUR).await;
    for id in ["one", "two", "one", "one"] {
        publish(&nats, &name, id).await;
    }
    assert_eq!(stored(&stage, &name).await, 2);
    assert_eq!(stream_of(&stage, &name).await.duplicate_window, HOUR);

    let name = format!("window{}", stage.number());
    let window = Duration::from_millis(100);
    let nats = handle(&stage, &name, window).await;
    publish(&nats, &name, "one").await;
    assert_eq!(stream_of(&stage, &name).await.duplicate_window, window);
    eventually("the window is over", async || {
        publish(&nats, &name, "one").await;
        // Asking must take longer than the window, else each repetition would begin it anew.
        tokio::time::sleep(window * 2).await;
        match stored(&stage, &name).await {
            1 => Err("the repetition was dropped".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

pub async fn a_stream_that_is_there_gets_the_window_and_keeps_everything_else(stage: Arc<Stage>) {
    let name = format!("window{}", stage.number());
    let planted = stream::Config {
        name: name.clone(),
        subjects: vec![format!("{name}.>"), format!("{name}-more.>")],
        max_messages: 500,
        description: Some("made by an operator".to_owned()),
        duplicate_window: HOUR,
        ..stream::Config::default()
    };
    context(&stage).await.create_stream(planted).await.expect("a stream");
    let before = stream_of(&stage, &name).await;

    let window = Duration::from_secs(7);
    publish(&handle(&stage, &name, window).await, &name, "one").await;
    let after = stream_of(&stage, &name).await;
    assert_eq!(after, stream::Config { duplicate_window: window, ..before });
    publish(&handle(&stage, &name, window).await, &name, "two").await;
    assert_eq!(stored(&stage, &name).await, 2);
}

pub async fn the_window_is_not_longer_than_the_stream_keeps_messages(stage: Arc<Stage>) {
    let name = format!("window{}", stage.number());
    let planted = stream::Config {
        name: name.clone(),
        subjects: vec![format!("{name}.>")],
        max_age: HOUR,
        duplicate_window: Duration::from_secs(1),
        ..stream::Config::default()
    };
    context(&stage).await.create_stream(planted).await.expect("a stream");
    publish(&handle(&stage, &name, HOUR * 2).await, &name, "one").await;
    assert_eq!(stream_of(&stage, &name).await.duplicate_window, HOUR, "JetStream refuses a longer one");
    assert_eq!(stored(&stage, &name).await, 1);
}
