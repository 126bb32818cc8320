//! The final state: once the load is over and every fault healed, waits until nothing is in flight, then reads what is
//! really there, from Postgres and JetStream directly and through the API. Every wait has a deadline; what could not be
//! read is an error, because a state that was read in part would accuse or acquit wrongly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use chaos::checker::subscriptions::Heard;
use futures::{StreamExt, TryStreamExt, stream};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

/// Series of the runtime that are zero when nothing is in flight.
const IN_FLIGHT: [&str; 3] = ["queue_depth", "spool_jobs", "outbox_pending"];
const POLL: Duration = Duration::from_millis(250);
const CALL: Duration = Duration::from_secs(10);
/// Orders read through the API at a time.
const API_CONCURRENCY: usize = 16;
/// How often one order is asked for before the reading is given up.
const API_TRIES: u32 = 5;

/// Where to read, past the proxies.
#[derive(Debug, Clone)]
pub struct Sources {
    pub postgres_url: String,
    pub nats_url: String,
    /// JetStream stream of the events.
    pub stream: String,
    /// Of the runtime: `http://127.0.0.1:8000`.
    pub base_url: String,
    /// API keys that are shown to it in turn, so that the limits of none are used up; none: nothing is shown.
    pub api_keys: Vec<String>,
    /// Whether the server has webhooks, whose events may wait.
    pub webhooks: bool,
    /// How long draining may take.
    pub drain_within: Duration,
    /// How long each of the three readings may take.
    pub read_within: Duration,
    /// Most orders that are read through the API, evenly spread over all of this run.
    pub api_orders_max: usize,
}

/// What is there when nothing moves any more.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FinalState {
    pub drained_after_s: f64,
    /// Series that were not zero in time, with their last values; empty: drained.
    pub undrained: Vec<String>,
    /// All orders, those of the seed data (without a key) included.
    pub orders: Vec<Order>,
    pub status_changes: Vec<StatusChange>,
    pub invoices: Vec<Invoice>,
    /// Rows of the outbox that are not marked published.
    pub outbox_unpublished: u64,
    /// What each subscriber heard; empty when the run has none.
    pub heard: Vec<Heard>,
    /// All messages of the stream, in order.
    pub events: Vec<Event>,
    /// Orders that the API was asked about.
    pub asked: BTreeSet<String>,
    /// What the API answered: order id to `id|status|total`; absent: it knows no such order.
    pub api: BTreeMap<String, String>,
    /// Why the API could not be read; the stores were, and what they alone decide is still judged.
    pub api_unread: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Order {
    pub id: String,
    pub idempotency_key: Option<String>,
    pub status: String,
    pub total: String,
}

#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StatusChange {
    /// Also the id of its event.
    pub id: String,
    pub order_id: String,
    pub status: String,
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Invoice {
    pub job_id: String,
    pub order_id: String,
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub subject: String,
    /// Header `Nats-Msg-Id`; empty when the message has none.
    pub message_id: String,
    /// `event_id` and `order_id` of the payload; empty when it has none.
    pub event_id: String,
    pub order_id: String,
    pub sequence: u64,
}

/// Drains and reads. `ours` tells this run's idempotency keys: the API is asked about their orders.
pub async fn read(
    sources: &Sources,
    ours: &(dyn Fn(&str) -> bool + Sync),
    cancel: &CancellationToken,
) -> anyhow::Result<FinalState> {
    let http = reqwest::Client::builder().timeout(CALL).build().context("build the HTTP client")?;
    let mut state = FinalState::default();
    drain(sources, &http, cancel, &mut state).await?;
    within(sources.read_within, "read Postgres back", tables(&sources.postgres_url, &mut state)).await?;
    let messages = events(&sources.nats_url, &sources.stream);
    state.events = within(sources.read_within, "read JetStream back", messages).await?;
    let orders: Vec<&Order> =
        state.orders.iter().filter(|o| o.idempotency_key.as_deref().is_some_and(ours)).collect();
    let step = orders.len().div_ceil(sources.api_orders_max.max(1)).max(1);
    let asked: BTreeSet<String> = orders.iter().step_by(step).map(|o| o.id.clone()).collect();
    let answers = api(&http, sources, &asked);
    match within(sources.read_within, "read the API back", answers).await {
        Ok(answers) => state.api = answers,
        Err(error) => state.api_unread = Some(format!("{error:#}")),
    }
    state.asked = asked;
    Ok(state)
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.context(what),
        Err(_) => bail!("{what}: not done within {}", humantime::format_duration(limit)),
    }
}

