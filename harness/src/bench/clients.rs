//! Closed-loop clients: as many requests as fit, since a proxy's cost shows where it is the limit.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::upstream::{DOWNLOAD, Exchange, HTTP, UPLOAD};

/// `GET k`, where [`prepare_redis`] has put three bytes.
pub const GET: Exchange =
    Exchange { request: b"*2\r\n$3\r\nGET\r\n$7\r\nbench:k\r\n", answer_bytes: b"$3\r\nxxx\r\n".len() };
/// `SET k xxx`.
pub const SET: Exchange = Exchange {
    request: b"*3\r\n$3\r\nSET\r\n$7\r\nbench:k\r\n$3\r\nxxx\r\n",
    answer_bytes: b"+OK\r\n".len(),
};

const BUFFER_BYTES: usize = 128 * 1024;
/// What took longer counts as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// How many connections, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub lasts: Duration,
}

/// What was done.
#[derive(Debug)]
pub struct Done {
    pub requests: u64,
    pub latency_us: Histogram<u64>,
}

impl Done {
    pub(super) fn nothing() -> Done {
        let latency_us = Histogram::new_with_max(LATENCY_US_MAX, 3).expect("bounds that are allowed");
        Done { requests: 0, latency_us }
    }

    pub fn per_second(&self, seconds: f64) -> f64 {
        self.requests as f64 / seconds
    }

    /// One more, which began at `began` and is answered now.
    pub(super) fn add(&mut self, began: Instant) {
        self.requests += 1;
        self.latency_us.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
}

/// Requests on kept connections, one at a time on each.
pub async fn exchange(address: SocketAddr, load: Load, exchange: Exchange) -> anyhow::Result<Done> {
    all(load, move |until| async move {
        let mut done = Done::nothing();
        let mut socket = connect(address).await?;
        let mut answer = vec![0; exchange.answer_bytes];
        while Instant::now() < until {
            let began = Instant::now();
            socket.write_all(exchange.request).await.context("send a request")?;
            socket.read_exact(&mut answer).await.context("read an answer")?;
            done.add(began);
        }
        Ok(done)
    })
    .await
}

/// A new connection for each request.
pub async fn connect_each_time(address: SocketAddr, load: Load) -> anyhow::Result<Done> {
    all(load, move |until| async move {
        let mut done = Done::nothing();
        let mut answer = vec![0; HTTP.answer_bytes];
        while Instant::now() < until {
            let began = Instant::now();
            let mut socket = connect(address).await?;
            socket.write_all(HTTP.request).await.context("send a request")?;
            socket.read_exact(&mut answer).await.context("read an answer")?;
            // Ports in TIME_WAIT run out within seconds at these rates: the client ends with RST, as wrk does not have to.
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).context("set SO_LINGER")?;
            done.add(began);
        }
        Ok(done)
    })
    .await
}

/// Megabytes a second (10^6) that arrive at the client.
pub async fn download(address: SocketAddr, lasts: Duration) -> anyhow::Result<f64> {
    let mut socket = connect(address).await?;
    socket.write_all(&[DOWNLOAD]).await.context("ask for bytes")?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let began = Instant::now();
    let mut bytes = 0_u64;
    while began.elapsed() < lasts {
        let count = socket.read(&mut buffer).await.context("download")?;
        ensure!(count > 0, "the download ended by itself");
        bytes += count as u64;
    }
    Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
}

/// Megabytes a second (10^6) that the client gets rid of; what waits in buffers at the end is below one per cent.
pub async fn upload(address: SocketAddr, lasts: Duration) -> anyhow::Result<f64> {
    let mut socket = connect(address).await?;
    let buffer = vec![UPLOAD; BUFFER_BYTES];
    let began = Instant::now();
    let mut bytes = 0_u64;
    while began.elapsed() < lasts {
        bytes += socket.write(&buffer).await.context("upload")? as u64;
    }
    Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
}

/// Puts the value that [`GET`] reads.
pub async fn prepare_redis(address: SocketAddr) -> anyhow::Result<()> {
    let mut socket = connect(address).await?;
    socket.write_all(SET.request).await.context("prepare Redis")?;
    let mut answer = [0; SET.answer_bytes];
    socket.read_exact(&mut answer).await.context("prepare Redis")?;
    ensure!(&answer == b"+OK\r\n", "Redis answered {:?} to SET", String::from_utf8_lossy(&answer));
    Ok(())
}

/// A connection as every client here has it.
pub async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    socket.set_nodelay(true).context("set TCP_NODELAY")?;
    Ok(socket)
}

/// Runs `one` on each connection until the time is up, and adds up.
pub(super) async fn all<F>(load: Load, one: impl Fn(Instant) -> F) -> anyhow::Result<Done>
where
    F: Future<Output = anyhow::Result<Done>> + Send + 'static,
{
    let until = Instant::now() + load.lasts;
    let mut tasks = JoinSet::new();
    for _ in 0..load.connections {
        tasks.spawn(one(until));
    }
    let mut sum = Done::nothing();
    while let Some(done) = tasks.join_next().await {
        let done = done.context("join a client")??;
        sum.requests += done.requests;
        sum.latency_us.add(&done.latency_us).context("add latencies")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_as_slow_as_it_was() {
        let mut done = Done::nothing();
        let began = Instant::now().checked_sub(Duration::from_millis(500)).expect("half a second ago");
        done.add(began);
        let took = done.latency_us.value_at_quantile(0.5);
        assert!(took >= 500_000, "{took}");
    }
}
