#!/usr/bin/env bash
# README's main command in its short form, on each backend that this machine has.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/backends.sh
. ci/backends.sh
# shellcheck source=ci/again.sh
. ci/again.sh
for backend in "${backends[@]}"; do
  echo "--- soak on $backend"
  conclusive cargo run --locked -p harness -- soak --duration 2m --backend "$backend"
done
