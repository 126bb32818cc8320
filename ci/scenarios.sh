#!/usr/bin/env bash
# The chaos scenarios: on the process backend all but the three that ci/soak.sh runs on each backend; on the container
# backend, where this machine has it, those that act on processes: a fault on a link is the same proxy in this process
# whatever stands behind it. CI_ALL_SCENARIOS=1 runs all of them on both.
#
# Two run at a time (CI_SCENARIOS_AT_ONCE): a run waits for most of its minute. Those that are about load or memory run alone,
# and so does, once more, what could not be judged (exit code 3) beside another. A failure beside another is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/backends.sh
. ci/backends.sh
# shellcheck source=ci/again.sh
. ci/again.sh
at_once=${CI_SCENARIOS_AT_ONCE:-2}
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
for id in runtime-killed services-killed services-struck webhooks-outlive-faults; do
  on_containers+=("scenarios/chaos/$id.toml")
done

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=()
alone=()
declare -A at_work=()
started=0
run() {
  cargo run --locked -p harness -- chaos run --backend "$1" "$2"
}
# Waits for one of those at work: prints what it said and notes how it ended.
settle() {
  local pid code=0 log backend file
  wait -n -p pid "${!at_work[@]}" || code=$?
  read -r log backend file <<<"${at_work[$pid]}"
  unset "at_work[$pid]"
  cat "$logs/$log"
  case $code in
    0) ;;
    3) alone+=("$backend $file") ;;
    *) failed+=("$file on $backend (exit code $code)") ;;
  esac
}

# Otherwise the first two would build at the same time.
cargo build --locked -p harness
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
    if grep -qE '^tags *=.*"(load|memory)"' "$file"; then
      alone+=("$backend $file")
      continue
    fi
    while ((${#at_work[@]} >= at_once)); do
      settle
    done
    started=$((started + 1))
    run "$backend" "$file" >"$logs/$started" 2>&1 &
    at_work[$!]="$started $backend $file"
  done
done
while ((${#at_work[@]})); do
  settle
done
for one in "${alone[@]}"; do
  read -r backend file <<<"$one"
  echo "--- alone, on $backend: $file"
  conclusive run "$backend" "$file" || failed+=("$file on $backend (exit code $?)")
done
if ((${#failed[@]})); then
  printf 'not valid: %s\n' "${failed[@]}"
  exit 1
fi
