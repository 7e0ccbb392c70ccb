# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
#
# What quickstart, test and scripts/*.sh share; sourced by bash, from the repository's root.
# shellcheck shell=bash

program=$(basename "$0")

# One sentence on stderr, then exit 1.
fail() {
  printf '%s: %s\n' "$program" "$*" >&2
  exit 1
}

# Jobs that this machine can run side by side: processors, within the container's limit, at most one for each 1.2 GB of memory.
job_count() {
  local jobs quota period limit memory
  jobs=$(nproc)
  if read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max && [ "$quota" != max ]; then
    [ $((quota / period)) -ge "$jobs" ] || jobs=$((quota / period))
  fi
  memory=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)  # MB
  if read -r limit 2>/dev/null </sys/fs/cgroup/memory.max && [ "$limit" != max ]; then
    [ $((limit / 1048576)) -ge "$memory" ] || memory=$((limit / 1048576))
  fi
  [ $((memory / 1200)) -ge "$jobs" ] || jobs=$((memory / 1200))
  [ "$jobs" -ge 1 ] || jobs=1
  echo "$jobs"
}

# build PRESET LOG [TARGET...]: configures and builds; everything goes to LOG, a terminal sees ninja's counter. Returns the status.
build() {
  local preset=$1 log=$2 jobs
  shift 2
  jobs=$(job_count)
  mkdir -p "$(dirname "$log")"
  {
    cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}
  } 2>&1 | tee "$log" | show_counter
}

show_counter() {
  local line
  if [ -t 1 ]; then
    while IFS= read -r line; do
      case $line in '['[0-9]*/*']'*) printf '\r\033[K  %s' "${line%%]*}]" ;; esac
    done
    printf '\r\033[K'
  else
    cat >/dev/null
  fi
}

# The reason in a build's log: the compiler's, linker's, CMake's or ninja's first error, else the last line.
build_error() {
  local line
  line=$(grep -m 1 -E '(: (fatal )?error: |undefined reference to|: No such file or directory$|^ninja: error: )' "$1" ||
    grep -m 1 -A 3 '^CMake Error' "$1" | tr -s '\n ' ' ' || tail -n 1 "$1" || true)
  printf '%.300s' "${line% }"
}

# The folder of pulled models, as the program finds it; empty when there is none.
model_cache() {
  if [ -n "${DECANT_CACHE:-}" ]; then
    echo "$DECANT_CACHE/models"
  elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    echo "$XDG_CACHE_HOME/decant/models"
  elif [ -n "${HOME:-}" ]; then
    echo "$HOME/.cache/decant/models"
  fi
}
