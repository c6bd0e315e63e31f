# shellcheck shell=bash
# What the scripts in this folder share: the private prefix, Debian's packages, and which engine is in use.
# Sourced, never run. Every name that other files use starts with no underscore.

set -euo pipefail

# A cache outside the checkout: it survives `cargo clean` and a fresh clone, and several checkouts share it.
prefix="${EVENKEEL_PARTS:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/evenkeel/parts}"
case "$prefix" in
  /*) ;;
  *) prefix="$PWD/$prefix" ;;
esac

# Run-time files are under /run: a unix socket's path must stay below 108 characters (unix(7)), and an engine
# that runs can be found and stopped though somebody removed the prefix.
run_dir="/run/evenkeel-parts-$(printf %s "$prefix" | sha256sum | cut -c1-8)"
own_socket="$run_dir/docker.sock"
own_host="unix://$own_socket"

bin_dir="$prefix/bin"                  # restic, ntfy…: goes on PATH
cli_dir="$prefix/engine-bin"           # docker, dockerd, runc…: on PATH only where the private engine or its CLI is in use
tree="$prefix/root"                    # unpacked packages
have_dir="$tree/.have"                 # one file for each unpacked package: its version and suite
apt_dir="$prefix/apt"                  # apt's private configuration, lists and archives
engine_dir="$prefix/engine"            # data-root, log, the CLI's configuration
docker_config="$engine_dir/config"

readonly min_compose=2.20
readonly min_engine=23.0
readonly new_suite=trixie              # Debian 13: its engine, Compose and restic also run on Debian 12

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# die CODE MESSAGE…   1: something failed. 2: this machine or this command line cannot do it; the message says what would help.
die() {
  local code=$1
  shift
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  shift
  local line
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit "$code"
}

# The comment at the top of the running script is its help.
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

# at_least VERSION MINIMUM
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

# plain_version TEXT   "v2.26.1-4" -> "2.26.1", "26.1.5+dfsg1" -> "26.1.5"
plain_version() { sed -nE '1s/^[^0-9]*([0-9]+(\.[0-9]+)*).*/\1/p' <<<"$1"; }

# PATH without our own folders: to ask what the machine itself has.
path_without_parts() {
  local part out=
  local IFS=:
  for part in $PATH; do
    [ "$part" = "$bin_dir" ] || [ "$part" = "$cli_dir" ] || out="${out:+$out:}$part"
  done
  printf '%s' "$out"
}

# on_machine NAME   prints where the machine itself has the program. Debian keeps some in sbin, which is not on everybody's PATH.
on_machine() { PATH="$(path_without_parts):/usr/sbin:/sbin" type -P "$1"; }

# lock_parts NAME   Two checkouts may share one prefix: whoever changes it holds this lock (file descriptor 9).
# What takes minutes has a lock of its own name, so that it holds nobody else up.
lock_parts() {
  local file="$prefix/.lock-$1"
  mkdir -p "$prefix"
  exec 9>"$file"
  if ! flock -n 9; then
    say "another run holds $file: waiting for it (at most 15 minutes)"
    flock -w 900 9 || die 1 "the lock is still held: is another of these scripts stuck? See: fuser -v $file"
  fi
}

# ---------------------------------------------------------------- Debian's packages, with an apt of our own

# Prints "bookworm" or "trixie", or explains and ends with 2.
machine_suite() {
  local id='' codename=''
  if [ -r /etc/os-release ]; then
    id="$(. /etc/os-release && printf %s "${ID:-}")"
    codename="$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")"
  fi
  case "$id/$codename" in
    debian/bookworm | debian/trixie) printf %s "$codename" ;;
    *)
      die 2 "this machine is ${id:-unknown} ${codename:-}: parts are fetched by this script on Debian 12 and 13 only." \
        "Install these yourself, then run again: Docker Engine >= $min_engine with Compose >= $min_compose" \
        "(https://docs.docker.com/engine/install/), restic >= 0.17.1, ntfy >= 2, git, openssh-client, openssh-server, openssl, a static busybox, shellcheck."
      ;;
  esac
}

