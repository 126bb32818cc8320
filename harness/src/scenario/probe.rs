//! Asking the server from outside, by the paths that a scenario's checks and snapshots name.

use std::time::Duration;

use super::Scenario;
use super::check::Subject;

/// One answer to a GET.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub at_ns: u64,
    pub path: String,
    /// 0 when there was no answer in time.
    pub status: u16,
    /// `null` when the body is not JSON.
    pub body: serde_json::Value,
}

/// Asks once; no answer within `timeout` is an answer with status 0.
pub async fn probe(
    client: &reqwest::Client,
    base_url: &str,
    path: &str,
    timeout: Duration,
    at_ns: u64,
) -> Probe {
    let url = format!("{}{path}", base_url.trim_end_matches('/'));
    let asked = async {
        let answer = client.get(url).timeout(timeout).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        // Not every route answers JSON; its status is enough then.
        let body = serde_json::from_str(&text).unwrap_or(serde_json::Value::Null);
        Ok::<_, reqwest::Error>((status, body))
    };
    let (status, body) = asked.await.unwrap_or((0, serde_json::Value::Null));
    Probe { at_ns, path: path.to_owned(), status, body }
}

/// The paths that a scenario's checks want probed, each once.
pub fn paths(scenario: &Scenario) -> Vec<String> {
    let expected = scenario.expectations.iter().flat_map(|e| &e.checks);
    let mut paths: Vec<String> = expected
        .chain(&scenario.steady_state.checks)
        .filter_map(|check| match &check.subject {
            Subject::Http { path, .. } => Some(path.clone()),
            _ => None,
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}
