//! `harness bench accuracy`: how exactly a server of Toxiproxy's API keeps to what its toxics say.
//!
//! Latency is the round trip of one small message, without what the same link takes with no toxic. A rate is taken between
//! two arrivals, so that what waits in buffers at the ends does not count, and a burst is what came before its time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chaos::client::{Client, Toxic};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::clients::connect;
use super::upstream::{DOWNLOAD, ECHO};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    pub delay: Duration,
    /// Messages of the latency measurement.
    pub echoes: u32,
    /// Bytes of the transfer through the same delay.
    pub transfer: u64,
    /// Bytes a second, in thousands.
    pub rates: Vec<u64>,
    /// Length of the measurement of each rate.
    pub lasts: Duration,
}

/// Milliseconds over the delay that was asked for, of the middle, the 99th of a hundred and the worst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Late {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// A rate that was asked for, and what came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub wanted: f64,
    pub error_percent: f64,
    /// The most that came before its time, as time at the wanted rate.
    pub burst_ms: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub late: Late,
    pub transfer_s: f64,
    pub rates: Vec<Rate>,
}

/// Measures on proxies of its own, which are removed again.
pub async fn measure(
    options: &Options,
    client: &Client,
    upstream: SocketAddr,
    progress: impl Fn(&str),
) -> anyhow::Result<Figures> {
    let proxy = client.create("bench-accuracy", "127.0.0.1:0", &upstream.to_string()).await?;
    let measured = on(options, client, &proxy, progress).await;
    client.delete(&proxy.name).await?;
    measured
}

async fn on(
    options: &Options,
    client: &Client,
    proxy: &chaos::client::Proxy,
    progress: impl Fn(&str),
) -> anyhow::Result<Figures> {
    let address: SocketAddr = proxy.listen.parse().context("the proxy's address")?;
    progress("latency");
    let plain = echoes(address, options.echoes).await?;
    let usual = sorted(plain)[options.echoes as usize / 2];
    let delay = u64::try_from(options.delay.as_millis()).context("the delay")?;
    let toxic = |kind: &str, attribute: &str, value: u64| Toxic {
        name: "measured".into(),
        kind: kind.into(),
        stream: "downstream".into(),
        toxicity: 1.0,
        attributes: Map::from_iter([(attribute.to_owned(), Value::from(value))]),
        clients: vec![],
    };
    client.add_toxic(&proxy.name, &toxic("latency", "latency", delay)).await?;
    let delayed = echoes(address, options.echoes).await?;
    progress("transfer");
    let transfer_s = transfer(address, options.transfer).await?;
    client.remove_toxic(&proxy.name, "measured").await?;
    let mut rates = Vec::new();
    for rate in &options.rates {
        progress(&format!("{rate} kB/s"));
        client.add_toxic(&proxy.name, &toxic("bandwidth", "rate", *rate)).await?;
        let arrivals = arrivals(address, options.lasts).await?;
        client.remove_toxic(&proxy.name, "measured").await?;
        rates.push(rate_of(*rate as f64 * 1e3, &arrivals).context("too little came to take a rate from")?);
    }
    Ok(Figures { late: late(&sorted(delayed), options.delay.as_secs_f64() * 1e3 + usual), transfer_s, rates })
}