# Prints the machine's own binary sources of Debian, one per line: URI suite [keyring].
# Reads /etc/apt/sources.list, *.list (one line each) and *.sources (deb822, see sources.list(5)).
machine_sources() {
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    awk '
      $1 != "deb" { next }
      {
        key = ""; i = 2
        if ($2 ~ /^\[/) {
          for (; i <= NF; i++) {
            word = $i; gsub(/[][]/, "", word)
            if (word ~ /^signed-by=/) { key = substr(word, 11) }
            if ($i ~ /\]$/) { i++; break }
          }
        }
        print $i, $(i + 1), key
      }' "$file"
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] || continue
    awk '
      function flush_stanza(   u, s, nu, ns, us, ss, on) {
        on = tolower(f["enabled"])
        if (f["types"] ~ /(^| )deb( |$)/ && on !~ /no|false/) {
          nu = split(f["uris"], us, " "); ns = split(f["suites"], ss, " ")
          for (u = 1; u <= nu; u++) for (s = 1; s <= ns; s++) print us[u], ss[s], (f["signed-by"] ~ /^ *\//  ? f["signed-by"] : "")
        }
        split("", f)
      }
      /^#/ { next }
      /^[ \t]*$/ { flush_stanza(); next }
      /^[ \t]/ { f[name] = f[name] " " $0; next }
      { name = tolower($0); sub(/:.*/, "", name); value = $0; sub(/^[^:]*:[ \t]*/, "", value); f[name] = value }
      END { flush_stanza() }' "$file"
  done
}

