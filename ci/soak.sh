#!/usr/bin/env bash
# README's main command in its short form, on each backend that this machine has.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/backends.sh
. ci/backends.sh
for backend in "${backends[@]}"; do
  echo "--- soak on $backend"
  cargo run --locked -p harness -- soak --duration 2m --backend "$backend"
done
