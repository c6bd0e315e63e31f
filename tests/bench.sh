#!/usr/bin/env bash
# Measures: pure code as ratios to a baseline in one process, then the agent beside `docker compose` on the real engine, then
# fetching and verifying beside Git. Called by `make bench`. FILTER=text picks benchmarks by name; IDLE_S=600 watches an idle
# agent for ten minutes; COMMITS=200 verifies a shorter history than one of 5,000.
#
# Exit status: 0 measured; 1 a bound of pure code was passed, or a measurement failed; 2 not possible here.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

engine_started=''
trap '[ -z "$engine_started" ] || docker/engine.sh down' EXIT

printf 'bench: building for release: about five minutes the first time\n'
cargo build --quiet --release --package evenkeel
cargo bench --quiet --package evenkeel-tests --no-run
docker/engine.sh status >/dev/null 2>&1 || engine_started=yes
docker/engine.sh up
docker/parts.sh git ssh-keygen busybox
eval "$(docker/parts.sh env)"
eval "$(docker/engine.sh env)"
docker/base-image.sh
export EVENKEEL_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/evenkeel

printf 'program: %s bytes, stripped\n' "$(stat -c %s "$EVENKEEL_BIN")"
code=0
cargo bench --quiet --package evenkeel-tests --bench ratios -- "${FILTER:-}" || code=$?
cargo bench --quiet --package evenkeel-tests --bench agent -- "${FILTER:-}" || code=$?
cargo bench --quiet --package evenkeel-tests --bench trust -- "${FILTER:-}" || code=$?
exit "$code"
