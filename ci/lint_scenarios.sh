#!/usr/bin/env bash
# Every scenario file is well formed and means something.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo run --locked -p harness -- chaos lint scenarios/chaos/*.toml
