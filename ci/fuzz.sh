#!/usr/bin/env bash
# Fuzzes what reads hostile bytes with libFuzzer, each target for FUZZ_SECONDS (default 10), beginning from the committed
# corpus. What it finds on the way goes to a folder outside the checkout; a crash ends the script and leaves its input there.
#   ci/fuzz.sh [TARGET …]      default: all targets
#
# The flags are those of cargo-fuzz, which takes minutes to install; `RUSTC_BOOTSTRAP=1 cargo fuzz run TARGET` works too and
# adds the address sanitizer. Here there is none: the crate's only unsafe code makes two system calls and reads no input.
set -euo pipefail
cd "$(dirname "$0")/../chaos/fuzz"

work="${XDG_CACHE_HOME:-$HOME/.cache}/fraiseql-ci/fuzz"
seconds="${FUZZ_SECONDS:-10}"
# With a target named, build scripts and macros are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# An instrumented build has its own place; the folder is reused by the next run.
export CARGO_TARGET_DIR="$work/target"
export RUSTFLAGS="$coverage --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"

cargo build --release --locked --target "$host"

targets=("$@")
if ((${#targets[@]} == 0)); then
  for file in fuzz_targets/*.rs; do
    targets+=("$(basename "$file" .rs)")
  done
fi

for target in "${targets[@]}"; do
  printf '\n=== fuzz %s for %s s\n' "$target" "$seconds"
  mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
  words=()
  case $target in api | config_file | toxic_json) words=(-dict=api.dict) ;; esac
  "$CARGO_TARGET_DIR/$host/release/$target" "$work/corpus/$target" "corpus/$target" \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$work/artifacts/$target/" "${words[@]}"
done
