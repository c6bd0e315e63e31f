#!/usr/bin/env bash
# Builds once, runs every suite, and says what came of it. Called by `make test`.
#
#   tests/run.sh                                     all suites
#   SUITE=core tests/run.sh                          one suite: layout core daemon kit house doc scenarios
#   SUITE=scenarios FILTER=unsigned tests/run.sh     only tests whose name contains the filter
#
# SCENARIO_THREADS   scenarios that run side by side (default: twice the cores; they mostly wait)
# SUITE_SECONDS      a test program that takes longer is stopped and counts as failed (default 1200)
# KEEP=1             keep the tests' temporary folder
# CI=1               Cargo.lock must be up to date
#
# A test that cannot run here (say, no IPv6) appends a line "name: why" to the file $EVENKEEL_SKIPS and returns; it is
# counted as skipped, as are #[ignore]d ones.
# The last line is `N passed, N failed` or `N passed, N failed, N skipped`. Exit status 0 only if something ran and nothing failed.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD

suite_wanted=${SUITE:-}
filter=${FILTER:-}
logs=${CARGO_TARGET_DIR:-$root/target}/test-logs
threads=${SCENARIO_THREADS:-$((2 * $(nproc)))}
limit=${SUITE_SECONDS:-1200}
parts=(restic ntfy git gpg ssh-keygen sshd openssl busybox docker-registry promtool faketime age curl jq)
all_suites='layout core daemon kit house doc scenarios'

if [ -n "$suite_wanted" ] && [[ " $all_suites " != *" $suite_wanted "* ]]; then
  printf 'run.sh: no suite "%s"; there are: %s\n' "$suite_wanted" "$all_suites" >&2
  exit 2
fi

# Every process that the tests start inherits this, so that what they leave behind can be found.
EVENKEEL_TEST_RUN="$(date +%s)x$$"
export EVENKEEL_TEST_RUN
# A snapshot that differs is a failure, never a new file.
export INSTA_UPDATE=no

passed=0 failed=0 skipped=0
failures=() skips=()
child='' engine_started='' engine_used='' finished=''

rm -rf "$logs"
mkdir -p "$logs"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/evk.XXXXXX") || exit 1
# One test runs the program as somebody else, who has to get to its own folder.
chmod 711 "$scratch"
export TMPDIR=$scratch
export EVENKEEL_SKIPS=$scratch/skips
: >"$EVENKEEL_SKIPS"

say() { printf '%s\n' "$*"; }

# fail WHAT   counts one failure that is not a test's own
fail() {
  failed=$((failed + 1))
  failures+=("$1")
  say "FAILED  $1"
}

wanted() { [ -z "$suite_wanted" ] || [ "$suite_wanted" = "$1" ]; }

# ---------------------------------------------------------------- build

# Bins and tests in one call: the same features, the same profile, nothing is compiled twice.
build() {
  local artifacts=$scratch/artifacts started=$SECONDS
  say "building (dev profile)"
  # In the background, so that a signal is heeded at once.
  cargo build --workspace --bins --tests ${CI:+--locked} --message-format=json-render-diagnostics >"$artifacts" &
  child=$!
  if ! wait "$child"; then
    child=
    fail 'build: see the errors of the compiler above; nothing was run'
    return 1
  fi
  child=
  # One line for each program: folder of its package, kind, name, whether it is a test program, path.
  sed -nE 's#^\{"reason":"compiler-artifact",.*"manifest_path":"([^"]*)/Cargo\.toml",.*"target":\{"kind":\["([a-z-]+)"\].*"name":"([^"]+)","src_path".*"test":(true|false)\},"features".*"executable":"([^"]+)".*#\1\t\2\t\3\t\4\t\5#p' \
    "$artifacts" >"$scratch/programs"
  EVENKEEL_BIN=$(awk -F'\t' '$2 == "bin" && $3 == "evenkeel" && $4 == "false" { print $5 }' "$scratch/programs")
  export EVENKEEL_BIN
  if [ ! -x "$EVENKEEL_BIN" ]; then
    fail 'build: cargo did not say where the program evenkeel is'
    return 1
  fi
  say "built in $((SECONDS - started)) s"
}

