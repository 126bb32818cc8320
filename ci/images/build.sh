#!/usr/bin/env bash
# Builds local images of Postgres, Redis and NATS for engines that reach no image registry:
#   fraiseql-local/postgres:15  fraiseql-local/redis:7  fraiseql-local/nats:2.9
# from the packages of Debian bookworm, by the package sources, proxy and CA settings of this machine. An image that was
# made of the same files is kept; --force builds again; --base makes only the base that they share. Exit codes: 0 all
# present, 2 something that is needed is missing. With --optional a machine without a container engine is no error: what
# needs the images is then not run, and says so.
set -euo pipefail
cd "$(dirname "$0")"

suite=bookworm
base=fraiseql-local/base:$suite
force=no
only_base=no
optional=no
for word in "$@"; do
    case $word in
        --force) force=yes ;;
        --base) only_base=yes ;;
        --optional) optional=yes ;;
        *) echo "images: unknown option $word: --force, --base or --optional" >&2; exit 2 ;;
    esac
done

say() { echo "images: $*" >&2; }
fail() { say "$*"; exit 2; }
no_engine() {
    [ $optional = yes ] && { say "NOT RUN: $*"; exit 0; }
    fail "$*"
}
present() { docker image inspect "$1" >/dev/null 2>&1; }

command -v docker >/dev/null || no_engine "no docker command; install one, or use --backend process"
docker version >/dev/null 2>&1 || no_engine "the container engine does not answer; start it, or use --backend process"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else return 1; fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The first bookworm package source of this machine, so that a mirror, snapshot or proxy that it uses is used here too.
mirror() {
    local sources
    sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -nE "s/^deb( \[[^]]*\])? ([^ ]+) $suite .*/\2/p" | head -1)
    if [ -z "$sources" ]; then
        sources=$(awk -v suite=$suite '/^URIs:/ {uri=$2} /^Suites:/ && $0 ~ suite"( |$)" {print uri; exit}' \
            /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
    fi
    echo "$sources"
}

# Apt settings that decide how packages are reached.
apt_settings() {
    apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https)::(Proxy|CaInfo|Verify-Peer)' || true
}

build_base() {
    local from
    from=$(mirror)
    if ! command -v mmdebstrap >/dev/null && ! command -v debootstrap >/dev/null; then
        say "installing mmdebstrap"
        as_root apt-get install -y --no-install-recommends mmdebstrap >"$work/apt.log" 2>&1 ||
            { cat "$work/apt.log" >&2 2>/dev/null; fail "needs mmdebstrap or debootstrap: apt-get install mmdebstrap"; }
    fi
    say "making $base"
    if command -v mmdebstrap >/dev/null; then
        local mode=()
        [ "$(id -u)" = 0 ] && mode=(--mode=root)
        apt_settings >"$work/apt.conf"
        # No documentation, as in the official slim image; licences stay.
        local slim=()
        for folder in doc man info locale groff lintian linda; do
            slim+=(--dpkgopt="path-exclude=/usr/share/$folder/*")
        done
        slim+=(--dpkgopt='path-include=/usr/share/doc/*/copyright')
        # Without this the layout of /usr is made by a package that brings all of Perl.
        local merged=/usr/share/mmdebstrap/hooks/merged-usr
        [ -d $merged ] && slim+=(--hook-dir=$merged --include=usr-is-merged)
        mmdebstrap "${mode[@]}" --variant=minbase --aptopt="$work/apt.conf" "${slim[@]}" \
            --customize-hook="rm -f \"\$1\"/etc/apt/apt.conf.d/99mmdebstrap" \
            $suite "$work/base.tar" ${from:+"$from"} 2>"$work/base.log" ||
            { tail -20 "$work/base.log" >&2; fail "mmdebstrap failed"; }
    else
        as_root debootstrap --variant=minbase $suite "$work/root" ${from:+"$from"} >"$work/base.log" 2>&1 ||
            { tail -20 "$work/base.log" >&2; fail "debootstrap failed (it needs root)"; }
        tar -C "$work/root" -cf "$work/base.tar" .
    fi
    docker import "$work/base.tar" "$base" >/dev/null
}

# The machine's certificates and settings go into the stage that installs the packages only; the image has neither.
build() {
    local name=$1 tag=$2 recipe
    recipe=$(cat "$name"/* | sha256sum | cut -d' ' -f1)
    if [ $force = no ] && [ "$(docker image inspect --format '{{index .Config.Labels "fraiseql.recipe"}}' "$tag" 2>/dev/null)" = "$recipe" ]; then
        say "$tag is present"
        return
    fi
    present "$base" || build_base
    say "building $tag"
    local context="$work/$name"
    mkdir -p "$context"
    cp "$name"/* "$context/"
    apt_settings >"$context/apt.conf"
    : >"$context/ca.crt"
    local bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    [ -r "$bundle" ] && cp "$bundle" "$context/ca.crt"
    DOCKER_BUILDKIT=0 docker build --quiet --build-arg BASE="$base" \
        ${http_proxy:+--build-arg http_proxy="$http_proxy"} ${https_proxy:+--build-arg https_proxy="$https_proxy"} \
        --label fraiseql.recipe="$recipe" --tag "$tag" "$context" >"$work/build.log" 2>&1 ||
        { tail -30 "$work/build.log" >&2; fail "building $tag failed"; }
}

if [ $only_base = yes ]; then
    present "$base" && say "$base is present" || build_base
    exit 0
fi
if [ $force = yes ]; then build_base; fi
build postgres fraiseql-local/postgres:15
build redis fraiseql-local/redis:7
build nats fraiseql-local/nats:2.9
# The stages that the images were made of; the filter spares everything else on the engine.
docker image prune --force --filter label=fraiseql.build-stage=packages >/dev/null
say "all present"
