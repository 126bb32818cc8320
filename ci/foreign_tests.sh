#!/usr/bin/env bash
# Runs the tests of the toxiproxy_rust crate, as it is published, against the stand-alone chaos-proxy. They use the ports 8474,
# 2000 and 2001. Not a step of CI: the ports are those of the machine, and ci/foreign_client.sh makes the same calls.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target="${CARGO_TARGET_DIR:-$root/target}"

cargo fetch --locked
manifest=$(cargo metadata --locked --format-version 1 |
  tr ',' '\n' | sed -n 's/^"manifest_path":"\(.*\/toxiproxy_rust-[^/]*\/Cargo.toml\)".*/\1/p' | head -1)
[ -n "$manifest" ] || { echo "the lock file names no toxiproxy_rust" >&2; exit 1; }

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cp -r "$(dirname "$manifest")/." "$work"
# As in our own package: the crate's TLS stack needs OpenSSL, and a vendored build asks for a C compiler and perl alone.
printf '\n[dev-dependencies.openssl]\nversion = "0.10"\nfeatures = ["vendored"]\n\n[workspace]\n' >>"$work/Cargo.toml"
cp Cargo.lock "$work/Cargo.lock"

cargo build --locked --package chaos --bin chaos-proxy
"$target/debug/chaos-proxy" -port 8474 &
server=$!
CARGO_TARGET_DIR="$target" cargo test --manifest-path "$work/Cargo.toml" --test toxiproxy_rust -- --test-threads 1
kill "$server"
wait "$server"
