#!/usr/bin/env bash
# A Docker engine with Compose for the tests.
#
#   docker/engine.sh up              use the engine that is there, else fetch and start a private one
#   docker/engine.sh status          what is in use, versions, where
#   docker/engine.sh env             lines to eval, so that `docker` and `docker compose` reach it
#   docker/engine.sh down            stop the private engine and undo what it did to this machine
#   docker/engine.sh down --purge    also delete its images, volumes and everything that was fetched
#
# Usual:  docker/engine.sh up && eval "$(docker/engine.sh env)"
#
# An engine that answers with Compose >= 2.20 is used as it is, and `down` leaves it alone. If none answers, Debian's packages
# are unpacked into a private folder (nothing is installed, /etc/apt is not touched) and dockerd is started from there.
# That needs Debian 12 or 13, root and a package mirror.
#
# EVENKEEL_PARTS   the private folder; default ${XDG_CACHE_HOME:-~/.cache}/evenkeel/parts
# Exit status: 0 done; 1 failed, or `status` found no engine; 2 not possible here (the message says what to install), or wrong use.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

log="$engine_dir/dockerd.log"
before="$run_dir/before"               # how the machine was, for `down`

# ---------------------------------------------------------------- up

up() {
  find_engine
  case "$found" in
    machine | own) ;;
    half)
      if [ -z "$compose_version" ]; then
        say "the engine at $host has no Compose >= $min_compose: fetching the CLI and Compose for it, the engine stays as it is"
        lock_parts packages
        fetch_cli
        find_engine
      fi
      ;;
    old)
      # Both would make the chain DOCKER in iptables and the bridge docker0, and each would undo the other's.
      die 2 "the engine at $host is $engine_version; the tests need >= $min_engine, and two engines on one machine get in each other's way." \
        "Upgrade it, or stop it and run this again: a private one is started then."
      ;;
    none) start_private ;;
  esac
  status
}

start_private() {
  [ "$(id -u)" = 0 ] || die 2 "no Docker engine with Compose >= $min_compose answers, and starting a private one needs root." \
    "Run this as root (sudo), or start your engine, or join its group: https://docs.docker.com/engine/install/"
  lock_parts packages
  # Somebody else may have started it while this run waited.
  find_engine
  [ "$found" != own ] || return 0
  refuse_second_engine
  fetch_cli
  fetch_engine
  # Left by an engine that was killed.
  if [ -e "$run_dir" ]; then stop_private; fi
  note_machine
  start_dockerd
  find_engine
  [ "$found" = own ] || die 1 "dockerd runs, but Compose does not answer: $(private_docker compose version 2>&1 | head -n1)"
}

# An engine in this network namespace that find_engine cannot reach (another prefix, another socket).
refuse_second_engine() {
  local pid
  for pid in $(processes_named dockerd); do
    [ "$(readlink "/proc/$pid/ns/net")" = "$(readlink /proc/self/ns/net)" ] || continue
    ! is_ours "$pid" || continue
    die 2 "another dockerd runs here (process $pid) and does not answer to 'docker version': two engines on one machine get in each other's way." \
      "Point DOCKER_HOST at its socket, or stop it: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-200)"
  done
}

fetch_cli() {
  local from
  from="$(newer)"
  fetch "for docker compose" "docker-cli$from" "docker-compose$from" "docker-buildx$from"
  [ -x "$cli_dir/docker" ] || expose "$cli_dir/docker" "$tree/usr/bin/docker"
  mkdir -p "$docker_config"
  printf '{"cliPluginsExtraDirs": ["%s"]}\n' "$tree/usr/libexec/docker/cli-plugins" >"$docker_config/config.json.new"
  # Written once: `docker login` puts credentials there too.
  if [ -e "$docker_config/config.json" ]; then rm "$docker_config/config.json.new"; else mv "$docker_config/config.json.new" "$docker_config/config.json"; fi
}

# "/trixie" where that is not the machine's own suite.
newer() {
  local own
  own="$(machine_suite)"
  [ "$own" = "$new_suite" ] || printf '/%s' "$new_suite"
}

