#!/usr/bin/env bash
# Formatting, as rustfmt.toml has it. The fuzz targets are a workspace of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
for folder in chaos/fuzz runtime/fuzz; do
  cargo fmt --manifest-path "$folder/Cargo.toml" --check
done
