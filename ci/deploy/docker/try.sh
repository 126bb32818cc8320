#!/usr/bin/env bash
# Looks at a built image and runs it: ci/deploy/docker/try.sh [NAME:TAG]   (default fraiseql/server:latest)
#
# With DATABASE_URL, REDIS_URL and NATS_URL in the environment (`. runs/…/env.sh` of `harness up`) the server runs on them,
# in this machine's network, and the container has to become healthy. Without them there is nothing to serve from, so it
# has to live and to say that it is not healthy; that it becomes healthy is then not run. One line for each check.
# Exit codes: 0 every check held, 1 one did not, 3 all held but something was not run.
set -euo pipefail

image=${1:-fraiseql/server:latest}
size_max_mb=100
failed=0
not_run=0
id=

cleanup() {
    if [ -n "$id" ]; then docker rm --force --volumes "$id" >/dev/null; fi
}
trap cleanup EXIT

check() { # what, wanted, found
    if [ "$2" = "$3" ]; then
        printf 'ok       %-28s %s\n' "$1" "$3"
    else
        printf 'FAILED   %-28s %s, wanted %s\n' "$1" "${3:-nothing}" "$2"
        failed=1
    fi
}
inspect() { docker image inspect --format "$1" "$image"; }

docker image inspect "$image" >/dev/null 2>&1 || { echo "no image $image; ci/deploy/docker/build.sh makes it" >&2; exit 2; }

size=$(inspect '{{.Size}}')
check "size below $size_max_mb MB" yes "$([ "$size" -lt $((size_max_mb * 1000000)) ] && echo yes || echo no)"
printf '         %-28s %s bytes\n' size "$size"
check user 1000:1000 "$(inspect '{{.Config.User}}')"
check "uid of a process" "1000 1000" \
    "$(docker run --rm --network none --entrypoint sh "$image" -c 'echo $(id -u) $(id -g)')"
check "exposed ports" 8000/tcp "$(inspect '{{range $port, $_ := .Config.ExposedPorts}}{{$port}}{{end}}')"
check "entry point" '["fraiseql-server"]' "$(inspect '{{json .Config.Entrypoint}}')"
check healthcheck '["CMD","fraiseql-server","healthcheck","--address","127.0.0.1:8000"] 30s/5s/5s/3' \
    "$(inspect '{{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}}/{{.Config.Healthcheck.Timeout}}/{{.Config.Healthcheck.StartPeriod}}/{{.Config.Healthcheck.Retries}}')"
# What the building machine needed to reach its packages is its own business.
left=$(docker history --no-trunc --format '{{.CreatedBy}}' "$image" | grep -cE 'BEGIN CERTIFICATE|Acquire::|_proxy=' || true)
check "settings of the machine" 0 "$left"

hardened=(--read-only --cap-drop ALL --security-opt no-new-privileges)
if [ -n "${DATABASE_URL:-}" ] && [ -n "${REDIS_URL:-}" ] && [ -n "${NATS_URL:-}" ]; then
    stores=yes
    wanted=healthy
    settings=(--network host --env DATABASE_URL --env REDIS_URL --env NATS_URL)
    docker run --rm "${hardened[@]}" "${settings[@]}" "$image" migrate --config /etc/fraiseql/fraiseql.toml >/dev/null 2>&1 &&
        check migrate 0 0 || check migrate 0 "$?"
else
    stores=no
    wanted=unhealthy
    # The server wants addresses; nobody listens on these.
    settings=(--publish 127.0.0.1::8000 --env DATABASE_URL=postgres://nobody:none@127.0.0.1:9/none
        --env REDIS_URL=redis://127.0.0.1:9 --env NATS_URL=nats://127.0.0.1:9)
fi
id=$(docker run --detach "${hardened[@]}" "${settings[@]}" "$image")
if [ $stores = yes ]; then address=127.0.0.1:8000; else address=$(docker port "$id" 8000/tcp | head -1); fi

answer() { curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' "http://$address$1" || true; }
until_deadline() { # seconds, command: until it succeeds
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS >= deadline)); then return 1; fi
        sleep 0.5
    done
}
lives() { [ "$(answer /livez)" = 200 ]; }
judged() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$id")" = "$wanted" ]; }

until_deadline 20 lives || true
check "/livez" 200 "$(answer /livez)"
# Three looks half a minute apart until it is unhealthy, one until it is healthy.
until_deadline 130 judged || true
check "container is $wanted" "$wanted" "$(docker inspect --format '{{.State.Health.Status}}' "$id")"
if [ $stores = yes ]; then
    check "/health" 200 "$(answer /health)"
else
    check "/health" 503 "$(answer /health)"
    printf 'NOT RUN  %-28s %s\n' "container becomes healthy" "DATABASE_URL, REDIS_URL and NATS_URL name no stores"
    not_run=1
fi

docker kill --signal TERM "$id" >/dev/null
code=$(timeout 30 docker wait "$id" || echo "still running after 30 s")
check "exit code after SIGTERM" 0 "$code"
if ((failed)); then docker logs --tail 20 "$id" >&2; fi

if ((failed)); then exit 1; fi
if ((not_run)); then exit 3; fi
