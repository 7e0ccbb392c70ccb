#!/usr/bin/env bash
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
#
# Installs what building and testing Decant needs, on Debian 12 or a relative of it. Does nothing, and needs no root, when all is
# there. The list below is the whole list.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

packages=(g++ cmake ninja-build ccache nlohmann-json3-dev libcli11-dev libfmt-dev libutf8proc-dev libgtest-dev
  libcurl4-openssl-dev libssl-dev libboost-dev zlib1g-dev ca-certificates python3 python3-pip)

usage() {
  cat <<'TEXT'
usage: scripts/deps.sh [OPTION...]
Installs the Debian packages that Decant needs and that are missing.

  --bench   also those of the bench preset (Google Benchmark)
  --fuzz    also those of the fuzz preset (clang)
  --lint    also those of the style checks (clang-format)
  --check   install nothing; exit 1 and name what is missing
  --help    this text
TEXT
}

check=
for argument; do
  case $argument in
    --bench) packages+=(libbenchmark-dev) ;;
    --fuzz) packages+=(clang) ;;
    --lint) packages+=(clang-format) ;;
    --check) check=1 ;;
    -h | --help) usage; exit 0 ;;
    *) printf '%s: unknown option %s; see scripts/deps.sh --help\n' "$program" "$argument" >&2; exit 2 ;;
  esac
done

command -v dpkg-query >/dev/null ||
  fail "this system has no Debian packages; install the counterparts of these yourself and pass --no-deps: ${packages[*]}"

missing=()
for package in "${packages[@]}"; do
  # The binary package may be of another architecture or removed with its settings kept; only "installed" counts.
  case $(dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null || true) in
    *installed*) ;;
    *) missing+=("$package") ;;
  esac
done

if [ ${#missing[@]} -eq 0 ]; then
  echo "all ${#packages[@]} packages are installed"
  exit 0
fi
[ -z "$check" ] || fail "missing: ${missing[*]}; run scripts/deps.sh as root or with sudo"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "missing: ${missing[*]}; installing them needs root (there is no sudo): run scripts/deps.sh as root"
  as_root=(sudo)
fi
log=build/logs/deps.log
mkdir -p build/logs
echo "installing ${missing[*]}"
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2 -o Acquire::http::Timeout=20)
# A failed update is no reason to stop: the lists may be there and fresh.
"${as_root[@]}" "${apt[@]}" update >"$log" 2>&1 || true
if ! "${as_root[@]}" "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
  reason=$(grep -m 1 '^E: ' "$log" || tail -n 1 "$log")
  fail "apt-get could not install ${missing[*]} (${reason#E: }); check the network or install them yourself, details in $log"
fi
