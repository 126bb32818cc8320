#!/usr/bin/env bash
# Every chaos scenario on the process backend. On the container backend, where this machine has it, those that act on
# processes: a fault on a link is the same proxy in this process whatever stands behind it, and ci/soak.sh runs three of
# those there. CI_ALL_SCENARIOS=1 runs all of them on both.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/backends.sh
. ci/backends.sh
# shellcheck source=ci/again.sh
. ci/again.sh
all=(scenarios/chaos/*.toml)
on_containers=()
for id in runtime-killed services-killed services-struck; do
  on_containers+=("scenarios/chaos/$id.toml")
done
failed=()
for backend in "${backends[@]}"; do
  files=("${all[@]}")
  if [ "$backend" = container ] && [ -z "${CI_ALL_SCENARIOS:-}" ]; then
    files=("${on_containers[@]}")
    echo "--- scenarios on $backend: ${#files[@]} of ${#all[@]}; the others act on links alone and are NOT RUN there"
  else
    echo "--- scenarios on $backend"
  fi
  for file in "${files[@]}"; do
    conclusive cargo run --locked -p harness -- chaos run --backend "$backend" "$file" || failed+=("$file on $backend (exit code $?)")
  done
done
if ((${#failed[@]})); then
  printf 'not valid: %s\n' "${failed[@]}"
  exit 1
fi