async fn drain(
    sources: &Sources,
    http: &reqwest::Client,
    cancel: &CancellationToken,
    state: &mut FinalState,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut quiet = 0;
    loop {
        state.undrained = match in_flight(http, &sources.base_url).await {
            Ok(left) => left,
            Err(error) => vec![format!("/metrics: {error:#}")],
        };
        if sources.webhooks {
            // Asked of the database itself: the series is some seconds old.
            match within(CALL, "count the webhooks that wait", waiting(&sources.postgres_url)).await {
                Ok(0) => {}
                Ok(waiting) => state.undrained.push(format!("{waiting} events of webhooks")),
                Err(error) => state.undrained.push(format!("{error:#}")),
            }
        }
        // Two looks in a row: a job can be between the spool and the queue.
        quiet = if state.undrained.is_empty() { quiet + 1 } else { 0 };
        state.drained_after_s = begun.elapsed().as_secs_f64();
        if quiet == 2 || begun.elapsed() >= sources.drain_within {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = cancel.cancelled() => bail!("interrupted while draining"),
        }
    }
}

async fn waiting(url: &str) -> anyhow::Result<i64> {
    let mut connection = PgConnection::connect(url).await.context("connect to Postgres")?;
    let count = "SELECT count(*) FROM fraiseql.webhook_events WHERE state = 'waiting'";
    let waiting = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(waiting)
}

async fn in_flight(http: &reqwest::Client, base_url: &str) -> anyhow::Result<Vec<String>> {
    let url = format!("{}/metrics", base_url.trim_end_matches('/'));
    let text = http.get(url).send().await?.error_for_status()?.text().await?;
    let left = IN_FLIGHT.iter().filter_map(|series| match total(&text, series) {
        Some(0.0) => None,
        Some(value) => Some(format!("{series} {value}")),
        None => Some(format!("{series} is not exported")),
    });
    Ok(left.collect())
}

/// Sum over the label sets of one family in Prometheus text; `None` when it is not there.
fn total(text: &str, family: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(family)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

async fn tables(url: &str, state: &mut FinalState) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await.context("connect to Postgres")?;
    // One snapshot for all tables.
    let mut tx = connection.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *tx).await?;
    state.orders =
        sqlx::query_as("SELECT id::text AS id, idempotency_key, status, total::text AS total FROM orders")
            .fetch_all(&mut *tx)
            .await
            .context("read orders")?;
    state.status_changes = sqlx::query_as(
        "SELECT id::text AS id, order_id::text AS order_id, status, idempotency_key FROM order_status_changes",
    )
    .fetch_all(&mut *tx)
    .await
    .context("read order_status_changes")?;
    state.invoices = sqlx::query_as(
        "SELECT job_id::text AS job_id, order_id::text AS order_id, idempotency_key FROM invoices",
    )
    .fetch_all(&mut *tx)
    .await
    .context("read invoices")?;
    let unpublished: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        .fetch_one(&mut *tx)
        .await
        .context("count the outbox")?;
    state.outbox_unpublished = u64::try_from(unpublished).context("a count is not negative")?;
    if unpublished > 0 && state.undrained.is_empty() {
        state.undrained.push(format!("{unpublished} rows of the outbox, though outbox_pending is 0"));
    }
    tx.commit().await?;
    connection.close().await?;
    Ok(())
}

