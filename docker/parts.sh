#!/usr/bin/env bash
# The other programs that the tests run for real, from Debian's packages.
#
#   docker/parts.sh NAME…    make each one available; one that the machine has in a good version is used as it is
#   docker/parts.sh all      all of them, except those that are compiled
#   docker/parts.sh list     their names and what for
#   docker/parts.sh env      a line to eval that puts them on PATH
#
# Usual:  docker/parts.sh restic ntfy && eval "$(docker/parts.sh env)"
#
# Names: restic ntfy git gpg ssh-keygen sshd openssl busybox shellcheck docker-registry promtool faketime age make curl jq cargo-deny cargo-deb
# Packages are unpacked into the private folder (see engine.sh --help); nothing is installed or upgraded, and no root is needed.
# cargo-deny and cargo-deb are compiled with `cargo install`, once: that takes some minutes.
#
# Exit status: 0 done; 1 failed; 2 not possible here (the message says what to install), or wrong use.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly all_parts=(restic ntfy git gpg ssh-keygen sshd openssl busybox shellcheck docker-registry promtool faketime age make curl jq)

# describe NAME   sets what is known about it:
#   package   Debian's package           suite    machine: its own, with all that it needs. new: the newer one, it alone
#   file      in the package             minimum  the version that will do, if it matters
#   why       what the tests do with it  lacks    packages of the machine's own suite that it needs besides
describe() {
  suite=machine minimum='' lacks=()
  case "$1" in
    restic) package=restic suite=new file=usr/bin/restic minimum=0.17.1 why="the tests back up volumes with it" ;;
    ntfy) package=ntfy suite=new file=usr/bin/ntfy minimum=2.0 why="the tests send notifications to a real server" lacks=(libsqlite3-0) ;;
    git) package=git file=usr/bin/git minimum=2.34 why="the tests make and fetch signed commits" ;;
    gpg) package=gpg file=usr/bin/gpg minimum=2.2 why="the tests sign commits with OpenPGP keys" lacks=(gpg-agent) ;;
    ssh-keygen) package=openssh-client file=usr/bin/ssh-keygen why="the tests sign commits with SSH keys" ;;
    sshd) package=openssh-server file=usr/sbin/sshd why="the tests fetch from a real SSH server on 127.0.0.1" ;;
    openssl) package=openssl file=usr/bin/openssl why="the tests make the certificates of a private CA" ;;
    busybox) package=busybox-static file=bin/busybox why="the tests' image is made of it" ;;
    shellcheck) package=shellcheck file=usr/bin/shellcheck minimum=0.9 why="CI checks these scripts with it" ;;
    docker-registry) package=docker-registry suite=new file=usr/bin/docker-registry minimum=2.8 why="the tests pull images from a real registry on 127.0.0.1" ;;
    promtool) package=promtool suite=new file=usr/bin/promtool minimum=2.40 why="the tests check metrics and alert rules with it" ;;
    faketime) package=faketime file=usr/bin/faketime why="the tests let an agent's clock jump with it" ;;
    age) package=age file=usr/bin/age minimum=1.0 why="the tests encrypt environment files with it" ;;
    make) package=make file=usr/bin/make why="the usual commands are in the Makefile" ;;
    curl) package=curl file=usr/bin/curl why="scripts look at published ports with it" ;;
    jq) package=jq file=usr/bin/jq why="scripts read JSON with it" ;;
    cargo-deny) package='' file=cargo/bin/cargo-deny why="CI checks licences, sources and banned crates with it" ;;
    cargo-deb) package='' file=cargo/bin/cargo-deb why="make deb packs with it" ;;
    *) return 1 ;;
  esac
}

version_of() {
  case "$1" in
    restic) "$2" version 2>/dev/null ;;
    ntfy) "$2" --help 2>/dev/null | grep -oE 'ntfy [0-9][0-9.]*' ;;
    shellcheck) "$2" --version 2>/dev/null | sed -n 's/^version: //p' ;;
    ssh-keygen) "${2%/*}/ssh" -V 2>&1 ;;
    # It tells its version where it does not know an option; newer ones know this one.
    sshd) "$2" -V 2>&1 | grep -oE 'OpenSSH_[0-9.]+' ;;
    openssl) "$2" version 2>/dev/null ;;
    busybox) "$2" 2>&1 | head -n1 ;;
    *) "$2" --version 2>/dev/null ;;
  esac | head -n1 || true
}

