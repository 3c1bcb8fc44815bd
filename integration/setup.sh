#!/usr/bin/env bash
# Installs what the integration tests drive, on Debian 12 as root. Doing it
# again changes nothing. Without root or apt-get it only says what is missing:
# the tests of that skip.
set -uo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

packages=(
  nginx-light haproxy redis-server              # servers written in C
  libnginx-mod-stream                           # nginx as a proxy, for the benchmark
  python3 python3-gunicorn gunicorn             # a pre-forking one
  puma unicorn                                  # and what is written in Ruby
  uwsgi-core uwsgi-plugin-python3
  postgresql mariadb-server                     # databases
  libserver-starter-perl                        # the peer whose options we take
  tini dumb-init                                # peers of the benchmark
  docker.io                                     # the engine is started by its tests
  iproute2 procps
  gcc g++ libc6-dev                             # cgo (race detector)
  wine wine64 g++-mingw-w64-x86-64-posix        # the Windows tests and their C++ peers
)
# node has many packagers: any node that runs is right.
command -v node >/dev/null || command -v nodejs >/dev/null || packages+=(nodejs)

missing() {
  local p
  for p in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s\n' "$p"
  done
}

# Server::Starter's own test suite comes with the package's source.
suite=$(dirname "$0")/../.tools/server-starter
mapfile -t wanted < <(missing)
[ ${#wanted[@]} -eq 0 ] && [ -d "$suite/t" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: not installed, their tests skip: ${wanted[*]} $([ -d "$suite/t" ] || echo "(the tests of Server::Starter)")"
  exit 0
fi

# Packages must not start their services here. What stood in the policy's
# place comes back, whatever happens.
policy=/usr/sbin/policy-rc.d
kept=
if [ -e $policy ] || [ -L $policy ]; then
  kept=$policy.kept-by-setup
  # A run that was killed left its own policy in place: the first one kept is the right one.
  [ -e $kept ] || [ -L $kept ] || mv $policy $kept
fi
# shellcheck disable=SC2329
restore() {
  rm -f $policy
  if [ -n "$kept" ]; then mv $kept $policy; fi
}
trap restore EXIT
trap 'exit 130' INT TERM HUP
printf '#!/bin/sh\nexit 101\n' >$policy
chmod 755 $policy

# A database cluster that nobody uses only costs time and shared memory.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf

log=$(mktemp)
apt() {
  apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" >>"$log" 2>&1
}
for try in 1 2 3; do
  [ ${#wanted[@]} -eq 0 ] && break
  apt update
  apt install -y --no-install-recommends "${wanted[@]}" && break
  # One package that cannot be had must not cost the others.
  for p in "${wanted[@]}"; do apt install -y --no-install-recommends "$p"; done
  mapfile -t wanted < <(missing)
  [ ${#wanted[@]} -eq 0 ] && break
  sleep $((try * 5))
done

mapfile -t wanted < <(missing)
if [ ${#wanted[@]} -ne 0 ]; then
  tail -n 20 "$log" >&2
  echo "setup: not installed, their tests skip: ${wanted[*]}"
fi

# It is asked for where the package itself comes from, with lists of its own.
get_suite() {
  local dir=$1 version url place
  version=$(dpkg-query -W -f '${Version}' libserver-starter-perl) || return
  read -r url place < <(apt-cache policy libserver-starter-perl | awk '$1 ~ /^[0-9]+$/ && $2 ~ /:/ { print $2, $3; exit }')
  [ -n "$place" ] || return
  mkdir -p "$dir/parts" "$dir/lists/partial" "$suite" || return
  echo "deb-src $url ${place%%/*} ${place#*/}" >"$dir/sources.list"
  local own=(-o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts="$dir/parts" -o Dir::State::Lists="$dir/lists")
  apt "${own[@]}" update && (cd "$dir" && apt "${own[@]}" -o APT::Sandbox::User=root source --tar-only --download-only "libserver-starter-perl=$version") &&
    tar -xf "$dir"/*.orig.tar.* -C "$suite" --strip-components=1 --no-same-owner
}
if [ ! -d "$suite/t" ]; then
  scratch=$(mktemp -d)
  for try in 1 2 3; do
    get_suite "$scratch" && break
    sleep $((try * 5))
  done
  rm -rf "$scratch"
  if [ ! -d "$suite/t" ]; then
    tail -n 20 "$log" >&2
    echo "setup: the source of libserver-starter-perl cannot be had, its tests skip"
  fi
fi
rm -f "$log"
exit 0
