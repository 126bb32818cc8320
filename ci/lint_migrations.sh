#!/usr/bin/env bash
# No migration breaks the servers of the release before or stands in their way: this build's, and the worked examples,
# the last of which ships with a later release than ours.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/built.sh
. ci/built.sh
server=$(built fraiseql-server)
lint() {
  "$server" migrate lint "$@"
}
lint
for example in fixtures/schemas/migration-examples/*/; do
  lint --release 1.4.0 "$example"
done
