#!/usr/bin/env bash
# The image that the tests' services run on: busybox and nothing else, made here, because no registry is needed then.
#
#   docker/base-image.sh             make evenkeel-test/busybox:1, :2 and :3 in the engine in use, unless they are there
#   docker/base-image.sh --remove    remove them
#
# The three differ only in /etc/evenkeel-release (its content is the tag), so going from one to the next is an update.
# All applets are in /bin; the command is sh. Needs an engine: docker/engine.sh up
#
# Exit status: 0 done; 1 failed; 2 not possible here, or wrong use.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly repository=evenkeel-test/busybox
readonly tags=(1 2 3)
readonly label=io.evenkeel.test.made-from

use_engine() {
  find_engine
  case "$found" in
    machine | own) ;;
    half) [ -n "$compose_version" ] || die 2 "the engine at $host has no Compose; run first: docker/engine.sh up" ;;
    *) die 2 "no engine to make images in; run first: docker/engine.sh up" ;;
  esac
  eval "$(engine_env)"
}

# The machine's own if it is static; else Debian's.
static_busybox() {
  "$(dirname "${BASH_SOURCE[0]}")/parts.sh" busybox
  local file
  file="$(on_machine busybox || true)"
  if [ -z "$file" ] || ldd "$file" >/dev/null 2>&1; then file="$bin_dir/busybox"; fi
  readlink -f "$file"
}

make_images() {
  local busybox origin tag wanted=()
  busybox="$(static_busybox)"
  # What an image is made from: another busybox or another version of this script makes it anew.
  origin="$(cat "$busybox" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16)"
  for tag in "${tags[@]}"; do
    if [ "$(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$repository:$tag" 2>/dev/null)" != "$origin" ]; then wanted+=("$tag"); fi
  done
  if [ ${#wanted[@]} -eq 0 ]; then
    say "$repository:$(IFS=,; printf %s "${tags[*]}"): there already"
    return 0
  fi

  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
  local image="$scratch/image" applet
  mkdir -p "$image"/{bin,etc,proc,sys,dev,root,var/log,home}
  mkdir -p "$image/tmp" "$image/var/tmp"
  chmod 1777 "$image/tmp" "$image/var/tmp"
  cp "$busybox" "$image/bin/busybox"
  chmod 755 "$image/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$image/bin/$applet"
  done
  ln -s bin "$image/sbin"
  printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$image/etc/passwd"
  printf 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$image/etc/group"
  local former
  for tag in "${wanted[@]}"; do
    former="$(docker image inspect -f '{{.Id}}' "$repository:$tag" 2>/dev/null || true)"
    printf '%s\n' "$tag" >"$image/etc/evenkeel-release"
    tar -C "$image" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . |
      docker import -c 'CMD ["sh"]' -c 'ENV PATH=/bin' -c "LABEL $label=$origin" -m "busybox for Evenkeel's tests" - "$repository:$tag" >/dev/null
    say "$repository:$tag: made, $(docker image inspect -f '{{.Id}}' "$repository:$tag" | cut -c1-19)"
    # Its tag has moved. Refused, and rightly, while a container uses it.
    [ -z "$former" ] || docker image rm "$former" >/dev/null 2>&1 || true
  done
}

remove_images() {
  local tag kept=
  for tag in "${tags[@]}"; do
    docker image inspect "$repository:$tag" >/dev/null 2>&1 || continue
    if docker image rm "$repository:$tag" >/dev/null; then
      say "$repository:$tag: removed"
    else
      kept="$kept $repository:$tag"
    fi
  done
  [ -z "$kept" ] || die 1 "containers use$kept: remove them first (docker ps -a --filter ancestor=…)"
}

case "${1:-}" in
  '') use_engine; make_images ;;
  --remove) [ $# -eq 1 ] || { usage >&2; exit 2; }; use_engine; remove_images ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
