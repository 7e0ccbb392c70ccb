#!/usr/bin/env bash
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
#
# Gets the programs that Decant is compared with: llama.cpp, built from the source distribution of llama-cpp-python (its Python package
# is not needed) with its server, ik_llama.cpp, built from its repository, OpenVINO GenAI, installed in a virtual environment, and in another one the
# libraries for structured output with an independent JSON Schema validator. The two builds take about 15 and 15 minutes on two
# processors. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/../.."

llama_version=0.3.36
ik_commit=8337e4cd3861406fc04e0854b1409cd1b027fbc9
ik_source=${IK_LLAMA_SOURCE:-https://github.com/ikawrakow/ik_llama.cpp}
openvino_version='2026.4.*'

usage() {
  cat <<TEXT
usage: bench/peers/setup.sh [--only llama.cpp|ik|openvino|structured] [--into DIR]

  --only NAME   get this one alone; repeatable (default: all)
  --into DIR    folder for all of it (default: build/peers)

  llama.cpp     of llama-cpp-python $llama_version; programs in DIR/llama.cpp/build/bin
  ik            ik_llama.cpp ${ik_commit:0:7}; programs in DIR/ik_llama.cpp/build/bin
  openvino      OpenVINO GenAI $openvino_version; Python in DIR/venv/bin/python
  structured    llguidance, XGrammar, outlines-core and jsonschema, the newest; Python in DIR/structured/bin/python

IK_LLAMA_SOURCE names another repository of ik_llama.cpp (a URL or a folder) than the public one.
TEXT
}

fail() {
  echo "setup.sh: $1" >&2
  exit "${2:-1}"
}

folder=build/peers
only=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --only)
      case ${2:-} in
        llama.cpp | ik | openvino | structured) only+=("$2"); shift 2 ;;
        *) fail "--only takes llama.cpp, ik, openvino or structured" 2 ;;
      esac ;;
    --into) [ -n "${2:-}" ] || fail "--into takes a folder" 2; folder=$2; shift 2 ;;
    *) fail "unknown option $1; see bench/peers/setup.sh --help" 2 ;;
  esac
done
[ ${#only[@]} -gt 0 ] || only=(llama.cpp ik openvino structured)
mkdir -p "$folder"

# build NAME TARGET...: compiles targets of the configured $folder/NAME/build
build() {
  local name=$1 log="$folder/$1-build.log"
  shift
  echo "building $name for this processor"
  cmake --build "$folder/$name/build" --target "$@" >"$log" || { grep -m 3 'error' "$log" >&2 || true; fail "the build of $name failed, see $log"; }
  echo "done: $folder/$name/build/bin"
}

get_llama() {
  if [ ! -e "$folder/llama.cpp/CMakeLists.txt" ]; then
    echo "fetching the sources of llama-cpp-python $llama_version"
    python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python --disable-pip-version-check -d "$folder" \
      "llama-cpp-python==$llama_version" || fail "pip could not fetch llama-cpp-python $llama_version"
    tar -C "$folder" -xf "$folder/llama_cpp_python-$llama_version.tar.gz"
    mv "$folder/llama_cpp_python-$llama_version/vendor/llama.cpp" "$folder/llama.cpp"
    rm -rf "$folder/llama_cpp_python-$llama_version"
  fi
  cmake -G Ninja -S "$folder/llama.cpp" -B "$folder/llama.cpp/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
    >"$folder/llama.cpp-cmake.log"  # the server without its pages, which would be fetched
  build llama.cpp llama-server llama-tokenize llama-perplexity llama-bench llama-batched-bench llama-completion llama-quantize llama-lookup \
    llama-speculative llama-speculative-simple
}

get_ik() {
  local ik=$folder/ik_llama.cpp
  if [ ! -e "$ik/.git" ]; then
    echo "cloning ik_llama.cpp"
    rm -rf "$ik.part"
    git clone --quiet --no-checkout --filter=blob:none "$ik_source" "$ik.part" \
      || fail "git could not clone ik_llama.cpp; IK_LLAMA_SOURCE may name another copy"
    mv "$ik.part" "$ik"
  fi
  if [ "$(git -C "$ik" rev-parse HEAD)" != "$ik_commit" ] || [ ! -e "$ik/CMakeLists.txt" ]; then
    # The vocabulary files and the server's pages are not needed.
    git -C "$ik" sparse-checkout set --no-cone '/*' '!/models/' '!/examples/server/public_llamacpp/' '!/examples/server/webui/'
    git -C "$ik" checkout --quiet --detach "$ik_commit" || fail "ik_llama.cpp has no commit $ik_commit there"
  fi
  # Without flash attention for 4-bit caches, which takes long to compile and is not measured.
  cmake -G Ninja -S "$ik" -B "$ik/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=ON -DLLAMA_BUILD_SERVER=OFF -DGGML_IQK_FA_ALL_QUANTS=OFF >"$folder/ik_llama.cpp-cmake.log"
  build ik_llama.cpp llama-bench llama-batched-bench llama-sweep-bench llama-cli
}

get_openvino() {
  local python=$folder/venv/bin/python
  [ -x "$python" ] || python3 -m venv "$folder/venv" || fail "python3 could not make a virtual environment (Debian: apt install python3-venv)"
  echo "installing OpenVINO GenAI $openvino_version"
  "$python" -m pip install --quiet --disable-pip-version-check "openvino-genai==$openvino_version" \
    || fail "pip could not install openvino-genai $openvino_version"
  "$python" -c 'import openvino_genai; print("done: OpenVINO GenAI", openvino_genai.__version__)'
}

get_structured() {
  local python=$folder/structured/bin/python
  [ -x "$python" ] || python3 -m venv "$folder/structured" || fail "python3 could not make a virtual environment (Debian: apt install python3-venv)"
  echo "installing llguidance, XGrammar, outlines-core and jsonschema"
  # gguf and transformers read the tokenizer of a GGUF file; XGrammar brings torch along.
  "$python" -m pip install --quiet --upgrade --disable-pip-version-check llguidance xgrammar outlines-core 'jsonschema[format]' regress \
    numpy gguf transformers tokenizers || fail "pip could not install the libraries for structured output"
  "$python" - <<'PYTHON'
from importlib.metadata import version
print("done:", ", ".join(f"{p} {version(p)}" for p in ("llguidance", "xgrammar", "outlines-core", "jsonschema")))
PYTHON
}

for name in "${only[@]}"; do
  case $name in
    llama.cpp) get_llama ;;
    ik) get_ik ;;
    openvino) get_openvino ;;
    structured) get_structured ;;
  esac
done
