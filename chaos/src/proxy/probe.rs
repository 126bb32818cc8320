//! Asks a port that turns clients away, since it cannot see those who ask itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::state::Shared;
use crate::toxic::effect::Touched;

/// How often the port is asked, and how long it has to answer.
const INTERVAL: Duration = Duration::from_millis(250);

/// Asks at once, then again and again until the guard is dropped. `None`: the proxy is disabled, so that a refusal would
/// prove nothing.
pub(super) async fn begin(shared: &Shared, touched: Arc<Touched>) -> Option<DropGuard> {
    let address = {
        let plan = shared.plan.borrow();
        plan.address.filter(|_| plan.enabled)?
    };
    ask(address, &touched).await;
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    tokio::spawn(async move {
        let probes = async {
            loop {
                tokio::time::sleep(INTERVAL).await;
                ask(address, &touched).await;
            }
        };
        cancel.run_until_cancelled(probes).await;
    });
    Some(guard)
}

async fn ask(address: SocketAddr, touched: &Touched) {
    match tokio::time::timeout(INTERVAL, TcpStream::connect(address)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => touched.add_refused(),
        Ok(_) => {}
        Err(_) => touched.add_unanswered(),
    }
}
