//! Samples the server once a second and watches its health twice a second, for as long as the run lasts.
//!
//! A figure that cannot be read (the process is gone, the page does not answer) is left out, not guessed. Health is
//! recorded when it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::{process, scrape};

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const HEALTH_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for a metrics or health page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Series in the history, and the metric they are the sum of.
const SERIES: [(&str, &str); 11] = [
    ("runtime.db_connections", "db_pool_size"),
    ("runtime.tokio_alive_tasks", "tokio_alive_tasks"),
    ("runtime.http_connections", "http_connections_active"),
    ("runtime.outbox_pending", "outbox_pending"),
    ("runtime.outbox_published", "outbox_published_total"),
    ("runtime.queue_depth", "queue_depth"),
    ("runtime.spool_jobs", "spool_jobs"),
    ("runtime.queue_enqueued", "queue_enqueued_total"),
    ("runtime.job_executions", "job_executions_total"),
    ("runtime.rollout_percentage", "rollout_percentage"),
    ("runtime.rollout_rollbacks", "rollout_rollbacks_total"),
];

/// Starts both watchers; they end with `cancel`. `wanted` are further series of the metrics page, `name` or
/// `name{label=value}`. `server_pid` is asked each time, because a fault may restart the
/// server.
pub fn spawn(
    recorder: Recorder,
    server_pid: impl Fn() -> Option<i32> + Send + Sync + 'static,
    base_url: &str,
    wanted: BTreeSet<String>,
    cancel: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let http = reqwest::Client::builder().timeout(PAGE_TIMEOUT).build().context("build a client")?;
    let base = base_url.trim_end_matches('/').to_string();
    let samples = sample(recorder.clone(), server_pid, http.clone(), format!("{base}/metrics"), wanted);
    let health = watch(recorder, http, base);
    Ok(tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = samples => {}
            () = health => {}
        }
    }))
}

async fn sample(
    recorder: Recorder,
    server_pid: impl Fn() -> Option<i32>,
    http: reqwest::Client,
    metrics_url: String,
    wanted: BTreeSet<String>,
) {
    let mut tick = tokio::time::interval(SAMPLE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        if let Some(sample) = server_pid().and_then(process::sample) {
            recorder.sample("runtime.anonymous_bytes", sample.anonymous_bytes as f64);
            recorder.sample("runtime.rss_bytes", sample.rss_bytes as f64);
            recorder.sample("runtime.fds", sample.fds as f64);
            recorder.sample("runtime.threads", sample.threads as f64);
            recorder.sample("runtime.cpu_seconds", sample.cpu_seconds);
        }
        // A page that does not answer shows as a gap in its series, and in the health lane.
        let Ok(metrics) = scrape::fetch(&http, &metrics_url).await else { continue };
        for (series, metric) in SERIES {
            if let Some(value) = metrics.sum(metric, &[]) {
                recorder.sample(series, value);
            }
        }
        for series in &wanted {
            let known = SERIES.iter().any(|(name, _)| name.strip_prefix("runtime.") == Some(series));
            if let Some(value) = metrics.named(series).filter(|_| !known) {
                recorder.sample(&format!("runtime.{series}"), value);
            }
        }
        for dependency in ["database", "postgres", "redis", "nats"] {
            if let Some(up) = metrics.sum("dependency_up", &[("dependency", dependency)]) {
                recorder.sample(&format!("runtime.dependency_up.{dependency}"), up);
            }
        }
    }
}

async fn watch(recorder: Recorder, http: reqwest::Client, base: String) {
    let mut known = BTreeMap::<String, String>::new();
    let mut tick = tokio::time::interval(HEALTH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let (health_url, ready_url) = (format!("{base}/health"), format!("{base}/ready"));
        let (health, ready) = tokio::join!(page(&http, &health_url), page(&http, &ready_url));
        for (subject, state) in states(&health, &ready) {
            if known.get(&subject) != Some(&state) {
                recorder.health(&subject, &state);
                known.insert(subject, state);
            }
        }
    }
}

/// Status and body of a page; `None` when it did not answer.
async fn page(http: &reqwest::Client, url: &str) -> Option<(u16, Value)> {
    let response = http.get(url).send().await.ok()?;
    let status = response.status().as_u16();
    let body = response.bytes().await.ok()?;
    Some((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// What the pages say: `health`, `ready` and each dependency of the health report.
fn states(health: &Option<(u16, Value)>, ready: &Option<(u16, Value)>) -> Vec<(String, String)> {
    let mut states = Vec::new();
    let unreachable = || "unreachable".to_string();
    let text = |value: &Value, otherwise: u16| value.as_str().map_or(otherwise.to_string(), str::to_string);
    states.push(("health".into(), health.as_ref().map_or_else(unreachable, |(s, b)| text(&b["status"], *s))));
    let is_ready =
        |(status, _): &(u16, Value)| if *status == 200 { "ready" } else { "not_ready" }.to_string();
    states.push(("ready".into(), ready.as_ref().map_or_else(unreachable, is_ready)));
    if let Some((status, body)) = health
        && let Some(checks) = body["checks"].as_object()
    {
        let of = |(name, check): (&String, &Value)| {
            (format!("dependency.{name}"), text(&check["status"], *status))
        };
        states.extend(checks.iter().map(of));
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn health_pages_become_states_of_the_server_and_its_dependencies() {
        let body = json!({ "status": "degraded", "checks": { "redis": { "status": "unhealthy" } } });
        let found = states(&Some((200, body)), &Some((503, Value::Null)));
        let wanted = [("health", "degraded"), ("ready", "not_ready"), ("dependency.redis", "unhealthy")];
        assert_eq!(found, wanted.map(|(a, b)| (a.to_string(), b.to_string())));
        let gone = states(&None, &None);
        assert!(gone.iter().all(|(_, state)| state == "unreachable"));
    }
}
