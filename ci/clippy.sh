#!/usr/bin/env bash
# Lints of the compiler and of clippy, warnings denied. The fuzz targets are a workspace of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --workspace --all-targets --locked -- -D warnings
for folder in chaos/fuzz runtime/fuzz; do
  cargo clippy --manifest-path "$folder/Cargo.toml" --target-dir "${CARGO_TARGET_DIR:-target}/fuzz" --locked -- -D warnings
done
