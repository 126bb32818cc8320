#!/usr/bin/env bash
# The previous release on the schema of this one: a rollout has both at work on one database. Builds the last tagged release
# that comes before this commit, migrates with this tree's server, serves with the release's own and its schema file, and runs
# the baseline's load without faults. Says so and passes when there is no release yet.
#   PREVIOUS=TAG ci/previous_release.sh      another one than the last
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/again.sh
. ci/again.sh
previous=${PREVIOUS:-$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null || true)}
if [ -z "$previous" ]; then
  echo "previous release on the new schema: NOT RUN, there is no earlier release (no tag v*)"
  exit 0
fi
work=$(mktemp -d)
cleanup() {
  git worktree remove --force "$work/tree" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
git worktree add --quiet --detach "$work/tree" "$previous"
target=${CARGO_TARGET_DIR:-$PWD/target}
(cd "$work/tree" && CARGO_TARGET_DIR="$target/previous" cargo build --release --locked -p fraiseql-runtime --bin fraiseql-server)
CARGO_TARGET_DIR="$target" cargo build --release --locked -p fraiseql-runtime --bin fraiseql-server
echo "--- $previous on the schema of $(git rev-parse --short HEAD)"
conclusive env CARGO_TARGET_DIR="$target" cargo run --locked -p harness -- baseline --no-chaos --duration 30s \
  --server "$target/previous/release/fraiseql-server" \
  --schema "$work/tree/fixtures/schemas/ecommerce/schema.graphql" \
  --migrator "$target/release/fraiseql-server"
