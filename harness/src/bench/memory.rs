//! Memory of a proxy, from outside: for each idle connection, after traffic, after all have closed, after aborts.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::subject::Subject;
use super::table::Measure;
use super::upstream::{DOWNLOAD, ECHO};
use super::{Options, clients};
use crate::observe::process;

/// Bytes that pass on each connection of the measurement after traffic.
const TRAFFIC_BYTES: usize = 200_000;
/// Bytes that a download gets before its client goes away.
const ABORT_AFTER_BYTES: usize = 16 * 1024;
/// Longest wait for a process to give memory back.
const SETTLE: Duration = Duration::from_secs(5);

/// Kilobytes (1,000 bytes) of resident memory: for each connection, and growth of the whole process.
pub async fn measure(options: &Options, subject: &Subject) -> anyhow::Result<Vec<(Measure, Option<f64>)>> {
    let Some(pid) = subject.pid else {
        return Ok(Measure::MEMORY.into_iter().map(|measure| (measure, None)).collect());
    };
    let rss = || process::sample(pid).map(|s| s.rss_bytes as f64 / 1e3).context("read the proxy's memory");
    let each = |kilobytes: f64| Some(kilobytes / options.idle as f64);
    // What a process takes for its first connection is not the price of a connection.
    talk(&mut open(subject, 8).await?, ECHO.request.len()).await?;
    let before = rss()?;
    let mut sockets = open(subject, options.idle).await?;
    let idle = rss()? - before;
    talk(&mut sockets, TRAFFIC_BYTES).await?;
    let after_traffic = rss()? - before;
    drop(sockets);
    let after_close = settled(rss, before).await? - before;
    let before_aborts = rss()?;
    abort(options, subject).await?;
    let after_aborts = settled(rss, before_aborts).await? - before_aborts;
    Ok(vec![
        (Measure::IdleMemory, each(idle)),
        (Measure::TrafficMemory, each(after_traffic)),
        (Measure::ClosedMemory, Some(after_close)),
        (Measure::AbortMemory, Some(after_aborts)),
    ])
}

/// Connections that have carried one exchange, so that both their sides exist.
async fn open(subject: &Subject, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut socket = clients::connect(subject.address).await?;
        echo(&mut socket, ECHO.request.len()).await?;
        sockets.push(socket);
    }
    Ok(sockets)
}

async fn talk(sockets: &mut [TcpStream], bytes: usize) -> anyhow::Result<()> {
    for socket in sockets {
        echo(socket, bytes).await?;
    }
    Ok(())
}

async fn echo(socket: &mut TcpStream, bytes: usize) -> anyhow::Result<()> {
    let sent = vec![b'E'; bytes];
    let mut answer = vec![0; bytes];
    let (mut reader, mut writer) = socket.split();
    let (sent, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut answer));
    sent.context("send to the echo")?;
    read.context("read from the echo")?;
    Ok(())
}

async fn abort(options: &Options, subject: &Subject) -> anyhow::Result<()> {
    let address = subject.address;
    let each = options.aborts.div_ceil(options.connections);
    let mut tasks = JoinSet::new();
    for _ in 0..options.connections {
        tasks.spawn(async move {
            let mut buffer = vec![0; ABORT_AFTER_BYTES];
            for _ in 0..each {
                let mut socket = clients::connect(address).await?;
                socket.write_all(&[DOWNLOAD]).await.context("ask for bytes")?;
                socket.read_exact(&mut buffer).await.context("read the beginning of a download")?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done.context("join a client")? {
            bail!("break a download off: {error:#}");
        }
    }
    Ok(())
}

/// The lowest memory that is seen until it is back where it was, or for a while.
async fn settled(rss: impl Fn() -> anyhow::Result<f64>, wanted: f64) -> anyhow::Result<f64> {
    let until = Instant::now() + SETTLE;
    let mut lowest = rss()?;
    while lowest > wanted && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        lowest = lowest.min(rss()?);
    }
    Ok(lowest)
}
