//! `harness bench proxy`: what a proxy costs, as ratios to a direct connection measured in the same round.
//!
//! Machines drift by half within an hour, so every subject is measured in turn in each round and only ratios of one round
//! are compared; a figure is the median of its rounds. Subjects are processes of their own: processor time and memory are
//! read from outside. What could not be measured is a dash and a line that says why, never a number.

pub mod accuracy;
pub mod clients;
pub mod collector;
pub mod graphql;
pub mod memory;
pub mod subject;
pub mod table;
pub mod upstream;

use std::time::Duration;

use anyhow::Context;

use clients::Load;
use subject::Subject;
use table::{Measure, Table};

/// What is measured and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Each subject is measured once in each round.
    pub rounds: u32,
    /// Length of one measurement.
    pub lasts: Duration,
    /// Concurrent connections of the request measurements.
    pub connections: usize,
    /// Idle connections of the memory measurement.
    pub idle: usize,
    /// Downloads that their client breaks off.
    pub aborts: usize,
}

/// Measures every subject in alternating rounds. The first subject is the one that the others are compared with.
pub async fn measure(
    options: &Options,
    subjects: &mut [Subject],
    progress: impl Fn(&str),
) -> anyhow::Result<Table> {
    let mut table = Table::new(subjects.iter().map(|s| s.name.clone()).collect());
    for round in 1..=options.rounds {
        for (index, subject) in subjects.iter().enumerate() {
            progress(&format!("round {round} of {}: {}", options.rounds, subject.name));
            for measure in Measure::RATES {
                let figure = rate(options, subject, measure)
                    .await
                    .with_context(|| format!("measure {} of {}", measure.title(), subject.name))?;
                table.add(measure, index, figure);
            }
        }
    }
    for (index, subject) in subjects.iter().enumerate() {
        progress(&format!("memory: {}", subject.name));
        for (measure, figure) in memory::measure(options, subject).await? {
            table.add(measure, index, figure);
        }
    }
    Ok(table)
}

/// One figure of one round; `None`: it cannot be measured with this subject.
async fn rate(options: &Options, subject: &Subject, measure: Measure) -> anyhow::Result<Option<f64>> {
    let load = |connections| Load { connections, lasts: options.lasts };
    let many = load(options.connections);
    let address = subject.address;
    let seconds = options.lasts.as_secs_f64();
    Ok(Some(match measure {
        Measure::Http => clients::exchange(address, many, upstream::HTTP).await?.per_second(seconds),
        Measure::RedisGet | Measure::RedisSet => {
            let Some(redis) = subject.redis else { return Ok(None) };
            let exchange = if measure == Measure::RedisGet { clients::GET } else { clients::SET };
            clients::prepare_redis(redis).await?;
            clients::exchange(redis, many, exchange).await?.per_second(seconds)
        }
        Measure::BulkUp => clients::upload(address, options.lasts).await?,
        Measure::BulkDown => clients::download(address, options.lasts).await?,
        Measure::Connections => clients::connect_each_time(address, many).await?.per_second(seconds),
        Measure::EchoMean | Measure::EchoP99 => {
            let done = clients::exchange(address, load(1), upstream::ECHO).await?;
            if measure == Measure::EchoMean {
                done.latency_us.mean()
            } else {
                done.latency_us.value_at_quantile(0.99) as f64
            }
        }
        _ => return Ok(None),
    }))
}
