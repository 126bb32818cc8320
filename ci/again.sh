# Sourced: `conclusive COMMAND…` runs a command of the harness, and once more when its verdict is that the run could not be
# judged (exit code 3), as when the machine was busy with something else. A second such verdict counts.
# shellcheck shell=bash
conclusive() {
  local code=0
  "$@" || code=$?
  if [ "$code" = 3 ]; then
    echo "--- not conclusive: once more"
    code=0
    "$@" || code=$?
  fi
  return "$code"
}
