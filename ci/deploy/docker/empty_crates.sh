#!/bin/sh
# Gives each named crate, which so far has only its Cargo.toml, an empty file for every target that the manifest names:
# without them Cargo does not read the workspace. Used by the Dockerfile.
set -eu
for crate in "$@"; do
    mkdir -p "$crate/src"
    : >"$crate/src/lib.rs"
    echo 'fn main() {}' >"$crate/src/main.rs"
    awk '
        function flush() {
            if (kind != "") print (path != "" ? path : (kind == "bench" ? "benches" : kind "s") "/" name ".rs")
            kind = name = path = ""
        }
        /^\[/ { flush() }
        /^\[\[(bench|test|example)\]\]/ { kind = $0; gsub(/[^a-z]/, "", kind) }
        kind != "" && /^(name|path) *=/ { value = $0; sub(/^[^"]*"/, "", value); sub(/".*/, "", value)
                                          if (/^name/) name = value; else path = value }
        END { flush() }
    ' "$crate/Cargo.toml" | while read -r file; do
        mkdir -p "$crate/$(dirname "$file")"
        echo 'fn main() {}' >"$crate/$file"
    done
done
