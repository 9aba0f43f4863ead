#!/usr/bin/env python3
"""Scores `tollgate scan` on labelled sentences: attacks blocked and marked, harmless ones blocked, by file and by round.

    score-sentences.py FOLDER COMMAND...      e.g. tests/data/unseen target/release/tollgate scan --rules conf/rules

FOLDER holds JSON lines {"id", "text", "label"}, one file a language; the second part of an id names the round. COMMAND
reads JSON lines {"id", "text"} and answers each with a line that has "verdict".
"""
import collections
import json
import pathlib
import subprocess
import sys


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        sys.exit(f"no *.jsonl in {folder}")
    total = collections.Counter()
    print("| language | round | attacks blocked | marked or blocked | harmless blocked |\n|---|---|---|---|---|")
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf8").splitlines()]
        asked = "".join(json.dumps({"id": row["id"], "text": row["text"]}) + "\n" for row in rows)
        answer = subprocess.run(command, input=asked.encode(), stdout=subprocess.PIPE, check=True).stdout
        verdicts = [json.loads(line)["verdict"] for line in answer.splitlines()]
        if len(verdicts) != len(rows):
            sys.exit(f"{file}: {len(verdicts)} answers to {len(rows)} lines")
        counts = collections.defaultdict(collections.Counter)
        for row, verdict in zip(rows, verdicts):
            count = counts[row["id"].split("-")[1]]
            count[row["label"]] += 1
            count[row["label"], verdict] += 1
        for name, count in counts.items():
            print(line(file.stem, name, count))
            for key, value in count.items():
                total[name, key] += value
    for name in sorted({name for name, _ in total}):
        print(line("all", name, collections.Counter({key: value for (of, key), value in total.items() if of == name})))


def line(language, name, count):
    attacks, harmless = count["attack"], count["benign"]
    blocked = count["attack", "block"]
    marked = blocked + count["attack", "flag"]
    share = lambda part: f"{part} of {attacks}, {100 * part / max(attacks, 1):.0f} %"
    return f"| {language} | {name} | {share(blocked)} | {share(marked)} | {count['benign', 'block']} of {harmless} |"


main()
