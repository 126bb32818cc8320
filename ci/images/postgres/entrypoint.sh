#!/bin/sh
# Makes the cluster at the first start, then becomes the server: the part of the official image's contract that the
# harness uses (POSTGRES_PASSWORD, PGDATA, `postgres -c name=value`).
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}"
    file=$(mktemp)
    printf %s "$POSTGRES_PASSWORD" >"$file"
    initdb --username=postgres --pwfile="$file" --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    rm -f "$file"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*'