# Prints "package folder<TAB>name<TAB>test program" for each test program of a suite.
programs_of() {
  awk -F'\t' -v root="$root" -v suite="$1" '
    $4 != "true" { next }
    {
      of = "scenarios"
      if ($1 == root "/repo-layout") of = "layout"
      else if ($1 == root "/agent/core") of = "core"
      else if ($1 == root "/agent/daemon") of = "daemon"
      else if ($2 != "test") of = "kit"
      else if ($3 == "house") of = "house"
      if (of == suite) print $1 "\t" ($2 == "bin" ? "main" : $3) "\t" $5
    }' "$scratch/programs"
}

# ---------------------------------------------------------------- run

# watch NAME LOG FOLDER COMMAND…   runs it with a deadline; says every half minute how far it is
watch() {
  local name=$1 log=$2 folder=$3 started=$SECONDS next=30 code
  shift 3
  (cd "$folder" && exec timeout --kill-after=10 "$limit" "$@") >"$log" 2>&1 </dev/null &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - started)) -ge "$next" ]; then
      next=$((next + 30))
      say "        $name: $(grep -cE '^test .* \.\.\. (ok|FAILED|ignored)' "$log") tests done after $((SECONDS - started)) s"
    fi
  done
  wait "$child"
  code=$?
  child=
  return "$code"
}

# count LOG   sets p f i from all "test result:" lines
count() {
  read -r p f i < <(awk '/^test result:/ { for (n = 1; n < NF; n++) { w = $(n + 1); sub(/;/, "", w)
      if (w == "passed") p += $n; if (w == "failed") f += $n; if (w == "ignored") i += $n } }
      END { print p + 0, f + 0, i + 0 }' "$1")
}

# judge NAME LOG EXIT SECONDS   one progress line; only failures are shown in full
judge() {
  local name=$1 log=$2 code=$3 seconds=$4 p=0 f=0 i=0 told mark=ok line
  count "$log"
  told=$(wc -l <"$EVENKEEL_SKIPS")
  while IFS= read -r line; do skips+=("$name: $line"); done <"$EVENKEEL_SKIPS"
  while IFS= read -r line; do skips+=("$name: $line"); done < <(
    sed -nE 's/^test (.*) \.\.\. ignored,? ?(.*)$/\1: \2/p' "$log" | sed -E 's/: $/: marked #[ignore] without a reason/')
  : >"$EVENKEEL_SKIPS"
  if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then
    f=1
    failures+=("$name: ended with status $code before its tests did$([ "$code" -ne 124 ] || printf ' (over its %s s)' "$limit"); log: $log")
  else
    while IFS= read -r line; do failures+=("$name: $line"); done < <(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$log")
  fi
  [ $((p + f + i)) -gt 0 ] || return 0
  [ "$f" -eq 0 ] || mark=FAILED
  passed=$((passed + p - told)) failed=$((failed + f)) skipped=$((skipped + i + told))
  printf '%-7s %-28s %4d passed, %d failed, %d skipped  %4d s\n' "$mark" "$name" $((p - told)) "$f" $((i + told)) "$seconds"
  if [ "$f" -gt 0 ]; then
    say "------- $name: $log"
    if grep -q '^failures:$' "$log"; then sed -n '/^failures:$/,$p' "$log"; else tail -n 60 "$log"; fi
    say "-------"
  fi
}

# run_suite SUITE [ARGUMENT…]
run_suite() {
  local suite=$1 folder target program name log started seen='' many
  shift
  wanted "$suite" || return 0
  many=$(programs_of "$suite" | wc -l)
  while IFS=$'\t' read -r folder target program; do
    seen=yes
    name=$suite
    if [ "$many" -gt 1 ]; then name="$suite/$target"; fi
    log="$logs/${name//\//-}.log"
    started=$SECONDS
    # As cargo would run it: in the package's folder, which it also names.
    watch "$name" "$log" "$folder" env CARGO_MANIFEST_DIR="$folder" "$program" "$@" ${filter:+"$filter"}
    judge "$name" "$log" $? $((SECONDS - started))
  done < <(programs_of "$suite")
  [ -n "$seen" ] || say "        $suite: has no tests yet"
}

run_doc() {
  local started=$SECONDS
  wanted doc || return 0
  watch doc "$logs/doc.log" "$root" cargo test --quiet --workspace --doc ${CI:+--locked} -- ${filter:+"$filter"}
  judge doc "$logs/doc.log" $? $((SECONDS - started))
}

# ---------------------------------------------------------------- engine and parts

# What stands on the engine, one "kind id" a line.
on_engine() {
  {
    docker ps -aq --no-trunc | sed 's/^/container /'
    docker network ls -q --no-trunc | sed 's/^/network /'
    docker volume ls -q | sed 's/^/volume /'
  } 2>/dev/null | sort
}

prepare_parts() {
  docker/engine.sh status >/dev/null 2>&1 || engine_started=yes
  if ! docker/engine.sh up; then
    engine_started=
    fail 'engine: did not come up (the lines above say why); scenarios need it and were not run'
    return 1
  fi
  eval "$(docker/parts.sh env)"
  eval "$(docker/engine.sh env)"
  engine_used=yes
  if ! docker/parts.sh "${parts[@]}" || ! docker/base-image.sh; then
    fail 'parts: could not be had (the lines above say why); scenarios need them and were not run'
    return 1
  fi
  on_engine >"$scratch/engine-before"
}

# ---------------------------------------------------------------- the end, however it comes

# What the engine has now and had not before. On an engine that others use too, only what bears the tests' own mark counts.
left_on_engine() {
  local kind id name
  on_engine | comm -13 "$scratch/engine-before" - | while read -r kind id; do
    case "$kind" in
      container) name=$(docker inspect -f '{{.Name}}' "$id" 2>/dev/null) ;;
      network) name=$(docker network inspect -f '{{.Name}}' "$id" 2>/dev/null) ;;
      *) name=$id ;;
    esac
    name=${name#/}
    if [ -n "$engine_started" ] || [[ $name == evk* ]]; then printf '%s %s\n' "$kind" "$name"; fi
  done
}

