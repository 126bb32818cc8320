#!/usr/bin/env bash
# Builds the image of fraiseql-server: ci/deploy/docker/build.sh [--local] [--tag NAME:TAG]
#
# Without --local on the official bases that the Dockerfile names, which have to be present or pullable. With --local for
# engines that reach no image registry: on Debian bookworm from this machine's package sources, built with this machine's
# Rust toolchain. Certificates and package settings of this machine go in as build arguments of the stages that fetch
# something; the image has none of them. Exit codes: 0 built, 1 the build failed, 2 something that is needed is missing.
set -euo pipefail
cd "$(dirname "$0")/../../.."

tag=fraiseql/server:latest
local=no
while (($#)); do
    case $1 in
        --local) local=yes ;;
        --tag) tag=${2:?--tag needs NAME:TAG}; shift ;;
        *) echo "usage: $0 [--local] [--tag NAME:TAG]" >&2; exit 2 ;;
    esac
    shift
done

say() { echo "image: $*" >&2; }
fail() { say "$*"; exit 2; }
command -v docker >/dev/null || fail "no docker command; install one"
docker version >/dev/null 2>&1 || fail "the container engine does not answer; start it"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What Debian's way of adding an authority has put on this machine, beyond the public ones.
EXTRA_CERTIFICATES=$(cat /usr/local/share/ca-certificates/*.crt 2>/dev/null || true)
APT_SETTINGS=$(apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https)::(Proxy|Verify-Peer)' || true)
export EXTRA_CERTIFICATES APT_SETTINGS
settings=(--build-arg EXTRA_CERTIFICATES --build-arg APT_SETTINGS)
# The engine knows these by itself and keeps them out of the image's history.
for name in http_proxy https_proxy no_proxy; do
    [ -n "${!name:-}" ] && settings+=(--build-arg "$name")
done

base=fraiseql-local/base:bookworm
toolchain=fraiseql-local/rust:bookworm
make_toolchain() {
    if docker image inspect "$toolchain" >/dev/null 2>&1; then
        say "$toolchain is present"
        return
    fi
    command -v rustc >/dev/null || fail "--local takes this machine's Rust toolchain, and there is no rustc"
    say "making $toolchain of $(rustc --version)"
    # Documentation and the tools for people are of no use in there.
    tar -C "$(rustc --print sysroot)" --exclude='./share' --exclude='./bin/rust-*' --exclude='./bin/clippy*' \
        --exclude='./bin/cargo-*' --exclude='./bin/rustfmt' -cf "$work/toolchain.tar" .
    cp ci/deploy/docker/toolchain.Dockerfile "$work/Dockerfile"
    docker build --quiet --build-arg BASE="$base" "${settings[@]}" --tag "$toolchain" "$work" >"$work/log" 2>&1 ||
        { tail -30 "$work/log" >&2; say "making $toolchain failed"; exit 1; }
    rm "$work/toolchain.tar"
}

if [ $local = yes ]; then
    ci/images/build.sh --base
    make_toolchain
    settings+=(--build-arg BUILD_IMAGE="$toolchain" --build-arg RUN_IMAGE="$base")
fi
say "building $tag"
started=$SECONDS
docker build -f ci/deploy/docker/Dockerfile "${settings[@]}" --tag "$tag" . || { say "building $tag failed"; exit 1; }
say "built $tag in $((SECONDS - started)) s, $(($(docker image inspect -f '{{.Size}}' "$tag") / 1000000)) MB"
