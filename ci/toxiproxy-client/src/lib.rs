//! Holds no code: its tests drive `chaos-proxy` with the `toxiproxy_rust` crate.
