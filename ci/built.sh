# Sourced: `built NAME` prints the path of that program of this checkout. After the step `test`, which has built it (CI_BUILT=1),
# nothing is compiled: alone it has other features, and most of what it uses would be compiled again.
# shellcheck shell=bash
built() {
  local path="${CARGO_TARGET_DIR:-target}/debug/$1"
  if [ -z "${CI_BUILT:-}" ] || [ ! -x "$path" ]; then
    cargo build --locked --bin "$1" >&2
  fi
  realpath "$path"
}
