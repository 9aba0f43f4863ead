#!/usr/bin/env bash
# Fuzzes the decisions, those of the scanner most of all: any text, however it is cut, never a panic, never two engines of two
# minds, never more time than its length allows. What reaches most is kept in filters/fuzz/corpus, small enough to be
# committed, and `make test` runs what is there for the scanner.
# usage: fuzz.sh [SECONDS] [TARGET...]   SECONDS for each target, default 600; TARGET of scan, pieces, views, structure, sse,
#        answer, default all
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(scan pieces views structure sse answer)

scripts/install-system.sh build
host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz gives the compiler, but for the sanitizer: there is one file with `unsafe`, and the stable compiler has none.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
cargo build --manifest-path filters/fuzz/Cargo.toml --release --locked --target "$host" --target-dir target/fuzz

for target in "${targets[@]}"; do
  grown=target/fuzz/grown/$target
  kept=filters/fuzz/corpus/$target
  mkdir -p "$grown" "$kept" target/fuzz/found
  # A unit of 16 KiB may take a second here, where every comparison is counted; the gateway takes a thousandth of it.
  target/fuzz/"$host"/release/"$target" "$grown" "$kept" -max_total_time="$seconds" -max_len=16384 -timeout=10 -len_control=20 \
    -rss_limit_mb=4096 -dict=filters/fuzz/words.dict -artifact_prefix=target/fuzz/found/"$target"- -print_final_stats=1 -verbosity=0
  # The smallest set of short texts that reaches as much, and of that some three hundred of all lengths.
  rm -rf "$grown.small" && mkdir -p "$grown.small"
  target/fuzz/"$host"/release/"$target" -merge=1 -max_len=512 "$grown.small" "$kept" "$grown" -verbosity=0
  # Texts that once broke something stay, under such names.
  find "$kept" -type f ! -name 'broke-*' -delete
  every=$(($(find "$grown.small" -type f | wc -l) / 300 + 1))
  find "$grown.small" -type f -printf '%s %p\n' | sort -n | awk -v every=$every 'NR % every == 0 { print $2 }' | xargs -r cp -t "$kept"
done
