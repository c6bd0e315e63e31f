#!/usr/bin/env bash
# One signed push after another, end to end on real parts. Called by `make demo`.
#
#   tests/demo.sh           builds, brings the parts up, plays the six steps, cleans up
#   tests/demo.sh clean     ends a demo that was kept (or left by an accident) and removes all that it made
#
# KEEP=1      leave it running to play with; it says how to push and how to clean up
# RELEASE=1   play with the optimised program (a build of some minutes more)
#
# Exit status: 0 every step did what it says; 1 one did not; 2 not possible here (the message says why).

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

say() { printf 'demo: %s\n' "$*"; }

profile=(--profile dev) built=debug
if [ -n "${RELEASE:-}" ]; then profile=(--release) built=release; fi
target=${CARGO_TARGET_DIR:-$root/target}

build() {
  if [ "$built" = debug ]; then
    say "building the program, dev profile: a minute or two the first time"
    say "(fast enough to watch; RELEASE=1 takes the optimised one)"
  else
    say "building the program, release profile: some five minutes the first time"
  fi
  cargo build --quiet "${profile[@]}" --package evenkeel
  cargo build --quiet --package evenkeel-tests --bin demo
  say "built in $SECONDS s: $target/$built/evenkeel"
}

export EVENKEEL_BIN=$target/$built/evenkeel
demo=$target/debug/demo
# In the environment of everything that the demo itself starts (the engine is not of it), so that it can be found again.
play=(env EVENKEEL_TEST_WORLD=demo "$demo")

engine_started=''
# However this ends, Ctrl-C too: an engine that was started for the demo is stopped after it.
stop_engine() {
  if [ -n "$engine_started" ]; then docker/engine.sh down; fi
}
trap stop_engine EXIT

# The private engine that a kept demo runs on is stopped with it.
kept_engine=${XDG_CACHE_HOME:-$HOME/.cache}/evenkeel/demo-started-the-engine

case "${1:-}" in
  '') ;;
  clean)
    [ -x "$demo" ] || cargo build --quiet --package evenkeel-tests --bin demo
    eval "$(docker/engine.sh env)"
    "${play[@]}" clean
    if [ -e "$kept_engine" ]; then
      rm -f "$kept_engine"
      docker/engine.sh down
    fi
    exit 0
    ;;
  *)
    sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

build
docker/engine.sh status >/dev/null 2>&1 || engine_started=yes
say "an engine: the one that answers, or a private one"
docker/engine.sh up
say "Git and ssh-keygen for signed commits, ntfy for notifications, busybox"
say "to make an image of"
docker/parts.sh git ssh-keygen ntfy busybox
eval "$(docker/parts.sh env)"
eval "$(docker/engine.sh env)"
docker/base-image.sh

if [ -z "${KEEP:-}" ]; then
  code=0
  "${play[@]}" || code=$?
  exit "$code"
fi

# Kept: the demo goes on in the background, and this script ends when the steps have been played.
ready=${TMPDIR:-/tmp}/evenkeel-demo/ready
setsid "${play[@]}" </dev/null &
pid=$!
trap 'kill -TERM "$pid" 2>/dev/null; wait "$pid"; exit 130' INT TERM
until [ -e "$ready" ]; do
  if ! kill -0 "$pid" 2>/dev/null; then
    code=0
    wait "$pid" || code=$?
    exit "$code"
  fi
  sleep 0.2
done
if [ -n "$engine_started" ]; then
  engine_started=
  mkdir -p "$(dirname "$kept_engine")"
  : >"$kept_engine"
fi
