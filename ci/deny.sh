#!/usr/bin/env bash
# Audits dependencies: licences, bans and sources always, advisories where their database can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="${XDG_CACHE_HOME:-$HOME/.cache}/fraiseql-ci/tools"
deny=$(command -v cargo-deny || true)
if [ -z "$deny" ]; then
  deny="$tools/bin/cargo-deny"
  if [ ! -x "$deny" ]; then
    echo "cargo-deny is missing: building it into $tools (some minutes, once)"
    # An unoptimised tool is quick enough here and builds in a fraction of the time.
    env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      CARGO_PROFILE_RELEASE_OPT_LEVEL=0 cargo install --quiet --locked --version '^0.20' --root "$tools" cargo-deny
  fi
fi

"$deny" --workspace check bans licenses sources

# The advisory database is a git repository of its own. Without it that part is not run, which is said and not a pass.
if "$deny" --workspace fetch db >/dev/null 2>&1; then
  "$deny" --workspace check advisories
else
  echo "advisories: NOT RUN, the advisory database cannot be fetched from here"
fi