fetch_engine() {
  local from
  from="$(newer)"
  fetch "the engine itself" "docker.io$from" "containerd$from" "tini$from"
  expose "$cli_dir/dockerd" "$tree/usr/sbin/dockerd"
  expose "$cli_dir/docker-proxy" "$tree/usr/sbin/docker-proxy"
  expose "$cli_dir/containerd" "$tree/usr/bin/containerd"
  expose "$cli_dir/containerd-shim-runc-v2" "$tree/usr/bin/containerd-shim-runc-v2"
  # The static one: the other needs Debian 13's C library.
  expose "$cli_dir/docker-init" "$tree/usr/bin/tini-static"
  fetch_machine_tools
}

# What the engine, or `down`, calls on the machine.
fetch_machine_tools() {
  local name needs=()
  # These meet the kernel and the C library most closely, so they come from the machine's own suite.
  for name in runc:runc iptables:iptables ip:iproute2; do
    on_machine "${name%:*}" >/dev/null || needs+=("${name#*:}")
  done
  # Only `nft` can delete the tables that iptables-nft makes.
  on_machine iptables >/dev/null || on_machine nft >/dev/null || needs+=(nftables)
  [ ${#needs[@]} -eq 0 ] || fetch_with_needs "the engine needs it, this machine lacks it" "${needs[@]}"
  for name in runc:runc ip:iproute2 nft:nftables; do
    if [ -e "$have_dir/${name#*:}" ]; then
      name="${name%:*}"
      expose "$cli_dir/$name" "$(first_file "$tree"/{usr/sbin,usr/bin,sbin,bin}/"$name")"
    fi
  done
  if ! on_machine iptables >/dev/null; then expose_iptables; fi
}

first_file() {
  local file
  for file in "$@"; do
    if [ -x "$file" ]; then
      printf %s "$file"
      return 0
    fi
  done
  die 1 "none of these is in the unpacked packages: $*"
}

# Debian's iptables exists in two kinds; take the one that this kernel speaks.
expose_iptables() {
  local kind plugins sbin name
  sbin="$(dirname "$(first_file "$tree"/{usr/sbin,sbin}/iptables-nft)")"
  plugins="$(find "$tree" -type d -name xtables -path '*lib*' -print -quit)"
  for kind in nft legacy; do
    for name in iptables ip6tables; do
      expose "$cli_dir/$name" "$sbin/$name-$kind" "XTABLES_LIBDIR=$plugins"
      expose "$cli_dir/$name-save" "$sbin/$name-$kind-save" "XTABLES_LIBDIR=$plugins"
    done
    if "$cli_dir/iptables" -w -t nat -S >/dev/null 2>&1; then
      say "iptables: the $kind kind works with this kernel"
      return 0
    fi
  done
  die 2 "neither iptables-nft nor iptables-legacy works with this kernel: $("$cli_dir/iptables" -w -t nat -S 2>&1 | head -n1)"
}

use_cli_dir() { export PATH="$cli_dir:$PATH:/usr/sbin:/sbin"; }

# What dockerd changes on a machine and does not change back.
note_machine() {
  mkdir -p "$before"
  chmod 711 "$run_dir"
  printf '%s\n' "$prefix" >"$run_dir/prefix"
  (
    use_cli_dir
    local key file
    for key in net/ipv4/ip_forward net/ipv6/conf/all/forwarding net/ipv6/conf/default/forwarding net/bridge/bridge-nf-call-iptables net/bridge/bridge-nf-call-ip6tables; do
      file="/proc/sys/$key"
      if [ -r "$file" ]; then printf '%s %s\n' "$file" "$(cat "$file")"; fi
    done >"$before/sysctl"
    interfaces >"$before/interfaces"
    cgroup_folders >"$before/cgroups"
    iptables-save >"$before/iptables" 2>/dev/null || true
    ip6tables-save >"$before/ip6tables" 2>/dev/null || true
    local path
    for path in /etc/docker /opt/containerd /run/docker /run/containerd /run/runc /run/xtables.lock; do
      if [ -e "$path" ]; then printf '%s\n' "$path"; fi
    done >"$before/paths"
  )
}

interfaces() { ip -o link show | sed -E 's/^[0-9]+: ([^:@]+).*/\1/' | sort; }

# The parent of all containers' cgroups, in each hierarchy of v1 and in v2.
cgroup_folders() {
  local path
  for path in /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker; do
    if [ -d "$path" ]; then printf '%s\n' "$path"; fi
  done
}

start_dockerd() {
  mkdir -p "$engine_dir/data"
  # So that the machine's /etc/docker/daemon.json is not read.
  printf '{}\n' >"$run_dir/daemon.json"
  say "starting dockerd; its log: $log"
  (
    use_cli_dir
    # A session of its own: it outlives this shell and takes no Ctrl-C of its. Without descriptor 9: it must not inherit the lock.
    setsid env -u DOCKER_HOST -u DOCKER_CONFIG -u DOCKER_CONTEXT -u LD_LIBRARY_PATH "$cli_dir/dockerd" \
      --config-file "$run_dir/daemon.json" \
      --data-root "$engine_dir/data" \
      --exec-root "$run_dir/exec" \
      --pidfile "$run_dir/dockerd.pid" \
      --host "$own_host" \
      --init-path "$cli_dir/docker-init" \
      --userland-proxy-path "$cli_dir/docker-proxy" \
      >"$log" 2>&1 </dev/null 9>&- &
  )
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    if own_engine_answers; then return 0; fi
    sleep 0.2
    if [ "$tries" -ge 10 ] && [ -z "$(our_processes dockerd)" ]; then break; fi
    if [ $((tries % 50)) -eq 49 ]; then say "still waiting for dockerd"; fi
  done
  tail -n 15 "$log" >&2
  stop_private
  die 1 "dockerd did not answer within a minute; its last lines are above, the whole log is $log"
}

# ---------------------------------------------------------------- down

# Programs of the private engine: by the file they were started from, or by our run-time folder on their command line.
is_ours() {
  local exe line
  exe="$(readlink "/proc/$1/exe" 2>/dev/null)" || return 1
  case "$exe" in "$tree"/*) return 0 ;; esac
  line="$(tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null)" || return 1
  case " $line" in *"$run_dir/"*) return 0 ;; esac
  return 1
}

# processes_named NAME…   by the file they were started from, which may be deleted by now
processes_named() {
  local dir name exe
  for dir in /proc/[0-9]*; do
    exe="$(readlink "$dir/exe" 2>/dev/null)" || continue
    exe="${exe% (deleted)}"
    for name in "$@"; do
      if [ "${exe##*/}" = "$name" ]; then printf '%s\n' "${dir#/proc/}"; fi
    done
  done
}

our_processes() {
  local pid
  for pid in $(processes_named "$@"); do
    if is_ours "$pid"; then printf '%s\n' "$pid"; fi
  done
}

children_of() {
  local status
  for status in /proc/[0-9]*/status; do
    if grep -qx "PPid:[[:space:]]*$1" "$status" 2>/dev/null; then basename "${status%/status}"; fi
  done
}

# wait_gone SECONDS PID…
wait_gone() {
  local left=$(($1 * 10)) pid alive
  shift
  while :; do
    alive=
    for pid in "$@"; do if [ -d "/proc/$pid" ]; then alive=yes; fi; done
    [ -n "$alive" ] || return 0
    [ $((left -= 1)) -gt 0 ] || return 1
    sleep 0.1
  done
}

down() {
  local purge=
  case "${1:-}" in
    '') ;;
    --purge) purge=yes ;;
    *) wrong_use ;;
  esac
  if [ -e "$run_dir" ] || [ -n "$(our_processes dockerd containerd)" ]; then
    [ "$(id -u)" = 0 ] || die 2 "stopping the private engine needs root"
    lock_parts packages
    stop_private
    say "the private engine is stopped"
  else
    say "no private engine runs here; an engine that was there before is left alone"
  fi
  [ -z "$purge" ] || purge_parts
}

