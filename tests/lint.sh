#!/usr/bin/env bash
# Everything that can be said about the code without running it, one line for each check. Called by `make lint`.
#
#   tests/lint.sh                 all checks
#   tests/lint.sh fmt shell       only these: fmt sizes shell house deny advisories clippy fuzz
#
# CI=1   Cargo.lock must be up to date
# A check that fails shows its whole output. Exit status 0 only if none failed.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

all_checks=(fmt sizes shell house deny advisories clippy fuzz)
max_lines=500
failed=0
out=$(mktemp) || exit 1
trap 'rm -f "$out" "$out".*' EXIT

report() { printf '%-8s %-12s %s\n' "$1" "$2" "$3"; }

# check NAME WHAT COMMAND…   one line; the output only if it fails
check() {
  local name=$1 what=$2 started=$SECONDS
  shift 2
  if "$@" >"$out" 2>&1; then
    report ok "$name" "$what ($((SECONDS - started)) s)"
  else
    failed=$((failed + 1))
    report FAILED "$name" "$what"
    sed 's/^/    /' "$out"
  fi
}

files() { find . \( -path ./target -o -path ./.git \) -prune -o -type f -name "$1" -print | sort; }

too_long() {
  local file lines bad=0
  while read -r file; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt "$max_lines" ]; then
      printf '%s has %s lines; split it by what it is about\n' "${file#./}" "$lines"
      bad=1
    fi
  done < <(files '*.rs')
  return "$bad"
}

# part NAME   has docker/parts.sh bring it, and puts it on PATH
part() {
  docker/parts.sh "$1" || return
  eval "$(docker/parts.sh env)"
}

shell_scripts() {
  local scripts=()
  mapfile -t scripts < <(files '*.sh')
  part shellcheck && shellcheck --external-sources --format=gcc .ci/run "${scripts[@]}"
}

# The rules need only the standard library, so they are compiled alone: no need to build the daemon to read its imports.
house() {
  rustc --edition 2024 --test tests/tests/house.rs -o "$out.house" && CARGO_MANIFEST_DIR=$PWD/tests "$out.house"
}

# With the versions of the program's own dependencies, and beside them: little is compiled twice. libFuzzer is C++ and only
# needed to link, which checking does not: so its place is named and nobody looks there.
fuzz() {
  cp Cargo.lock fuzz/Cargo.lock &&
    CARGO_PROFILE_DEV_DEBUG=line-tables-only CUSTOM_LIBFUZZER_PATH=/nowhere/libfuzzer.a cargo check --quiet --bins --manifest-path fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}"
}

deny() { part cargo-deny && cargo-deny ${CI:+--locked} check bans licenses sources; }

advisories() {
  if ! { part cargo-deny && timeout 180 cargo-deny fetch db; } >"$out" 2>&1; then
    report skipped advisories "their database cannot be fetched here: $(grep -v '^ *$' "$out" | tail -n 1 | cut -c1-200)"
    return
  fi
  check advisories 'no known vulnerability or yanked version among the dependencies' cargo-deny check --disable-fetch advisories
}

lint_fmt() { check fmt 'formatted as rustfmt.toml says' cargo fmt --all --check; }
lint_sizes() { check sizes "no Rust file over $max_lines lines" too_long; }
lint_shell() { check shell 'shellcheck of every script' shell_scripts; }
lint_house() { check house 'import order and purity of the crates, as in ARCHITECTURE.md' house; }
lint_deny() { check deny 'banned crates, licences, sources' deny; }
lint_advisories() { advisories; }

# After clippy, which has checked most of what it needs.
lint_fuzz() { check fuzz 'every fuzz target compiles' fuzz; }

# The longest: shows what it compiles.
lint_clippy() {
  local started=$SECONDS
  if cargo clippy --workspace --all-targets ${CI:+--locked} -- -D warnings; then
    report ok clippy "no warning, no function over 60 lines or 5 arguments ($((SECONDS - started)) s)"
  else
    failed=$((failed + 1))
    report FAILED clippy 'its findings are above'
  fi
}

[ $# -gt 0 ] || set -- "${all_checks[@]}"
for name in "$@"; do
  if [[ " ${all_checks[*]} " != *" $name "* ]]; then
    printf 'lint.sh: no check "%s"; there are: %s\n' "$name" "${all_checks[*]}" >&2
    exit 2
  fi
done
for name in "$@"; do "lint_$name"; done
if [ "$failed" -gt 0 ]; then
  printf '%s of %s checks failed\n' "$failed" "$#"
  exit 1
fi
printf 'lint: all is well\n'