# Processes that carry this run's mark in their environment: they were started by the tests.
left_processes() {
  local file pid
  # grep must not carry the mark itself.
  env -u EVENKEEL_TEST_RUN grep -laE "(^|[^A-Z_])EVENKEEL_TEST_RUN=$EVENKEEL_TEST_RUN" /proc/[0-9]*/environ 2>/dev/null | while read -r file; do
    pid=${file#/proc/}
    pid=${pid%/environ}
    printf '%s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c1-120)"
  done
}

check_engine() {
  [ -n "$engine_used" ] && [ -e "$scratch/engine-before" ] || return 0
  local line
  while read -r line; do
    fail "left behind on the engine: $line"
    case "$line" in
      container*) docker rm -fv "${line#* }" >/dev/null 2>&1 ;;
      network*) docker network rm "${line#* }" >/dev/null 2>&1 ;;
      volume*) docker volume rm "${line#* }" >/dev/null 2>&1 ;;
    esac
  done < <(left_on_engine)
}

check_processes() {
  local line tries
  # One that was told to stop may need a moment.
  for ((tries = 0; tries < 10; tries++)); do
    [ -n "$(left_processes)" ] || return 0
    sleep 0.2
  done
  while read -r line; do
    fail "left running: process $line"
    kill -KILL "${line%% *}" 2>/dev/null
  done < <(left_processes)
}

finish() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  if [ -n "$child" ]; then
    kill -TERM "$child" 2>/dev/null
    wait "$child" 2>/dev/null
  fi
  [ -n "$finished" ] || fail 'the run was cut short: what is missing above was not run'
  check_engine
  if [ -n "$engine_started" ]; then docker/engine.sh down || fail 'engine: was started by this run and could not be stopped'; fi
  check_processes
  if [ -n "${KEEP:-}" ]; then say "kept: $scratch"; else rm -rf "$scratch"; fi

  say ''
  say "$((SECONDS)) s in all; logs: $logs"
  local line
  for line in "${skips[@]}"; do say "skipped $line"; done
  for line in "${failures[@]}"; do say "failed  $line"; done
  if [ $((passed + failed)) -eq 0 ]; then
    say "nothing was run${filter:+: no test matches \"$filter\"}"
    code=1
  elif [ "$failed" -gt 0 ]; then
    [ "$code" -ge 128 ] || code=1
  fi
  if [ "$skipped" -gt 0 ]; then say "$passed passed, $failed failed, $skipped skipped"; else say "$passed passed, $failed failed"; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

main() {
  build || return
  local suite
  for suite in layout core house; do run_suite "$suite"; done
  run_doc
  # The daemon's own tests compare with the real Compose, Git and restic; scenarios need the engine as well.
  if wanted daemon || wanted kit || wanted scenarios; then
    prepare_parts || return
    for suite in daemon kit; do run_suite "$suite"; done
    run_suite scenarios --test-threads="$threads"
  fi
}

main
finished=yes