stop_private() {
  local bridges pids pid
  bridges="$(own_bridges)"

  pids="$(our_processes dockerd)"
  if [ -n "$pids" ]; then
    say "stopping dockerd; containers get 15 seconds to end"
    # shellcheck disable=SC2086  # one word for each process
    kill -TERM $pids 2>/dev/null || true
    # shellcheck disable=SC2086
    if ! wait_gone 45 $pids; then
      say "dockerd does not end: killing it"
      # shellcheck disable=SC2086
      kill -KILL $pids 2>/dev/null || true
    fi
  fi

  # Only after an engine that was killed: containers live on under their shims.
  pids="$(our_processes containerd-shim-runc-v2)"
  for pid in $pids; do
    local child
    for child in $(children_of "$pid"); do kill -KILL "$child" 2>/dev/null || true; done
  done
  pids="$pids $(our_processes containerd docker-proxy containerd-shim-runc-v2)"
  # shellcheck disable=SC2086
  kill -TERM $pids 2>/dev/null || true
  # shellcheck disable=SC2086
  if ! wait_gone 5 $pids; then
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    # shellcheck disable=SC2086
    wait_gone 5 $pids || say "still there: $(our_processes containerd docker-proxy containerd-shim-runc-v2 | paste -sd' ')"
  fi

  unmount_under "$run_dir"
  unmount_under "$engine_dir"
  restore_machine "$bridges"
  rm -rf --one-file-system "$run_dir"
}

