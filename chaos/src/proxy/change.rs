//! Enabling, disabling and moving a proxy: one at a time, and only the port is waited for, never traffic.

use std::net::SocketAddr;

use super::state::{Gate, Plan};
use super::{Error, Proxy, TlsConfig, address, listener, tls};
use crate::toxic::pipeline::Finish;

/// What is to change of a proxy; what is `None` stays.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub listen: Option<String>,
    pub upstream: Option<String>,
    pub enabled: Option<bool>,
    pub tls: Option<TlsConfig>,
}

impl Proxy {
    pub(crate) async fn enable(&self) -> Result<(), Error> {
        let _change = self.shared.change.lock().await;
        self.open().await
    }

    /// Closes the listener and every connection with FIN; toxics stay.
    pub(crate) async fn disable(&self) {
        let _change = self.shared.change.lock().await;
        self.close().await;
    }

    /// Changes what is given. A changed address, or TLS that is set otherwise, ends all connections; toxics stay. The
    /// files of TLS that is given are read again, for the connections to come. Fails without a change when the address
    /// or the files cannot be used at all, and leaves the proxy disabled with its new address when it is taken.
    pub(crate) async fn update(&self, change: Change) -> Result<(), Error> {
        let Change { listen, upstream, enabled, tls } = change;
        let loaded = tls::load(tls.as_ref(), self.udp().is_some()).await?;
        let listen = listen.unwrap_or_else(|| self.listen());
        // Before the lock: nobody else has to wait for a name server.
        let resolved = address::resolve(&listen).await.map_err(Error::Address)?;
        let _change = self.shared.change.lock().await;
        let upstream = upstream.unwrap_or_else(|| self.upstream());
        let wanted = enabled.unwrap_or_else(|| self.enabled());
        if self.differs(resolved, &upstream, tls.as_ref()) {
            self.close().await;
            self.shared.settings.lock().listen = listen;
            self.shared.followed.plan.send_modify(|plan| plan.address = None);
            self.set_upstream(upstream);
        }
        if tls.is_some() {
            self.shared.settings.lock().tls = loaded;
        }
        match wanted {
            true => self.open().await,
            false => {
                self.close().await;
                Ok(())
            }
        }
    }

    /// True unless the proxy shows these very addresses, and this TLS where any is given; port 0 is never the same.
    pub(super) fn differs(&self, listen: SocketAddr, upstream: &str, tls: Option<&TlsConfig>) -> bool {
        self.listen() != listen.to_string()
            || self.upstream() != upstream
            || tls.is_some_and(|tls| *tls != self.tls())
    }

    async fn open(&self) -> Result<(), Error> {
        let shared = &self.shared;
        if shared.stopped.is_cancelled() {
            return Err(Error::Stopped);
        }
        if shared.followed.plan.borrow().enabled {
            return Ok(());
        }
        let listen = shared.settings.lock().listen.clone();
        // As the port would be if the proxy were enabled.
        let gate = Plan { enabled: true, ..shared.followed.plan.borrow().clone() }.gate();
        let address = if let Some(udp) = &shared.udp {
            udp.bind_text(&listen).await?
        } else if gate == Gate::Closed {
            // Nothing may listen now; the listener comes back when the fault heals.
            address::resolve(&listen).await.map_err(Error::Unresolved)?
        } else {
            let socket = listener::bind_text(&listen).await?;
            let address = socket.local_addr().map_err(|source| Error::Listen { address: listen, source })?;
            *shared.handover.lock() = Some(socket);
            address
        };
        shared.settings.lock().listen = address.to_string();
        shared.followed.plan.send_modify(|plan| {
            plan.address = Some(address);
            plan.enabled = true;
        });
        shared.wait_for_gate().await;
        Ok(())
    }

    async fn close(&self) {
        self.shared.followed.plan.send_modify(|plan| plan.enabled = false);
        self.shared.wait_for_gate().await;
        self.shared.end_all(Finish::Close, None).await;
    }
}
