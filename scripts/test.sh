#!/usr/bin/env bash
# The gate: format, lints, walls and licences, tests, documentation, clients. Every step runs even when one before
# it failed, so that one run shows all there is to mend. The last line gives the totals; each step that is not a
# suite counts as one.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-system.sh test
PATH=$(scripts/install-tools.sh):$PATH
# What tests need and the scripts install must be there: no test may leave itself out.
export PATH CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} TOLLGATE_GATE=1
scripts/install-clients.sh

mkdir -p target
log=target/test.log
passed=0
failed=0
broken=()

# step NAME COUNTER COMMAND…: runs the command and adds what COUNTER finds in its output.
step() {
  local name=$1 counter=$2 start=$SECONDS status=0
  shift 2
  echo "==> $name"
  "$@" 2>&1 | tee "$log" || status=1
  local good bad
  read -r good bad < <("$counter" "$status" < "$log")
  # A suite that broke without a failed test (it did not compile, say) must not pass for a good one.
  if [ "$status" != 0 ]; then
    [ "$bad" -gt 0 ] || bad=1
    broken+=("$name")
  fi
  passed=$((passed + good))
  failed=$((failed + bad))
  echo "<== $name: $good passed, $bad failed, $((SECONDS - start)) s"
}

count_one() { [ "$1" = 0 ] && echo "1 0" || echo "0 1"; }

# `Summary [ 3.2s] 120 tests run: 118 passed (2 slow), 2 failed, 0 skipped`
count_nextest() { awk '/^ *Summary \[/ { found = $0 } END { print field(found, "passed"), field(found, "failed") }
  function field(text, word) { return match(text, "[0-9]+ " word) ? substr(text, RSTART) + 0 : 0 }'; }

# `test result: ok. 3 passed; 0 failed; …`, once for each crate
count_cargo() { awk '/^test result:/ { good += $4; bad += $6 } END { print good + 0, bad + 0 }'; }

# pytest: `2 failed, 30 passed, 1 skipped in 9.1s`; node: `# pass 9`, `# fail 0`
count_clients() { awk '/ in [0-9.]+s/ { for (i = 2; i <= NF; i++) {
    if ($i ~ /^passed/) good += $(i - 1); if ($i ~ /^(failed|errors?)/) bad += $(i - 1) } }
  /^# pass/ { good += $3 } /^# (fail|cancelled)/ { bad += $3 } END { print good + 0, bad + 0 }'; }

step format count_one cargo fmt --all --check
step lints count_one cargo clippy --workspace --all-targets --locked -- -D warnings
# Advisories are left out: their database comes over the network.
step dependencies count_one cargo deny check licenses bans sources
# Loads the shipped rule packs, which runs their examples, and leaves them compiled for the gateways that the tests start.
rules() { cargo build --locked && target/debug/tollgate scan --stats < /dev/null; }
step rules count_one rules
step tests count_nextest cargo nextest run --workspace --locked --no-fail-fast --hide-progress-bar
step examples count_cargo cargo test --workspace --locked --doc
step documentation count_one env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
step clients count_clients target/venv/bin/python tests/clients/run.py target/debug/tollgate

[ "${#broken[@]}" = 0 ] || echo "broken: ${broken[*]}"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
