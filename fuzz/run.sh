#!/bin/sh
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
#
# fuzz/run.sh SECONDS [TARGET...]: builds the fuzz preset (clang, ASan + UBSan) in build/fuzz and runs every target, or the ones
# named, for SECONDS each, from generated seeds. Exits non-zero on a finding; its input is kept in build/fuzz/findings.
set -eu
case ${1:-} in
  '' | *[!0-9]*) echo "usage: fuzz/run.sh SECONDS [TARGET...], for example: fuzz/run.sh 60 gguf" >&2; exit 2 ;;
esac
seconds=$1
shift
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  for source in fuzz/*_fuzz.cc; do set -- "$@" "$(basename "$source" _fuzz.cc)"; done
fi

build=build/fuzz
programs=
for target; do programs="$programs ${target}_fuzz"; done
cmake --preset fuzz >/dev/null
# shellcheck disable=SC2086
cmake --build --preset fuzz --target make_corpus $programs
"$build/bin/make_corpus" "$build/corpus" tests/families
mkdir -p "$build/findings"

status=0
for target; do
  mkdir -p "$build/corpus/$target"
  echo "== $target: $seconds s"
  # Inputs are at most 64 KiB; one allocation of 64 MiB or 10 s for one input would be a finding too.
  if ! "$build/bin/${target}_fuzz" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 \
      -malloc_limit_mb=64 -dict=fuzz/gguf.dict -print_final_stats=1 -verbosity=0 \
      -artifact_prefix="$build/findings/$target-" "$build/corpus/$target"; then
    echo "$target: finding; see $build/findings" >&2
    status=1
  fi
done
exit $status
