# Sourced: sets `backends` to what this machine can run. CI_BACKENDS overrides it.
# shellcheck shell=bash
backends=(process)
if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  backends+=(container)
else
  echo "container backend: NOT RUN, no container engine answers here"
fi
if [ -n "${CI_BACKENDS:-}" ]; then
  read -ra backends <<<"$CI_BACKENDS"
fi
