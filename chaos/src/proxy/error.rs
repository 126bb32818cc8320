//! What can go wrong with a proxy.

use std::io;

use crate::protocol::Protocol;

/// Messages are those of Toxiproxy, since its clients compare them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen tcp {address}: {}", reason(source))]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The address to listen on cannot be used at all.
    #[error("listen tcp: {0}")]
    Unresolved(String),
    /// The same for a proxy of datagrams.
    #[error("listen udp {address}: {}", reason(source))]
    ListenUdp {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("listen udp: {0}")]
    UnresolvedUdp(String),
    /// The new address of a proxy that exists cannot be used at all.
    #[error("{0}")]
    Address(String),
    #[error("missing required field: {0}")]
    Missing(&'static str),
    #[error("proxy already exists")]
    ProxyExists,
    #[error("proxy not found")]
    ProxyNotFound,
    #[error("toxic already exists")]
    ToxicExists,
    #[error("toxic not found")]
    ToxicNotFound,
    #[error(transparent)]
    Toxic(#[from] crate::toxic::WireError),
    #[error("{fault} has no meaning on a udp proxy")]
    FaultOfTcp { fault: &'static str },
    #[error("tls has no meaning on a udp proxy; leave it out")]
    TlsOfUdp,
    #[error(transparent)]
    Tls(#[from] super::tls::Error),
    #[error("fault not found")]
    FaultNotFound,
    #[error("fault already exists")]
    FaultExists,
    #[error("proxy has been stopped")]
    Stopped,
    #[error(
        "the fault is about {} messages, but {}", wanted.name(), spoken_here(*spoken)
    )]
    Protocol { wanted: Protocol, spoken: Option<Protocol> },
}

fn spoken_here(spoken: Option<Protocol>) -> String {
    match spoken {
        Some(protocol) => format!("the link speaks {}", protocol.name()),
        None => "the proxy was not told what its link speaks".into(),
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".into(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".into(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".into(),
        _ => error.to_string(),
    }
}