# The bridges that its networks have; asked while it runs, or read from what it last wrote down.
own_bridges() {
  if own_engine_answers; then
    private_docker network ls -q --filter driver=bridge |
      while read -r id; do
        private_docker network inspect -f '{{with index .Options "com.docker.network.bridge.name"}}{{.}}{{else}}br-{{slice $.Id 0 12}}{{end}}' "$id" || true
      done
  fi
}

# Deepest first. The kernel writes a space in a path as \040.
mounts_under() {
  local path
  awk '{ print $5 }' /proc/self/mountinfo | sed 's/\\040/ /g' | sort -r | while read -r path; do
    case "$path" in "$1"/*) printf '%s\n' "$path" ;; esac
  done
}

unmount_under() {
  local path
  mounts_under "$1" | while read -r path; do
    umount "$path" 2>/dev/null || umount -l "$path" || true
  done
}

restore_machine() {
  [ -d "$before" ] || return 0
  (
    use_cli_dir
    local name file value path
    # Somebody deleted the prefix while the engine ran.
    type -P iptables-save ip >/dev/null || (fetch_machine_tools) || say "ip or iptables is missing: the engine's bridges and rules stay"
    hash -r
    # Bridges of a killed engine are known by their names and their age: made since it started, br-<12 hex> or docker0.
    for name in $({ printf '%s\n' "$1"; interfaces | grep -E '^(docker0|docker_gwbridge|br-[0-9a-f]{12})$'; } | sort -u | comm -23 - "$before/interfaces"); do
      ip link delete "$name" 2>/dev/null || true
    done
    forget_rules iptables ip "$1"
    forget_rules ip6tables ip6 "$1"
    while read -r file value; do
      if [ "$(cat "$file" 2>/dev/null)" != "$value" ]; then printf '%s\n' "$value" >"$file" || true; fi
    done <"$before/sysctl"
    for path in $(cgroup_folders | comm -23 - "$before/cgroups"); do
      find "$path" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
    # Folders that dockerd, containerd and runc make besides their own; only if new, and emptied of dead shims' sockets.
    if [ -d /run/containerd/s ] && ! grep -qxF /run/containerd "$before/paths"; then find /run/containerd/s -type s -delete; fi
    for path in /opt/containerd /run/docker /run/containerd /run/runc /etc/docker; do
      if [ -d "$path" ] && ! grep -qxF "$path" "$before/paths"; then find "$path" -depth -type d -empty -delete 2>/dev/null || true; fi
    done
    if ! grep -qxF /run/xtables.lock "$before/paths"; then rm -f /run/xtables.lock; fi
  )
}

# forget_rules TOOL FAMILY BRIDGES
# Deletes each rule and chain that is there now and was not before the engine started, and that names a chain or bridge of Docker's
# or is its masquerading of one published port; what others added in the meantime stays.
forget_rules() {
  local tool=$1 family=$2 table='' line chain
  local made_by_docker='DOCKER|docker0|docker_gwbridge|br-[0-9a-f]{12}|-s [^ ]+/(32|128) -d [^ ]+/(32|128) -p .* -j MASQUERADE'
  for line in $3; do made_by_docker+="|-[io] ${line//./\\.} "; done
  local -A was=()
  type -P "$tool-save" >/dev/null || return 0
  while read -r line; do
    case "$line" in
      '*'*)
        table="${line#\*}"
        was["table $table"]=yes
        ;;
      :*) was["$table ${line%% \[*}"]=yes ;;
      -A*) was["$table $line"]=yes ;;
    esac
  done <"$before/$tool"
  local now rules=() chains=()
  now="$("$tool-save" 2>/dev/null || true)"
  while read -r line; do
    case "$line" in
      '*'*) table="${line#\*}" ;;
      :DOCKER*)
        line="${line%% \[*}"
        if [ -z "${was["$table $line"]:-}" ]; then
          chain="${line#:}"
          chains+=("$table ${chain%% *}")
        fi
        ;;
      ':FORWARD DROP'*)
        if [ "$table" = filter ] && [ -z "${was["filter :FORWARD DROP"]:-}" ]; then "$tool" -w -P FORWARD ACCEPT || true; fi
        ;;
      -A*)
        if [ -z "${was["$table $line"]:-}" ] && [[ $line =~ $made_by_docker ]]; then rules+=("$table $line"); fi
        ;;
    esac
  done <<<"$now"
  for line in "${rules[@]}"; do
    # xargs takes the quotes of iptables-save as they are meant.
    printf '%s\n' "${line#* -A }" | xargs "$tool" -w -t "${line%% *}" -D 2>/dev/null || true
  done
  for line in "${chains[@]}"; do "$tool" -w -t "${line%% *}" -F "${line#* }" 2>/dev/null || true; done
  for line in "${chains[@]}"; do "$tool" -w -t "${line%% *}" -X "${line#* }" 2>/dev/null || true; done
  # The tables themselves, if they are new and nobody put anything into them.
  type -P nft >/dev/null && "$tool" --version | grep -q nf_tables || return 0
  for table in filter nat raw mangle; do
    [ -z "${was["table $table"]:-}" ] || continue
    now="$("$tool-save" -t "$table" 2>/dev/null || true)"
    if [ -n "$now" ] && ! grep -qE '^-A|^:[^ ]+ (-|DROP)' <<<"$now"; then nft delete table "$family" "$table" 2>/dev/null || true; fi
  done
}

# Only the folders these scripts make, whatever EVENKEEL_PARTS points to.
purge_parts() {
  lock_parts packages
  local name
  if [ -n "$(mounts_under "$engine_dir")" ]; then die 1 "something is still mounted under $engine_dir: not deleting"; fi
  for name in engine engine-bin bin root apt cargo .lock-packages .lock-cargo-deny; do
    if [ -e "$prefix/$name" ]; then rm -rf --one-file-system "${prefix:?}/$name"; fi
  done
  rmdir "$prefix" 2>/dev/null || true
  say "$prefix is deleted: images, volumes and fetched packages"
}

# ---------------------------------------------------------------- status, env

status() {
  case "$found" in
    machine) printf 'in use: the engine of this machine\n' ;;
    half)
      if [ -n "$compose_version" ]; then
        printf 'in use: the engine of this machine, with Compose from %s\n' "$cli_dir"
      else
        printf 'none in use: the engine of this machine has no Compose >= %s; get it: docker/engine.sh up\n' "$min_compose"
      fi
      ;;
    own) printf 'in use: the private engine\n' ;;
    old) printf 'none in use: the one at %s is %s, too old (need %s)\n' "$host" "$engine_version" "$min_engine" ;;
    none) printf 'none in use; start one: docker/engine.sh up\n' ;;
  esac
  if [ "$found" != none ]; then printf 'host: %s\nengine: %s\ncompose: %s\n' "$host" "$engine_version" "${compose_version:-none}"; fi
  if [ "$found" = own ]; then
    printf 'data: %s\nlog: %s\nprocess: %s\n' "$engine_dir/data" "$log" "$(cat "$run_dir/dockerd.pid" 2>/dev/null || printf '?')"
  fi
  case "$found" in machine | own) ;; half) [ -n "$compose_version" ] ;; *) return 1 ;; esac
}

env_lines() {
  find_engine
  case "$found" in
    machine | own) ;;
    half) [ -n "$compose_version" ] || die 1 "the engine at $host has no Compose yet; run: docker/engine.sh up" ;;
    *) die 1 "no engine to use; run: docker/engine.sh up" ;;
  esac
  engine_env
}

wrong_use() {
  usage >&2
  exit 2
}

case "${1:-}" in
  up) [ $# -eq 1 ] || wrong_use; up ;;
  status) [ $# -eq 1 ] || wrong_use; find_engine; status ;;
  env) [ $# -eq 1 ] || wrong_use; env_lines ;;
  down) [ $# -le 2 ] || wrong_use; shift; down "$@" ;;
  -h | --help | help) usage ;;
  *) wrong_use ;;
esac
