//! `harness bench overhead`: fraiseql-server that says nothing of itself beside the same one with metrics, logs and traces
//! on, one more of them each time, in alternating rounds. Options and table are those of `harness bench graphql`.

use std::net::SocketAddr;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::graphql;
use crate::bench::collector::Collector;
use crate::bench::graphql::Variant;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    bench: graphql::Args,
    /// Share of the traces that the fourth and the fifth server export, and of the fourth's requests that are a line; the
    /// sixth exports all
    #[arg(long, default_value_t = 0.1)]
    sample_rate: f64,
}

pub(super) async fn run(args: &Args, cancel: CancellationToken) -> anyhow::Result<u8> {
    let collector = Collector::start().await.context("start the collector of traces")?;
    let address = collector.address();
    let variants = vec![
        variant("nothing", SILENT)?,
        variant("metrics", METRICS)?,
        variant("metrics, logs", LOGS)?,
        variant("metrics, some lines, some traces", &seen(address, args.sample_rate, args.sample_rate))?,
        variant("metrics, logs, some traces", &seen(address, 1.0, args.sample_rate))?,
        variant("metrics, logs, every trace", &seen(address, 1.0, 1.0))?,
    ];
    let code = graphql::run(&args.bench, variants, cancel).await?;
    eprintln!("the collector took {} spans", collector.spans());
    Ok(code)
}

const SILENT: &str = "metrics.enabled = false\ntracing.enabled = false\nlogging.level = \"off\"\n";

const METRICS: &str = "metrics.enabled = true\ntracing.enabled = false\nlogging.level = \"off\"\n";
const LOGS: &str =
    "metrics.enabled = true\ntracing.enabled = false\nlogging.level = \"info\"\nlogging.access = \"all\"\n";

/// A tenth of both is what a server has whose `FRAISEQL_ENV` is `production`.
fn seen(collector: SocketAddr, lines: f64, traces: f64) -> String {
    format!(
        "metrics.enabled = true\nlogging.level = \"info\"\nlogging.access = \"all\"\nlogging.sample_rate = {lines:?}\n\
         tracing.enabled = true\ntracing.jaeger_endpoint = \"http://{collector}\"\ntracing.sample_rate = {traces:?}\n"
    )
}

fn variant(name: &'static str, config: &str) -> anyhow::Result<Variant> {
    Ok(Variant { name, config: toml::from_str(config).context("the variant's configuration")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variants_are_configurations() {
        assert_eq!(variant("a", SILENT).expect("TOML").config["metrics"]["enabled"].as_bool(), Some(false));
        let seen = seen(SocketAddr::from(([127, 0, 0, 1], 4317)), 0.5, 0.1);
        let config = variant("b", &seen).expect("TOML").config;
        assert_eq!(config["tracing"]["sample_rate"].as_float(), Some(0.1));
        assert_eq!(config["logging"]["sample_rate"].as_float(), Some(0.5));
    }
}
