#!/usr/bin/env bash
# Scores `tollgate scan` on labelled prompts: recall by class and language, false alarms by source, CPU time a prompt.
# usage: evaluate-scanner.sh [SHARED]   SHARED holds data/prompts/dev and tools/evaluate.py; default ../shared
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked
echo "sentences of our own that no rule was written for (tests/data/unseen):"
python3 scripts/score-sentences.py tests/data/unseen target/release/tollgate scan --rules conf/rules

shared=${1:-../shared}
if [ ! -f "$shared/tools/evaluate.py" ] || [ ! -d "$shared/data/prompts/dev" ]; then
  echo "no labelled prompts in $shared: nothing more was scored (tests/data/scan is scored by make test)" >&2
  exit 0
fi
mkdir -p target/scan
python3 "$shared/tools/evaluate.py" --data "$shared/data/prompts/dev" \
  --scanner "target/release/tollgate scan --rules conf/rules" --out target/scan/figures.json --misses target/scan/misses.jsonl
