#!/usr/bin/env bash
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
#
# scripts/check_format.sh [--fix]: whether C++ sources look as .clang-format says. Versions of clang-format differ, so only 14 (Debian
# 12's) counts; without it the check is skipped with a note.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=(--dry-run -Werror)
case ${1:-} in
  '') ;;
  --fix) mode=(-i) ;;
  *) echo "usage: scripts/check_format.sh [--fix]" >&2; exit 2 ;;
esac

tool=
for candidate in clang-format-14 clang-format; do
  if command -v "$candidate" >/dev/null && "$candidate" --version | grep -q 'version 14\.'; then tool=$candidate; break; fi
done
if [ -z "$tool" ]; then
  echo "check_format: skipped, no clang-format 14 (scripts/deps.sh --lint installs it)"
  exit 0
fi

mapfile -d '' files < <(find include src examples fuzz tests \( -name '*.cc' -o -name '*.h' -o -name '*.cu' \) -print0 | sort -z)
if ! output=$("$tool" "${mode[@]}" "${files[@]}" 2>&1); then
  # One line for each place, without the source excerpts.
  grep -E '(error|warning):' <<<"$output" | head -n 40
  echo "check_format: $(grep -cE '(error|warning):' <<<"$output") places differ; scripts/check_format.sh --fix formats them" >&2
  exit 1
fi
echo "check_format: ${#files[@]} files"