# Writes apt's private configuration. Nothing under /etc/apt, /var/lib/apt or /var/cache/apt is written, then or later:
# apt reads the machine's proxies and credentials, and dpkg's status to know which libraries are there.
prepare_apt() {
  local base uri suite key written=
  base="$(machine_suite)"
  local tool
  for tool in apt-get dpkg flock; do
    type -P "$tool" >/dev/null || die 2 "$tool is missing: this Debian cannot fetch packages."
  done
  mkdir -p "$apt_dir"/{lists/partial,cache/archives/partial}
  : >"$apt_dir/sources.list.new"
  while read -r uri suite key; do
    case "$suite" in
      "$base" | "$base-updates" | "$base-security") ;;
      stable | stable-updates | stable-security | oldstable | oldstable-updates | oldstable-security) suite="$base${suite#*stable}" ;;
      *) continue ;;
    esac
    # A mirror may hold other things under the same suite name: Debian's own ends in /debian or /debian-security, or is a list of mirrors.
    case "${uri%/}" in
      */debian | */debian-security | *debian-archive* | mirror*:* | */archive/debian*/*) ;;
      *) continue ;;
    esac
    key="${key:-/usr/share/keyrings/debian-archive-keyring.gpg}"
    written=yes
    printf 'deb [signed-by=%s] %s %s main\n' "${key%% *}" "$uri" "$suite" >>"$apt_dir/sources.list.new"
    if [ "$base" != "$new_suite" ] && [ "$suite" != "$base-updates" ]; then
      # The suite's own keys are in Debian's keyring, whatever one the machine's source is bound to.
      printf 'deb [signed-by=%s] %s %s main\n' /usr/share/keyrings/debian-archive-keyring.gpg "$uri" "$new_suite${suite#"$base"}" >>"$apt_dir/sources.list.new"
    fi
  done < <(machine_sources)
  [ -n "$written" ] || die 2 "no Debian source for $base found under /etc/apt: add the line 'deb <your mirror>/debian $base main' and run again."
  sort -u "$apt_dir/sources.list.new" >"$apt_dir/sources.list"
  rm -f "$apt_dir/sources.list.new"

  # Priority 1: a package comes from the newer suite only when it is asked for by name.
  if [ "$base" = "$new_suite" ]; then
    : >"$apt_dir/preferences"
  else
    printf 'Package: *\nPin: release n=%s*\nPin-Priority: 1\n' "$new_suite" >"$apt_dir/preferences"
  fi

  {
    # Proxies, timeouts and the like as the machine has them; no hooks (some empty the machine's own cache), no descriptions.
    apt-config dump | grep '^Acquire::' | grep -vE '^Acquire::(IndexTargets|Languages|Changelogs)'
    printf '%s "%s";\n' \
      Acquire::Languages none \
      Acquire::Retries 3 \
      APT::Sandbox::User root \
      Debug::NoLocking true \
      Dir::Etc::main /dev/null \
      Dir::Etc::parts /dev/null \
      Dir::Etc::sourcelist "$apt_dir/sources.list" \
      Dir::Etc::sourceparts /dev/null \
      Dir::Etc::preferences "$apt_dir/preferences" \
      Dir::Etc::preferencesparts /dev/null \
      Dir::State::lists "$apt_dir/lists" \
      Dir::Cache "$apt_dir/cache"
  } >"$apt_dir/apt.conf"
}

private_apt() { APT_CONFIG="$apt_dir/apt.conf" LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q "$@"; }

_lists_are_fresh=
refresh_lists() {
  [ -z "$_lists_are_fresh" ] || return 0
  prepare_apt
  say "reading Debian's package lists from this machine's own mirror"
  # A failure is not the end yet: lists from an earlier run may do.
  private_apt update >"$apt_dir/update.log" 2>&1 || true
  _lists_are_fresh=yes
}

# fetch WHY PACKAGE/SUITE…        exactly these packages, though their dependencies could not be installed here
# fetch_with_needs WHY PACKAGE…   these packages of the machine's own suite, and the libraries that the machine lacks
# Both unpack into the private tree and install nothing. Already unpacked: nothing to do.
fetch() { _fetch download "$@"; }
fetch_with_needs() { _fetch needs "$@"; }

_fetch() {
  local how=$1 why=$2 wanted=() name
  shift 2
  for name in "$@"; do
    [ -e "$have_dir/${name%%/*}" ] || wanted+=("$name")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  refresh_lists
  mkdir -p "$tree" "$have_dir"
  local stage="$apt_dir/stage" log="$apt_dir/fetch.log"
  rm -rf "$stage"
  mkdir -p "$stage/partial"
  local ok=yes
  if [ "$how" = download ]; then
    (cd "$stage" && private_apt download "${wanted[@]}") >"$log" 2>&1 || ok=
  else
    private_apt -o "Dir::Cache::archives=$stage" -y --no-install-recommends --reinstall --download-only install "${wanted[@]}" >"$log" 2>&1 || ok=
  fi
  if [ -z "$ok" ]; then
    grep -hE '^(E|W):' "$apt_dir/update.log" "$log" | head -n 6 >&2 || true
    die 2 "could not get ${wanted[*]} from Debian: is there a network, and does 'apt-get update' work?" \
      "Without it, install them yourself and run again." "The whole output: $log"
  fi
  local deb package version libraries=0
  for deb in "$stage"/*.deb; do
    package="$(dpkg-deb -f "$deb" Package)"
    version="$(dpkg-deb -f "$deb" Version)"
    dpkg -x "$deb" "$tree"
    printf '%s\n' "$version" >"$have_dir/$package.new"
    mv "$have_dir/$package.new" "$have_dir/$package"
    case " ${wanted[*]} " in
      *" $package "* | *" $package/"*) say "$package $version: taken from Debian's packages into $tree, $why" ;;
      *) libraries=$((libraries + 1)) ;;
    esac
  done
  [ "$libraries" -eq 0 ] || say "and $libraries more that those need and this machine lacks"
  rm -rf "$stage"
}

# The folders with the private tree's libraries, for LD_LIBRARY_PATH.
library_path() {
  local dir out=
  for dir in "$tree"/{usr/lib,lib}/*-linux-gnu*; do
    if [ -d "$dir" ]; then out="${out:+$out:}$dir"; fi
  done
  printf '%s' "$out"
}

# expose DIR/NAME FILE [VARIABLE=VALUE…]   makes FILE of the private tree callable as DIR/NAME: a link where it runs as it is, else a small
# wrapper that sets the variables and names the folders with its libraries.
expose() {
  local name=$1 file=$2 missing='' libs dir
  shift 2
  [ -x "$file" ] || die 1 "$file should be in the package and is not"
  mkdir -p "${name%/*}"
  # ldd fails on a static program, which needs nothing.
  if ldd "$file" >/dev/null 2>&1; then
    libs="$(ldd "$file" 2>&1)"
    if grep -q 'GLIBC_.*not found' <<<"$libs"; then
      die 2 "${name##*/} needs a newer C library than this machine has:" "$(grep -m1 'GLIBC_.*not found' <<<"$libs")"
    fi
    if grep -q 'not found' <<<"$libs"; then
      dir="$(library_path)"
      missing="$(LD_LIBRARY_PATH="$dir" ldd "$file" | grep 'not found' || true)"
      [ -z "$missing" ] || die 2 "${name##*/} lacks libraries:" "$missing"
      set -- "LD_LIBRARY_PATH=$dir" "$@"
    fi
  fi
  rm -f "$name"
  if [ $# -eq 0 ]; then
    ln -s "$file" "$name"
  else
    {
      printf '#!/bin/sh\nexec env'
      printf ' %q' "$@" "$file"
      # shellcheck disable=SC2016  # meant for the wrapper
      printf ' "$@"\n'
    } >"$name.new"
    chmod 755 "$name.new"
    mv "$name.new" "$name"
  fi
}

