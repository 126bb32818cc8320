#!/usr/bin/env bash
# Drives our Toxiproxy API with the toxiproxy_rust crate. Outside the default members: its TLS stack builds OpenSSL.
set -euo pipefail
cd "$(dirname "$0")/.."
# The whole workspace is selected, so that dependencies keep the features they were built with for the other steps.
exec cargo test --locked --workspace --test drive
