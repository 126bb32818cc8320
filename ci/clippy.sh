#!/usr/bin/env bash
# Lints of the compiler and of clippy, warnings denied.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo clippy --workspace --all-targets --locked -- -D warnings
