#!/usr/bin/env bash
# Drives our Toxiproxy API with the toxiproxy_rust crate. Outside the default members: its TLS stack builds OpenSSL.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --locked -p toxiproxy-client
