//! Faults of a proxy, as scenario files write them, from the command line.

use chaos::client::Client;
use clap::Subcommand;
use serde_json::Value;

use super::{Failure, table};

#[derive(Debug, Subcommand)]
pub enum FaultVerb {
    /// Make a fault act on a proxy.
    #[command(visible_aliases = ["a"])]
    Add {
        proxy: String,
        /// One word with its values, as JSON: '{"flap": {"up": "1s", "down": "200ms"}}'.
        #[arg(value_parser = json)]
        fault: Value,
        /// Name [default: the fault's word].
        #[arg(short, long)]
        name: Option<String>,
    },
    /// Show the faults of a proxy and what they touched.
    #[command(visible_aliases = ["l", "ls"])]
    List { proxy: String },
    /// Heal a fault and show what it touched.
    #[command(visible_aliases = ["r", "delete", "d"])]
    Remove {
        proxy: String,
        #[arg(short, long)]
        name: String,
    },
}

pub async fn run(client: &Client, verb: FaultVerb) -> Result<(), Failure> {
    match verb {
        FaultVerb::Add { proxy, fault, name } => {
            let added = client.add_fault(&proxy, name.as_deref(), &fault).await?;
            println!("Added fault '{}' on proxy '{proxy}'", added.name);
        }
        FaultVerb::List { proxy } => {
            let faults = client.faults(&proxy).await?;
            if faults.is_empty() {
                println!("no faults");
                return Ok(());
            }
            let rows = faults
                .iter()
                .map(|fault| [fault.name.clone(), touched(&fault.evidence), fault.fault.to_string()]);
            print!("{}", table::aligned(["FAULT", "TOUCHED", "VALUES"], rows));
        }
        FaultVerb::Remove { proxy, name } => {
            let removed = client.remove_fault(&proxy, &name).await?;
            println!("Removed fault '{name}' on proxy '{proxy}', touched: {}", touched(&removed.evidence));
        }
    }
    Ok(())
}

/// The counters that moved: `reset=3 connections=3`.
fn touched(evidence: &chaos::fault::Evidence) -> String {
    let counters = serde_json::to_value(evidence).expect("counters are plain data");
    let moved = counters.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
    let moved: Vec<String> = moved.map(|(name, count)| format!("{name}={count}")).collect();
    if moved.is_empty() { "nothing".to_owned() } else { moved.join(" ") }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}
