//! Proxies of datagrams through the API and from Rust, over real sockets.

mod api;
mod sessions;
mod support;
mod toxics;
