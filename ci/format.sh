#!/usr/bin/env bash
# Formatting, as rustfmt.toml has it. The fuzz targets are a workspace of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
exec cargo fmt --manifest-path chaos/fuzz/Cargo.toml --check
