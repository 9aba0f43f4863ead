#!/usr/bin/env bash
# Trains the learned layer of the scanner anew: after every change to filters/data/scanner, to the tokeniser or to the
# views. The same data and code give the same model. Other people's prompts are read where they are and not kept:
#
#     scripts/train-scanner.sh [DIR] [NAME=VALUE...]      DIR holds attacks.jsonl.gz and benign.jsonl.gz
#
# The manuals are those of the Debian release it runs on: another version of them gives another model.
#
# Writes conf/scanner.model, and the held-out figures to target/scanner-model.md.
set -euo pipefail
cd "$(dirname "$0")/.."

data=../shared/data/prompts/dev
if [ $# -gt 0 ] && [ -d "$1" ]; then data=$1; shift; fi
if [ ! -f "$data/attacks.jsonl.gz" ] || [ ! -f "$data/benign.jsonl.gz" ]; then
  echo "no prompts in $data: the model in conf/scanner.model stays as it is" >&2
  exit 1
fi

lines=$(mktemp -d)
trap 'rm -rf "$lines"' EXIT
for file in attacks benign; do gzip -dc "$data/$file.jsonl.gz" > "$lines/$file.jsonl"; done

# Manuals, from the mirror that apt knows: some 36 MB, not installed.
(cd "$lines" && for language in de es fr hi it ja ko pt ru tr zh-cn; do apt-get download -q "libreoffice-help-$language"; done) >&2
scripts/help-sentences.py "$lines" > "$lines/manuals.jsonl"

cargo build --release --locked -p tollgate-filters --example train
target/release/examples/train "$lines" filters/data/scanner conf/rules tests/data/scan --write conf/scanner.model "$@" \
  | tee target/scanner-model.md
