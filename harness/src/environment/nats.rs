//! NATS with JetStream: configuration file, an account call that proves JetStream works, and what it says of itself.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use super::probe::Facts;
use super::settings::ServiceSettings;

pub(crate) fn url(address: &str) -> String {
    format!("nats://{address}")
}

/// The configuration file. `listen` is `address:port`.
pub(crate) fn configuration(settings: &ServiceSettings, listen: &str, store: &Path) -> String {
    let mut text =
        format!("listen: \"{listen}\"\njetstream {{\n  store_dir: {:?}\n}}\n", store.display().to_string());
    for (key, value) in &settings.settings {
        writeln!(text, "{key}: {value}").expect("writing to a string cannot fail");
    }
    text
}

/// Where a container gets its configuration file.
pub(crate) const CONTAINER_CONFIGURATION: &str = "/nats-harness.conf";

pub(crate) async fn facts(url: &str) -> anyhow::Result<Facts> {
    let client = async_nats::ConnectOptions::new().connect(url).await.context("connect")?;
    let info = client.server_info();
    // Asked by hand: the client's own type wants fields that servers before 2.10 do not send.
    let answer = client.request("$JS.API.INFO", Vec::new().into()).await.context("JetStream account call")?;
    let account: serde_json::Value =
        serde_json::from_slice(&answer.payload).context("JetStream account answer")?;
    let streams = account.get("streams").and_then(serde_json::Value::as_u64);
    let streams =
        streams.with_context(|| format!("the JetStream account call was answered with {account}"))?;
    let settings = BTreeMap::from([
        ("jetstream".to_owned(), info.jetstream.to_string()),
        ("max_payload".to_owned(), info.max_payload.to_string()),
        ("streams".to_owned(), streams.to_string()),
    ]);
    Ok(Facts { version: info.version, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_turns_jetstream_on_and_listens_where_told() {
        let settings = super::super::Settings::default().nats;
        let text = configuration(&settings, "127.0.0.1:4222", Path::new("/data dir/js"));
        assert_eq!(
            text,
            "listen: \"127.0.0.1:4222\"\njetstream {\n  store_dir: \"/data dir/js\"\n}\nmax_payload: 1048576\n"
        );
    }
}
