#!/usr/bin/env bash
# promtool finds nothing to say about /metrics. Where promtool can be had neither from PATH nor from Debian's package
# `prometheus` this is not run, which is said and not a pass.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="${XDG_CACHE_HOME:-$HOME/.cache}/fraiseql-ci/promtool"
promtool=$(command -v promtool || true)
if [ -z "$promtool" ]; then
  promtool="$tools/usr/bin/promtool"
  if [ ! -x "$promtool" ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    mkdir -p "$tools"
    (cd "$tools" && apt-get download -qq prometheus >/dev/null 2>&1 && dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb) || true
  fi
fi
if [ ! -x "$promtool" ]; then
  echo "promtool check metrics: NOT RUN, promtool is not here and Debian's package prometheus cannot be fetched"
  exit 0
fi

# shellcheck source=ci/built.sh
. ci/built.sh
binary=$(built fraiseql-server)
work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
# Without a single dependency: every family is there from the start.
printf '[server]\nbind_address = "127.0.0.1:0"\n[graphql]\nschema = "%s"\n' "$PWD/fixtures/schemas/ecommerce/schema.graphql" \
  >"$work/fraiseql.toml"
(cd "$work" && exec env DATABASE_URL=postgres://shop@127.0.0.1:1/shop REDIS_URL=redis://127.0.0.1:1 \
  NATS_URL=nats://127.0.0.1:1 "$binary" >log 2>&1) &
server=$!
address=
for _ in $(seq 200); do
  address=$(sed -n 's/.*"message":"listening".*"address":"\([^"]*\)".*/\1/p' "$work/log")
  [ -z "$address" ] || break
  kill -0 "$server" 2>/dev/null || break
  sleep 0.1
done
[ -n "$address" ] || { echo "the server does not listen:"; cat "$work/log"; exit 1; }
curl -fsS "http://$address/livez" >/dev/null
curl -fsS "http://$address/metrics" >"$work/metrics"
"$promtool" check metrics <"$work/metrics"
printf 'promtool has nothing to say about %s families\n' "$(grep -c '^# TYPE' "$work/metrics")"
