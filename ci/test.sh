#!/usr/bin/env bash
# README's test command.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --locked
