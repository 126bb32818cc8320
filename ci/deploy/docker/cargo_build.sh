#!/bin/sh
# Builds the server inside the image's build stage. EXTRA_CERTIFICATES (PEM) are believed in for this call only.
set -eu
if [ -n "${EXTRA_CERTIFICATES:-}" ]; then
    bundle=$(mktemp)
    trap 'rm -f "$bundle"' EXIT
    cat /etc/ssl/certs/ca-certificates.crt >"$bundle" 2>/dev/null || :
    printf '%s\n' "$EXTRA_CERTIFICATES" >>"$bundle"
    export CARGO_HTTP_CAINFO="$bundle"
fi
cargo build --release --locked --package fraiseql-runtime --bin fraiseql-server
