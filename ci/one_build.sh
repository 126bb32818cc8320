#!/usr/bin/env bash
# README's two commands share one build: when the tests are built, nothing is left to compile for the harness.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --locked --no-run
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo build --locked -p harness 2>&1 | tee "$log"
again=$(sed -n 's/^ *Compiling \([^ ]*\) .*/\1/p' "$log" | xargs)
if [ -n "$again" ]; then
  echo "compiled again, because \`cargo test\` has other features of one of them: $again"
  echo "name the crate with these features in harness/Cargo.toml, where the others are"
  exit 1
fi
