#!/usr/bin/env bash
# Fuzzes each parser for FUZZ_SECONDS (default 30) with libFuzzer, beginning from the committed corpus. What it finds on
# the way goes to a folder outside the checkout; a crash ends the script and leaves its input there too.
#   ci/fuzz.sh [TARGET …]      default: all targets
set -euo pipefail
cd "$(dirname "$0")/../chaos"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/fraiseql-ci"
tools="$cache/tools"
work="$cache/fuzz"
seconds="${FUZZ_SECONDS:-30}"

export PATH="$PATH:$tools/bin"
if ! command -v cargo-fuzz >/dev/null; then
  echo "cargo-fuzz is missing: building it into $tools (about two minutes, once)"
  env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install --quiet --locked --version '^0.13' --root "$tools" cargo-fuzz
fi

# The stable toolchain of rust-toolchain.toml is used with the unstable flags that instrumenting needs.
export RUSTC_BOOTSTRAP=1
# An instrumented build has its own place; the folder is reused by the next run.
export CARGO_TARGET_DIR="$work/target"

targets=("$@")
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <(cargo fuzz list)
fi

for target in "${targets[@]}"; do
  printf '\n=== fuzz %s for %s s\n' "$target" "$seconds"
  mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
  cargo fuzz run "$target" "$work/corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$work/artifacts/$target/"
done
