#!/usr/bin/env bash
# The Debian package: the program, its unit, an example configuration, manual pages, completions and the documentation.
#
#   docker/deb.sh                    build for release and pack: target/debian/evenkeel_VERSION_ARCH.deb
#   docker/deb.sh --no-build         pack the release build that is there
#
# TARGET=TRIPLE   what to build for; default x86_64-unknown-linux-musl if rustup has it, else this machine's own. A static
#                 program runs on every Debian and Ubuntu; `rustup target add x86_64-unknown-linux-musl` and the package
#                 musl-tools (ring and SQLite are C) make it possible.
#
# Needs a program of the build's own kind that runs here, or qemu-user: manual pages and completions are its own words.
# Exit status: 0 done; 1 failed; 2 not possible here, or wrong use.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=yes
case "${1:-}" in
  '') ;;
  --no-build) build= ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

own="$(rustc -vV | sed -n 's/^host: //p')"
musl="${own%%-*}-unknown-linux-musl"
if [ -z "${TARGET:-}" ]; then
  TARGET="$own"
  if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ] && type -P musl-gcc >/dev/null; then TARGET="$musl"; fi
fi
[ "$TARGET" = "$musl" ] || say "for $TARGET: the program needs this machine's C library or a newer one"

target="${CARGO_TARGET_DIR:-$PWD/target}"
program="$target/$TARGET/release/evenkeel"
[ -z "$build" ] || cargo build --release --package evenkeel --target "$TARGET"
[ -x "$program" ] || die 2 "$program is not there: run docker/deb.sh without --no-build"
"$program" --version >/dev/null || die 2 "$program does not run here; manual pages and completions need that"

# Where agent/daemon/Cargo.toml looks for them.
made=target/package
rm -rf "$made"
mkdir -p "$made/man" "$made/completions"
"$program" man "$made/man"
"$program" completions bash >"$made/completions/evenkeel"
"$program" completions zsh >"$made/completions/_evenkeel"
"$program" completions fish >"$made/completions/evenkeel.fish"

docker/parts.sh cargo-deb
"$bin_dir/cargo-deb" deb --no-build --no-strip --package evenkeel --target "$TARGET" --output target/debian/