/// Milliseconds of each round trip.
async fn echoes(address: SocketAddr, count: u32) -> anyhow::Result<Vec<f64>> {
    let mut socket = connect(address).await?;
    let mut answer = vec![0; ECHO.answer_bytes];
    let mut took = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        socket.write_all(ECHO.request).await.context("send")?;
        socket.read_exact(&mut answer).await.context("read")?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

async fn transfer(address: SocketAddr, bytes: u64) -> anyhow::Result<f64> {
    let mut socket = connect(address).await?;
    let began = Instant::now();
    socket.write_all(&[DOWNLOAD]).await.context("ask for bytes")?;
    let mut buffer = vec![0; 256 * 1024];
    let mut left = bytes;
    while left > 0 {
        let count = socket.read(&mut buffer).await.context("download")?;
        ensure!(count > 0, "the download ended by itself");
        left = left.saturating_sub(count as u64);
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds since the first, and bytes, of each piece.
async fn arrivals(address: SocketAddr, lasts: Duration) -> anyhow::Result<Vec<(f64, u64)>> {
    let mut socket = connect(address).await?;
    socket.write_all(&[DOWNLOAD]).await.context("ask for bytes")?;
    let mut buffer = vec![0; 4 * 1024 * 1024];
    let mut arrivals = Vec::new();
    let began = Instant::now();
    while began.elapsed() < lasts {
        let count = socket.read(&mut buffer).await.context("download")?;
        ensure!(count > 0, "the download ended by itself");
        arrivals.push((began.elapsed().as_secs_f64(), count as u64));
    }
    Ok(arrivals)
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn late(sorted: &[f64], due: f64) -> Late {
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize] - due;
    Late { p50: at(0.5), p99: at(0.99), max: at(1.0) }
}

/// From the time and size of each piece; `None` when there are fewer than three.
fn rate_of(wanted: f64, arrivals: &[(f64, u64)]) -> Option<Rate> {
    let [(first, _), rest @ ..] = arrivals else { return None };
    let (last, _) = rest.last()?;
    if rest.len() < 2 {
        return None;
    }
    // What came with the first piece had its time before it.
    let bytes: u64 = rest.iter().map(|(_, bytes)| bytes).sum();
    let rate = bytes as f64 / (last - first);
    // A bucket that fills at the wanted rate and is emptied by each piece: how deep it had to be.
    let (mut ahead, mut burst, mut before) = (0.0_f64, 0.0_f64, *first);
    for (at, bytes) in arrivals {
        ahead = (ahead - (at - before)).max(0.0) + *bytes as f64 / wanted;
        burst = burst.max(ahead);
        before = *at;
    }
    Some(Rate { wanted, error_percent: (rate / wanted - 1.0) * 100.0, burst_ms: burst * 1e3 })
}

impl Figures {
    /// As a table of two columns.
    pub fn markdown(&self, options: &Options) -> String {
        let Late { p50, p99, max } = self.late;
        let mut text = "| | |\n|---|---:|\n".to_owned();
        text += &format!(
            "| latency {} ms, late by (p50 / p99 / worst) | {p50:+.2} / {p99:+.2} / {max:+.2} ms |\n",
            options.delay.as_millis()
        );
        text += &format!(
            "| {} MB through {} ms | {:.3} s |\n",
            options.transfer / 1_000_000,
            options.delay.as_millis(),
            self.transfer_s
        );
        for rate in &self.rates {
            text += &format!(
                "| bandwidth {} kB/s, error / largest burst | {:+.2} % / {:.1} ms |\n",
                rate.wanted / 1e3,
                rate.error_percent,
                rate.burst_ms
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_between_the_first_and_the_last_piece() {
        // 100 bytes each 100 ms, the first after a while of nothing.
        let steady: Vec<(f64, u64)> = (0..11).map(|i| (5.0 + f64::from(i) * 0.1, 100)).collect();
        let rate = rate_of(1_000.0, &steady).expect("a rate");
        assert!(rate.error_percent.abs() < 1e-9, "{rate:?}");
        assert!((rate.burst_ms - 100.0).abs() < 1e-6, "{rate:?}");
        let slow = rate_of(2_000.0, &steady).expect("a rate");
        assert!((slow.error_percent + 50.0).abs() < 1e-9, "{slow:?}");
        assert_eq!(rate_of(1.0, &steady[..2]), None);
    }

    #[test]
    fn pieces_that_come_together_are_a_burst() {
        let burst = [(0.0, 10), (0.1, 10), (0.1, 10), (0.3, 10)];
        let rate = rate_of(100.0, &burst).expect("a rate");
        assert!((rate.burst_ms - 200.0).abs() < 1e-6, "{rate:?}");
    }

    #[test]
    fn lateness_is_counted_from_when_it_was_due() {
        let times: Vec<f64> = (0..=100).map(|i| 100.0 + f64::from(i) / 100.0).collect();
        let seen = late(&times, 100.2);
        assert!((seen.p50 - 0.3).abs() < 1e-9 && (seen.max - 0.8).abs() < 1e-9, "{seen:?}");
    }
}
