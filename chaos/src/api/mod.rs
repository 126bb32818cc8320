//! Toxiproxy's HTTP API.
