#!/usr/bin/env bash
# Every chaos scenario, on each backend that this machine has.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/backends.sh
. ci/backends.sh
for backend in "${backends[@]}"; do
  echo "--- scenarios on $backend"
  cargo run --locked -p harness -- chaos run --backend "$backend" scenarios/chaos/*.toml
done
