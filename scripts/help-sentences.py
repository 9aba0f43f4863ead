#!/usr/bin/env python3
"""Paragraphs of LibreOffice's help in eleven languages, as JSON lines for the trainer of the scanner's learned layer.

    help-sentences.py FOLDER > manuals.jsonl

FOLDER holds the Debian packages libreoffice-help-*.deb, from which the texts are taken (MPL-2.0, LGPL-3+): harmless
imperatives in plain wording, "select", "delete", "enter", "ignore". Of each language the same LIMIT are taken, by their
SHA-256, so that the same packages give the same lines.
"""
import hashlib
import html
import json
import pathlib
import re
import subprocess
import sys
import tempfile

LIMIT = 2500
BYTES = range(40, 701)
# These are written in letters of their own: a paragraph without them was left untranslated.
NOT_LATIN = {"hi", "ja", "ko", "ru", "zh"}


def paragraphs(folder):
    for page in sorted(folder.glob("usr/share/libreoffice/help/*/text/**/*.html")):
        for paragraph in re.findall(r'<p[^>]*class="[^"]*"[^>]*>(.*?)</p>', page.read_text(encoding="utf8"), re.S):
            yield " ".join(html.unescape(re.sub(r"<[^>]+>", "", paragraph)).split())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    packages = sorted(pathlib.Path(sys.argv[1]).glob("libreoffice-help-*.deb"))
    if not packages:
        sys.exit(f"no libreoffice-help-*.deb in {sys.argv[1]}: fetch them with apt-get download")
    for package in packages:
        language = re.match(r"libreoffice-help-([a-z]+)", package.name)[1]
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["dpkg", "-x", package, folder], check=True)
            texts = {text for text in paragraphs(pathlib.Path(folder)) if len(text.encode()) in BYTES}
        texts = [text for text in texts if language not in NOT_LATIN or not text.isascii()]
        texts.sort(key=lambda text: hashlib.sha256(text.encode()).digest())
        for text in texts[:LIMIT]:
            line = {"text": text, "label": "benign", "category": "manual", "source": "libreoffice_help", "lang": language}
            print(json.dumps(line, ensure_ascii=False))


main()