# good NAME FILE   sets `version`
good() {
  version="$(plain_version "$(version_of "$1" "$2")")"
  # Inside an image there is no C library.
  if [ "$1" = busybox ] && ldd "$2" >/dev/null 2>&1; then return 1; fi
  [ -z "$minimum" ] || { [ -n "$version" ] && at_least "$version" "$minimum"; }
}

provide() {
  local name=$1 found
  if found="$(on_machine "$name")" && good "$name" "$found"; then
    # One of ours may be left from a time when the machine had none.
    rm -f "$bin_dir/$name"
    say "$name ${version:-}: this machine has it ($found); $why"
    return 0
  fi
  if [ -x "$bin_dir/$name" ] && good "$name" "$bin_dir/$name"; then
    say "$name ${version:-}: in $bin_dir already; $why"
    return 0
  fi
  if [ -z "$package" ]; then
    lock_parts "$name"
    compile "$name"
    return 0
  fi
  lock_parts packages
  local missing=()
  if [ "$suite" = new ]; then
    # A program written in Go needs next to nothing; what its package asks for (systemd, adduser) is for running it as a service.
    fetch "$why" "$package/$new_suite"
    for found in "${lacks[@]}"; do
      dpkg-query -W -f '${db:Status-Status}' "$found" 2>/dev/null | grep -qx installed || missing+=("$found")
    done
    [ ${#missing[@]} -eq 0 ] || fetch_with_needs "$name needs it" "${missing[@]}"
  else
    fetch_with_needs "$why" "$package" "${lacks[@]}"
  fi
  found="$tree/$file"
  [ -x "$found" ] || found="$tree/usr/$file"
  case "$name" in
    # Its commands are programs of their own, found by a path that was built in.
    git) expose "$bin_dir/git" "$found" "LD_LIBRARY_PATH=$(library_path)" "GIT_EXEC_PATH=$tree/usr/lib/git-core" "GIT_TEMPLATE_DIR=$tree/usr/share/git-core/templates" ;;
    # Its agent is a program of its own, found by a path that was built in.
    gpg)
      expose "$bin_dir/gpg-agent" "$tree/usr/bin/gpg-agent"
      expose "$bin_dir/gpg.real" "$found"
      printf '#!/bin/sh\nexec %q --agent-program %q "$@"\n' "$bin_dir/gpg.real" "$bin_dir/gpg-agent" >"$bin_dir/gpg.new"
      chmod 755 "$bin_dir/gpg.new"
      mv "$bin_dir/gpg.new" "$bin_dir/gpg"
      ;;
    ssh-keygen)
      expose "$bin_dir/ssh-keygen" "$found"
      expose "$bin_dir/ssh" "$tree/usr/bin/ssh"
      ;;
    *) expose "$bin_dir/$name" "$found" ;;
  esac
  good "$name" "$bin_dir/$name" || die 1 "$name from $package does not do: version ${version:-unknown}, needed ${minimum:-one that runs}"
  say "$name $version: ready in $bin_dir"
}

# compile NAME   a program that cargo installs
compile() {
  local name=$1
  type -P cargo >/dev/null || die 2 "$name is compiled with cargo, which is not on PATH: https://rustup.rs"
  # Another run may have compiled it while this one waited.
  if [ -x "$bin_dir/$name" ]; then return 0; fi
  say "$name: compiling it into $prefix/cargo, once; $why"
  # Outside the checkout, or its .cargo/config.toml and rust-toolchain.toml would take part.
  (cd "$prefix" && cargo install --locked "$name" --root "$prefix/cargo") || die 1 "cargo install $name failed; its output is above"
  mkdir -p "$bin_dir"
  ln -sfn "$prefix/cargo/bin/$name" "$bin_dir/$name"
  say "$name $(plain_version "$("$bin_dir/$name" --version)"): ready in $bin_dir"
}

wrong_use() {
  usage >&2
  exit 2
}

[ $# -gt 0 ] || wrong_use
case "$1" in
  -h | --help | help) usage; exit 0 ;;
  env)
    # shellcheck disable=SC2016  # for the caller's shell
    printf 'export PATH=%q:"$PATH"\n' "$bin_dir"
    exit 0
    ;;
  list)
    for name in "${all_parts[@]}" cargo-deny cargo-deb; do
      describe "$name"
      printf '%-16s %s%s\n' "$name" "${minimum:+>= $minimum: }" "$why"
    done
    exit 0
    ;;
  all) [ $# -eq 1 ] || wrong_use; set -- "${all_parts[@]}" ;;
esac
for name in "$@"; do describe "$name" || die 2 "there is no part named '$name'; see: docker/parts.sh list"; done
for name in "$@"; do
  describe "$name"
  provide "$name"
done