# ---------------------------------------------------------------- which engine is in use

# The machine's own docker, asked without what `engine.sh env` exported.
machine_docker() {
  local cli
  cli="$(on_machine docker)" || return 127
  local clean=(-u DOCKER_CONFIG)
  [ "${DOCKER_CONFIG:-}" = "$docker_config" ] || clean=()
  if [ "${DOCKER_HOST:-}" = "$own_host" ]; then clean+=(-u DOCKER_HOST); fi
  timeout 20 env "${clean[@]}" PATH="$(path_without_parts)" "$cli" "$@"
}

private_docker() { timeout 20 env DOCKER_HOST="$own_host" DOCKER_CONFIG="$docker_config" PATH="$cli_dir:$PATH" "$cli_dir/docker" "$@"; }

own_engine_answers() { [ -S "$own_socket" ] && [ -x "$cli_dir/docker" ] && private_docker version >/dev/null 2>&1; }

# Where the machine's docker talks to.
_machine_endpoint() {
  if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "$own_host" ]; then
    printf %s "$DOCKER_HOST"
  else
    machine_docker context inspect -f '{{.Endpoints.docker.Host}}' 2>/dev/null || printf unix:///var/run/docker.sock
  fi
}

# Sets `found` to one of these, and the variables after it:
#   machine  an engine that was there, with Compose       host, engine_version, compose_version
#   half     an engine that was there, without Compose    host, engine_version
#   old      an engine that was there, too old            host, engine_version
#   own      the private one, running                     host, engine_version, compose_version
#   none
# Tests look at 127.0.0.1 and at mounted folders, so an engine on another machine is of no use to them.
# shellcheck disable=SC2034  # read by the scripts that source this file
find_engine() {
  found=none host='' engine_version='' compose_version=''
  if own_engine_answers; then
    found=own host="$own_host"
    engine_version="$(private_docker version -f '{{.Server.Version}}')"
    compose_version="$(private_docker compose version --short)"
    return 0
  fi
  on_machine docker >/dev/null || return 0
  local endpoint raw
  endpoint="$(_machine_endpoint)"
  case "$endpoint" in
    unix://*) ;;
    *)
      say "the engine at $endpoint is not on this machine: the tests cannot use it"
      return 0
      ;;
  esac
  if ! raw="$(machine_docker version -f '{{.Server.Version}}' 2>/dev/null)"; then
    [ -z "${DOCKER_HOST:-}" ] || [ "$DOCKER_HOST" = "$own_host" ] || say "nothing answers at DOCKER_HOST=$DOCKER_HOST"
    return 0
  fi
  host="$endpoint" engine_version="$raw"
  if ! at_least "$(plain_version "$raw")" "$min_engine"; then
    found=old
    return 0
  fi
  if raw="$(machine_docker compose version --short 2>/dev/null)" && at_least "$(plain_version "$raw")" "$min_compose"; then
    found=machine compose_version="$raw"
  else
    found=half
    if [ -x "$cli_dir/docker" ] && raw="$(DOCKER_CONFIG="$docker_config" "$cli_dir/docker" compose version --short 2>/dev/null)"; then
      compose_version="$raw"
    fi
  fi
}

# The `export` lines for the engine that find_engine found.
engine_env() {
  case "$found" in
    machine)
      printf 'export DOCKER_HOST=%q\n' "$host"
      # shellcheck disable=SC2016  # for the caller's shell
      printf 'export PATH=%q:"$PATH"\n' "$bin_dir"
      ;;
    half | own)
      printf 'export DOCKER_HOST=%q\nexport DOCKER_CONFIG=%q\n' "$host" "$docker_config"
      # shellcheck disable=SC2016  # for the caller's shell
      printf 'export PATH=%q:%q:"$PATH"\n' "$bin_dir" "$cli_dir"
      ;;
  esac
}
