#!/usr/bin/env bash
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds llama.cpp, the program that Decant is compared with, from the source distribution of llama-cpp-python (its Python package
# is not needed). Takes about 8 minutes on two processors. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.3.36
folder=build/peers
case ${1:-} in
  '') ;;
  -h | --help) echo "usage: bench/peers/setup.sh; builds llama.cpp (of llama-cpp-python $version) in $folder/llama.cpp"; exit 0 ;;
  *) echo "setup.sh: unknown option $1; see bench/peers/setup.sh --help" >&2; exit 2 ;;
esac

mkdir -p "$folder"
if [ ! -e "$folder/llama.cpp/CMakeLists.txt" ]; then
  echo "fetching the sources of llama-cpp-python $version"
  python3 -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation --disable-pip-version-check -d "$folder" \
    "llama-cpp-python==$version" || { echo "setup.sh: pip could not fetch llama-cpp-python $version" >&2; exit 1; }
  tar -C "$folder" -xf "$folder/llama_cpp_python-$version.tar.gz"
  mv "$folder/llama_cpp_python-$version/vendor/llama.cpp" "$folder/llama.cpp"
  rm -rf "$folder/llama_cpp_python-$version"
fi

echo "building llama.cpp for this processor"
cmake -G Ninja -S "$folder/llama.cpp" -B "$folder/llama.cpp/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF >"$folder/cmake.log"
cmake --build "$folder/llama.cpp/build" --target llama-tokenize llama-perplexity llama-bench llama-batched-bench llama-completion llama-quantize \
  >"$folder/build.log" || { grep -m 3 'error' "$folder/build.log" >&2; echo "setup.sh: the build failed, see $folder/build.log" >&2; exit 1; }
echo "done: $folder/llama.cpp/build/bin"
