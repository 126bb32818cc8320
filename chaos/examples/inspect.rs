//! Forwards one link and reads along: `inspect pg 127.0.0.1:6432 127.0.0.1:5432 [faults.toml]`.
//!
//! Prints each message and what the faults did. The file has `[[inject]]` tables, as a scenario's faults have them:
//! `[[inject]]`, then `pg.drop-ack = { nth = 1 }`. For trying a rule by hand; the proxy is the tool for everything else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use chaos::protocol::fault::WireFault;
use chaos::protocol::inspector::{Inspector, Output};
use chaos::protocol::rule::Rule;
use chaos::protocol::{Protocol, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(serde::Deserialize)]
struct Faults {
    inject: Vec<WireFault>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [protocol, listen, upstream, faults @ ..] = arguments.as_slice() else {
        return Err("usage: inspect pg|redis|nats LISTEN UPSTREAM [FAULTS.toml]".into());
    };
    let known = Protocol::ALL.into_iter().find(|known| known.name() == protocol);
    let protocol = known.ok_or_else(|| format!("`{protocol}` is none of pg, redis, nats"))?;
    let faults = match faults.first() {
        Some(file) => toml::from_str::<Faults>(&std::fs::read_to_string(file)?)?.inject,
        None => vec![],
    };
    let rules: Vec<Arc<Rule>> = (0..).zip(&faults).map(|(id, fault)| fault.rule(id)).collect();
    let upstream: SocketAddr = upstream.parse()?;
    let listener = TcpListener::bind(listen).await?;
    println!("{} on {}", protocol.name(), listener.local_addr()?);
    for number in 1.. {
        let (client, _) = listener.accept().await?;
        let rules = rules.clone();
        tokio::spawn(async move {
            let inspector = Inspector::new(protocol, &rules, number);
            let end = Box::pin(connection(number, client, upstream, inspector)).await;
            println!("{number}: ended: {end:?}");
            for rule in rules {
                println!("{number}: rule {}: {:?}", rule.id, rule.counters.read());
            }
        });
    }
    Ok(())
}

async fn connection(
    number: u64,
    mut client: TcpStream,
    upstream: SocketAddr,
    mut inspector: Inspector,
) -> Result<&'static str, Failure> {
    let mut server = TcpStream::connect(upstream).await?;
    inspector.read_along();
    let (mut from_client, mut from_server) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let (way, read) = tokio::select! {
            count = client.read(&mut from_client) => (Way::Upstream, from_client[..count?].to_vec()),
            count = server.read(&mut from_server) => (Way::Downstream, from_server[..count?].to_vec()),
        };
        let mut out = Vec::new();
        let over = read.is_empty();
        match over {
            true => inspector.end(way, &mut out),
            false => inspector.feed(way, Bytes::from(read), Instant::now(), &mut out),
        }
        for message in inspector.messages() {
            println!("{number}: {:?} {}", message.way, message.what);
        }
        for output in out {
            match output {
                Output::Forward { way: Way::Upstream, bytes }
                | Output::Inject { way: Way::Upstream, bytes } => {
                    server.write_all(&bytes).await?;
                }
                Output::Forward { bytes, .. } | Output::Inject { bytes, .. } => {
                    client.write_all(&bytes).await?
                }
                // Both ways wait here; the proxy holds only the one.
                Output::Hold { until, .. } => sleep_until(until).await,
                Output::Report(report) => println!("{number}: {report:?}"),
                Output::Close => return Ok("closed by a rule"),
                Output::Reset => {
                    for socket in [client, server] {
                        socket.set_zero_linger()?;
                    }
                    return Ok("reset by a rule");
                }
            }
        }
        if over {
            return Ok("closed by a peer");
        }
    }
}
