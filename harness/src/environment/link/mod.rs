//! The link from the runtime to one service: a fault proxy of this process, or one on a server that the user named.
//!
//! Either takes the same faults by the same call, as far as it has them ([`Dialect::lacks`] says so beforehand), and says
//! in the end what they touched.

mod probe;
mod remote;
mod server;
mod toxics;

use std::net::SocketAddr;

use chaos::fault::Evidence;
use chaos::proxy::{Guard, LinkFault, Proxy};

pub use remote::RemoteLink;
pub use server::{Dialect, Toxiproxy};

pub(crate) use server::{is_there, remove};

/// A link that faults can act on.
#[derive(Debug)]
pub enum Link {
    Own(Proxy),
    Remote(RemoteLink),
}

impl Link {
    /// Where the runtime connects to.
    pub fn listen_address(&self) -> SocketAddr {
        match self {
            Link::Own(proxy) => proxy.listen_address(),
            Link::Remote(link) => link.listen_address(),
        }
    }

    /// Makes a fault act; returns when it does.
    pub async fn inject(&self, fault: &LinkFault) -> anyhow::Result<Acting> {
        Ok(match (self, fault) {
            (Link::Own(proxy), LinkFault::Network(fault)) => Acting::Own(proxy.inject(fault.clone()).await?),
            (Link::Own(proxy), LinkFault::Wire(fault)) => Acting::Own(proxy.inject_wire(fault)?),
            (Link::Remote(link), fault) => Acting::Remote(link.inject(fault).await?),
        })
    }

    /// From outside: the link takes connections again, and a server that can be asked knows of no fault of ours.
    pub async fn verify_healed(&self) -> anyhow::Result<()> {
        use anyhow::Context;
        let address = self.listen_address();
        tokio::net::TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        match self {
            Link::Own(_) => Ok(()),
            Link::Remote(link) => link.verify_healed().await,
        }
    }
}

/// A fault that acts on a link. Dropping it heals it; [`Acting::heal`] says whether that worked.
#[derive(Debug)]
pub enum Acting {
    Own(Guard),
    Remote(remote::Acting),
}

impl Acting {
    /// False where neither the proxy nor an exchange of the harness can tell what it touches.
    pub fn counts(&self) -> bool {
        match self {
            Acting::Own(_) => true,
            Acting::Remote(acting) => acting.counts(),
        }
    }

    /// What it has touched so far.
    pub async fn evidence(&self) -> anyhow::Result<Evidence> {
        match self {
            Acting::Own(guard) => Ok(guard.evidence()),
            Acting::Remote(acting) => acting.evidence().await,
        }
    }

    /// Ends the fault; what it touched until then.
    pub async fn heal(self) -> anyhow::Result<Evidence> {
        match self {
            Acting::Own(guard) => Ok(guard.heal().await),
            Acting::Remote(acting) => acting.heal().await,
        }
    }
}
