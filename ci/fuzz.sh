#!/usr/bin/env bash
# Fuzzes what reads hostile bytes with libFuzzer, each target for FUZZ_SECONDS (default 10), beginning from the committed
# corpus and from what earlier runs found, which is kept outside the checkout. Fails when a target crashed, broke a promise
# or hung; the input that did it is kept there too, and the line to try it again with is printed.
#   ci/fuzz.sh [TARGET …]      default: all targets of chaos/fuzz and runtime/fuzz
#
# The flags are those of cargo-fuzz, which takes minutes to install; `RUSTC_BOOTSTRAP=1 cargo fuzz run TARGET` works too and
# adds the address sanitizer. Here there is none, which was not measured: the only unsafe code of ours makes two system
# calls and reads no input. Needs a C++ compiler for libFuzzer and nothing else beside Rust.
set -euo pipefail
cd "$(dirname "$0")/.."

work="${XDG_CACHE_HOME:-$HOME/.cache}/fraiseql-ci/fuzz"
seconds="${FUZZ_SECONDS:-10}"
# So many files are read again in a few seconds; where there are more, those that reach nothing of their own go.
kept_max=2000
# With a target named, build scripts and macros are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# An instrumented build has its own place; the folder is reused by the next run.
export CARGO_TARGET_DIR="$work/target"
export RUSTFLAGS="$coverage --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"
# The authorities that a TLS setting trusts when it names none: one, and the same on every machine.
export SSL_CERT_FILE="$PWD/chaos/fuzz/tls/c"

# A target's folder; none for a name that no workspace has.
folder_of() {
  local file
  for file in {chaos,runtime}/fuzz/fuzz_targets/"$1".rs; do
    if [ -f "$file" ]; then
      dirname "$(dirname "$file")"
    fi
  done
}

targets=("$@")
if ((${#targets[@]} == 0)); then
  for file in {chaos,runtime}/fuzz/fuzz_targets/*.rs; do
    targets+=("$(basename "$file" .rs)")
  done
fi
for target in "${targets[@]}"; do
  if [ -z "$(folder_of "$target")" ]; then
    echo "there is no target $target" >&2
    exit 2
  fi
done
for folder in $(for target in "${targets[@]}"; do folder_of "$target"; done | sort -u); do
  cargo build --manifest-path "$folder/Cargo.toml" --release --locked --target "$host"
done

# What libFuzzer would put into a dictionary is some hundred lines of each run, and nothing that it says of the target.
without_dictionary() {
  sed -u '/^###### Recommended dictionary\. ######/,/^###### End of recommended dictionary\. ######/d'
}

failed=()
for target in "${targets[@]}"; do
  printf '\n=== fuzz %s for %s s\n' "$target" "$seconds"
  program="$CARGO_TARGET_DIR/$host/release/$target"
  folder=$(folder_of "$target")
  found="$work/corpus/$target"
  artifacts="$work/artifacts/$target"
  mkdir -p "$found" "$artifacts"
  if (($(find "$found" -type f | wc -l) > kept_max)); then
    rm -rf "$found.less"
    mkdir "$found.less"
    "$program" -merge=1 -verbosity=0 "$found.less" "$found"
    rm -rf "$found"
    mv "$found.less" "$found"
  fi
  words=()
  case $target in
    api | config_file | toxic_json) words=(-dict="$folder/api.dict") ;;
    resp | nats | postgres | request_body | schema_file) words=(-dict="$folder/$target.dict") ;;
  esac
  # Inputs that take long are tried less often, since a few of them would leave no time for the rest.
  if ! "$program" "$found" "$folder/corpus/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
    -entropic_scale_per_exec_time=1 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$artifacts/" "${words[@]}" 2>&1 | without_dictionary; then
    failed+=("$target")
    # The newest one is that of this run.
    input=$(find "$artifacts" -type f -printf '%T@ %p\n' | sort -rn | sed -n '1s/^[^ ]* //p')
    printf 'again: %s %s\n' "$program" "$input"
  fi
done

if ((${#failed[@]})); then
  printf '\nfailed: %s\n' "${failed[*]}"
  exit 1
fi
