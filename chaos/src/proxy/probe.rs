//! Asks a port that turns clients away, since it cannot see those who ask itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::state::Shared;
use crate::toxic::effect::Touched;

/// How often the port is asked, and how long it has to answer.
const INTERVAL: Duration = Duration::from_millis(250);

/// Asks at once, then again and again until the guard is dropped. While the proxy is disabled nobody is asked: a refusal
/// would prove nothing.
pub(super) async fn begin(shared: &Arc<Shared>, touched: Arc<Touched>) -> DropGuard {
    ask(shared, &touched).await;
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    // The proxy holds the guard, so this does not hold the proxy.
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        let probes = async {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let Some(shared) = shared.upgrade() else { return };
                ask(&shared, &touched).await;
            }
        };
        cancel.run_until_cancelled(probes).await;
    });
    guard
}

async fn ask(shared: &Shared, touched: &Touched) {
    let port = || {
        let plan = shared.followed.plan.borrow();
        plan.address.filter(|_| plan.enabled)
    };
    let Some(address) = port() else { return };
    let answer = tokio::time::timeout(INTERVAL, TcpStream::connect(address)).await;
    // What a proxy that was disabled meanwhile answers is not the fault's doing.
    if port() != Some(address) {
        return;
    }
    match answer {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => touched.add_refused(),
        Ok(_) => {}
        Err(_) => touched.add_unanswered(),
    }
}
