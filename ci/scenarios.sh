#!/usr/bin/env bash
# The chaos scenarios: on the process backend all but the three that ci/soak.sh runs on each backend; on the container
# backend, where this machine has it, those that act on processes: a fault on a link is the same proxy in this process
# whatever stands behind it. CI_ALL_SCENARIOS=1 runs all of them on both.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/backends.sh
. ci/backends.sh
# shellcheck source=ci/again.sh
. ci/again.sh
all=(scenarios/chaos/*.toml)
in_soak="redis-refused postgres-silent-in-flight nats-cut"
on_processes=()
for file in "${all[@]}"; do
  case " $in_soak " in
    *" $(basename "$file" .toml) "*) ;;
    *) on_processes+=("$file") ;;
  esac
done
on_containers=()
for id in runtime-killed services-killed services-struck; do
  on_containers+=("scenarios/chaos/$id.toml")
done
failed=()
for backend in "${backends[@]}"; do
  files=("${on_processes[@]}")
  if [ "$backend" = container ]; then
    files=("${on_containers[@]}")
  fi
  if [ -n "${CI_ALL_SCENARIOS:-}" ]; then
    files=("${all[@]}")
  fi
  echo "--- scenarios on $backend: ${#files[@]} of ${#all[@]}; the others are NOT RUN here"
  for file in "${files[@]}"; do
    conclusive cargo run --locked -p harness -- chaos run --backend "$backend" "$file" || failed+=("$file on $backend (exit code $?)")
  done
done
if ((${#failed[@]})); then
  printf 'not valid: %s\n' "${failed[@]}"
  exit 1
fi
