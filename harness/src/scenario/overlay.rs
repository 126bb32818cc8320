//! Settings that scenarios want of the server under test, as the tables of its configuration. Pure.

use anyhow::{Context, bail};

use super::Scenario;

/// Sets the scenario's dotted keys in the server's configuration: `"health.interval" = "2s"` becomes `[health] interval =
/// "2s"`. Two scenarios that want different values of one key cannot share a run.
pub fn overlay(config: &mut toml::Table, scenario: &Scenario) -> anyhow::Result<()> {
    for (key, value) in &scenario.server_config {
        let mut table = &mut *config;
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let below = table.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table =
                below.as_table_mut().with_context(|| format!("`{key}`: `{part}` is a value, not a table"))?;
        }
        if let Some(other) = table.insert(last.to_owned(), value.clone())
            && other != *value
        {
            bail!(
                "scenario `{}` wants `{key} = {value}`, another one in this run wants {other}",
                scenario.id
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    fn wanting(config: &str) -> Scenario {
        let sound = include_str!("../../../scenarios/chaos/redis-refused.toml");
        let own = "runtime = { config = { \"health.interval\" = \"2s\" } }";
        assert!(sound.contains(own), "the sound file has no line {own}");
        let text = sound.replace(own, &format!("runtime = {{ config = {{ {config} }} }}"));
        file::parse(&text, "redis-refused").expect("a sound scenario")
    }

    #[test]
    fn dotted_keys_become_tables_and_scenarios_that_agree_share_them() {
        let mut config = toml::Table::new();
        for wanted in [r#""health.interval" = "2s""#, r#""health.interval" = "2s", "nats.stream" = "S""#] {
            overlay(&mut config, &wanting(wanted)).expect("no conflict");
        }
        let wanted = "[health]\ninterval = \"2s\"\n\n[nats]\nstream = \"S\"\n";
        assert_eq!(toml::to_string(&config).expect("TOML"), wanted);
    }

    #[test]
    fn two_values_of_one_key_are_refused_with_both() {
        let mut config = toml::Table::new();
        overlay(&mut config, &wanting(r#""health.interval" = "2s""#)).expect("no conflict");
        let error = overlay(&mut config, &wanting(r#""health.interval" = "1s""#)).expect_err("a conflict");
        let text = error.to_string();
        assert!(text.contains("health.interval") && text.contains("1s") && text.contains("2s"), "{text}");
    }

    #[test]
    fn a_key_below_a_value_is_refused() {
        let mut config = toml::Table::new();
        let error = overlay(&mut config, &wanting(r#""health" = 1, "health.interval" = "1s""#));
        assert!(error.expect_err("not a table").to_string().contains("`health` is a value"));
    }
}
