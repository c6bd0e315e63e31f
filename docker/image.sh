#!/usr/bin/env bash
# The agent's container image, from a release build that is there.
#
#   docker/image.sh                      evenkeel:VERSION and evenkeel:latest, on debian:13-slim
#   docker/image.sh --base IMAGE         on another Debian 13 or later, such as one from a mirror of yours
#   docker/image.sh --for-tests PROGRAM TAG
#                                        no base at all: PROGRAM, busybox, the docker and Compose in use and the libraries
#                                        that they need, as TAG. For scenarios: needs no registry and no network
#
# TARGET=TRIPLE   which build; default x86_64-unknown-linux-musl: only a static program runs on every base
# BUILD_ARGS      more arguments for docker build, such as --network=host where packages come through the host
#
# Exit status: 0 done; 1 failed; 2 not possible here, or wrong use.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

build_image() {
  local target="${TARGET:-$(uname -m)-unknown-linux-musl}" version base=$1
  local program="${CARGO_TARGET_DIR:-target}/$target/release/evenkeel"
  [ -x "$program" ] || die 2 "$program is not there: cargo build --release --package evenkeel --target $target"
  version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)"
  cp "$program" docker/Dockerfile "$scratch/"
  local extra=()
  read -ra extra <<<"${BUILD_ARGS:-}"
  docker build "${extra[@]}" ${base:+--build-arg "BASE=$base"} --tag "evenkeel:$version" --tag evenkeel:latest "$scratch"
}

# put FILE AS   copies a program with the libraries that it needs, each to the path where the loader looks
put() {
  local library
  install -D -m 0755 "$1" "$scratch/root$2"
  # ldd fails on a static program, which needs nothing.
  ldd "$1" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*' | while read -r library; do
    install -D -m 0755 "$(readlink -f "$library")" "$scratch/root$library"
  done || true
}

is_program() { [ "$(head -c 4 "$1" | od -An -c | tr -d ' ')" = '177ELF' ]; }

test_image() {
  local program=$1 tag=$2 docker compose busybox applet
  docker="$(readlink -f "$(type -P docker)")"
  is_program "$docker" || die 2 "the docker on PATH ($docker) is a wrapper: it cannot be put into an image"
  compose="$(docker info --format '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}')"
  "$(dirname "${BASH_SOURCE[0]}")/parts.sh" busybox
  busybox="$(on_machine busybox || true)"
  if [ -z "$busybox" ] || ldd "$busybox" >/dev/null 2>&1; then busybox="$bin_dir/busybox"; fi
  mkdir -p "$scratch"/root/{bin,etc,proc,sys,dev,root,run,tmp}
  put "$(readlink -f "$busybox")" /bin/busybox
  for applet in sh ls cat sleep; do ln -s busybox "$scratch/root/bin/$applet"; done
  put "$program" /usr/bin/evenkeel
  put "$docker" /usr/bin/docker
  put "$(readlink -f "$compose")" /usr/libexec/docker/cli-plugins/docker-compose
  # Without any, even plain HTTP ends in an error of the TLS library.
  local bundle=/etc/ssl/certs/ca-certificates.crt
  [ -e "$bundle" ] || die 2 "$bundle is missing: install the package ca-certificates"
  install -D -m 0644 "$bundle" "$scratch/root$bundle"
  tar -C "$scratch/root" --owner=0 --group=0 --numeric-owner -c . |
    docker import -c 'ENTRYPOINT ["evenkeel"]' -c 'CMD ["agent"]' -c 'ENV PATH=/usr/bin:/bin' - "$tag" >/dev/null
  say "$tag: made"
}

case "${1:-}" in
  '') build_image '' ;;
  --base) [ $# -eq 2 ] || { usage >&2; exit 2; }; build_image "$2" ;;
  --for-tests) [ $# -eq 3 ] || { usage >&2; exit 2; }; test_image "$2" "$3" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