async fn events(url: &str, name: &str) -> anyhow::Result<Vec<Event>> {
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    let context = jetstream::new(client);
    let stream = match context.get_stream(name).await {
        Ok(stream) => stream,
        // It is made with the first event: a load of reads has none.
        Err(error) if is_missing(&error) => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("open stream {name}")),
    };
    let last = stream.cached_info().state.last_sequence;
    let stored = stream.cached_info().state.messages;
    let mut events = Vec::with_capacity(usize::try_from(stored).unwrap_or(0));
    if stored == 0 {
        return Ok(events);
    }
    let consumer = stream
        .create_consumer(jetstream::consumer::pull::OrderedConfig::default())
        .await
        .context("create an ordered consumer")?;
    let mut messages = consumer.messages().await.context("consume the stream")?;
    while let Some(message) = messages.next().await {
        let message = message.context("receive a message")?;
        let sequence = message
            .info()
            .map_err(|e| anyhow::anyhow!("message without JetStream data: {e}"))?
            .stream_sequence;
        let message_id = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Msg-Id"))
            .map_or_else(String::new, |id| id.as_str().to_owned());
        let payload: serde_json::Value = serde_json::from_slice(&message.payload)
            .with_context(|| format!("message {sequence} of {name} is not JSON"))?;
        let field = |name: &str| payload.get(name).and_then(|id| id.as_str()).unwrap_or_default().to_owned();
        let (event_id, order_id) = (field("event_id"), field("order_id"));
        events.push(Event { subject: message.subject.to_string(), message_id, event_id, order_id, sequence });
        if sequence >= last {
            break;
        }
    }
    Ok(events)
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(told) if told.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

async fn api(
    http: &reqwest::Client,
    sources: &Sources,
    ids: &BTreeSet<String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let url = format!("{}/graphql", sources.base_url.trim_end_matches('/'));
    let keys = sources.api_keys.iter().map(|key| Some(key.as_str())).chain([None]);
    let keys: Vec<Option<&str>> = keys.take(sources.api_keys.len().max(1)).collect();
    let answers: Vec<Option<(String, String)>> = stream::iter(ids.iter().zip(keys.into_iter().cycle()))
        .map(|(id, key)| patiently(http, (&url, key), id))
        .buffer_unordered(API_CONCURRENCY)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

/// Reads an order, again when that fails: what is asked here is what the API holds, not how available it is.
async fn patiently(
    http: &reqwest::Client,
    api: (&str, Option<&str>),
    id: &str,
) -> anyhow::Result<Option<(String, String)>> {
    for _ in 1..API_TRIES {
        match order(http, api, id).await {
            Ok(answer) => return Ok(answer),
            Err(error) => tracing::debug!("read order {id} back: {error:#}"),
        }
        tokio::time::sleep(POLL).await;
    }
    order(http, api, id).await
}

async fn order(
    http: &reqwest::Client,
    (url, key): (&str, Option<&str>),
    id: &str,
) -> anyhow::Result<Option<(String, String)>> {
    let body = serde_json::json!({
        "query": "query($id: ID!) { order(id: $id) { id status total } }",
        "variables": { "id": id },
    });
    let mut request = http.post(url).json(&body);
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let answer: serde_json::Value = request.send().await?.error_for_status()?.json().await?;
    if let Some(errors) = answer.get("errors") {
        bail!("order {id}: {errors}");
    }
    let order = &answer["data"]["order"];
    if order.is_null() {
        return Ok(None);
    }
    let field = |name: &str| order[name].as_str().with_context(|| format!("order {id} without `{name}`"));
    Ok(Some((id.to_owned(), format!("{}|{}|{}", field("id")?, field("status")?, field("total")?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_summed_and_longer_names_are_not_mixed_in() {
        let text = "# HELP queue_depth x\nqueue_depth{a=\"}\"} 2\nqueue_depth{a=\"2\"} 3 1700\nqueue_depth_max 9\nspool_jobs 0\n";
        assert_eq!(total(text, "queue_depth"), Some(5.0));
        assert_eq!(total(text, "spool_jobs"), Some(0.0));
        assert_eq!(total(text, "outbox_pending"), None);
    }
}
