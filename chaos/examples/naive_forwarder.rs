//! The bar that a proxy without toxics has to reach: a forwarder made of tokio's `copy_bidirectional` and nothing else.
//!
//! `naive_forwarder UPSTREAM…` prints one line `LISTEN UPSTREAM` for each, then forwards until it is killed.

use std::io::Write;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

const BUFFER_BYTES: usize = 64 * 1024;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for upstream in std::env::args().skip(1) {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{} {upstream}", listener.local_addr()?);
        tasks.spawn(forward(listener, upstream));
    }
    std::io::stdout().flush()?;
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(std::io::Error::other)??;
    }
    Ok(())
}

async fn forward(listener: TcpListener, upstream: String) -> std::io::Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let mut server = TcpStream::connect(&upstream).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES).await
        });
    }
}
