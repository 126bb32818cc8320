#!/usr/bin/env bash
# Lints of the compiler and of clippy, warnings denied. The fuzz targets are workspaces of their own;
# CI_ALL_LINTS=1 looks at those of the runtime too.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --manifest-path chaos/fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/fuzz" --locked -- -D warnings
# Three small files over the whole runtime, compiled once more: ci/fuzz.sh compiles them anyhow, their lints take minutes.
if [ -n "${CI_ALL_LINTS:-}" ]; then
  cargo clippy --manifest-path runtime/fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/fuzz" --locked -- -D warnings
fi
