//! `chaos-proxy`: the fault proxy as a server of its own, with Toxiproxy's API.

fn main() {}
