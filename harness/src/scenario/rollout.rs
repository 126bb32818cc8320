//! A rollout of the server under test, asked for as an operator asks: over its admin routes, with a key of the run.

use anyhow::{Context, bail};
use chaos::fault::Evidence;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::load::clients::operator_keys;

/// A rollout that was started.
pub(super) struct Rollout {
    client: Client,
    key: String,
    /// `http://…/admin/rollouts/FLAG`.
    url: String,
}

impl Rollout {
    /// Starts it.
    pub(super) async fn start(server: &str, seed: u64, plan: &Value) -> anyhow::Result<Self> {
        let flag = plan["flag"].as_str().context("the plan of the rollout has no flag")?;
        let all = format!("{server}/admin/rollouts");
        let rollout = Self {
            client: Client::new(),
            key: operator_keys(seed).swap_remove(0),
            url: format!("{all}/{flag}"),
        };
        rollout.ask(Method::POST, &all, Some(plan)).await?;
        Ok(rollout)
    }

    /// How many events it has had: each is a step that was begun, passed or taken back.
    pub(super) async fn evidence(&self) -> anyhow::Result<Evidence> {
        let history = self.ask(Method::GET, &format!("{}/history", self.url), None).await?;
        let acted = history["events"].as_array().map_or(0, Vec::len) as u64;
        Ok(Evidence { acted, ..Evidence::default() })
    }

    /// The evidence of one that has come to its end, either way.
    pub(super) async fn ended(&self) -> anyhow::Result<Evidence> {
        let report = self.ask(Method::GET, &self.url, None).await?;
        let (phase, status) = (&report["phase"], &report["status"]);
        if status != "rolled_back" && phase != "cleanup" {
            bail!("it has not ended: {report}");
        }
        self.evidence().await
    }

    async fn ask(&self, method: Method, url: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = self.client.request(method, url).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("ask {url}"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("read the answer of {url}"))?;
        if !status.is_success() {
            bail!("{url} answers {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{url} answers no JSON: {text}"))
    }
}
