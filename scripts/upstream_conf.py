"""The shipped configuration with one real server behind it. usage: upstream_conf.py URL CONF OUT

Asks the server which models it has (GET /v1/models) and writes a configuration into OUT that serves those. Everything
else is as in CONF.
"""

import json
import pathlib
import re
import sys
import urllib.parse
import urllib.request


def main():
    url, conf, out = sys.argv[1].rstrip("/").removesuffix("/v1"), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        sys.exit(f"UPSTREAM: expected http://host:port, found {sys.argv[1]}")
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
            found = [model["id"] for model in json.load(answer)["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"UPSTREAM: {url}/v1/models did not answer with a list of models: {error}")
    if not found:
        sys.exit(f"UPSTREAM: {url} serves no model")
    models, served = [], []
    for number, wire in enumerate(dict.fromkeys(found), 1):
        # Engines may call a model by the path of its file.
        is_name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}", wire)
        name = wire if is_name else f"model-{number}"
        models.append({"name": name, "publisher": parts.hostname})
        served.append({"model": name, "served_as": wire})
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    server = {"name": "upstream", "address": f"{host}:{port}", "engine": "openai"}
    if parts.scheme == "https":
        server["tls"] = {}
    out.mkdir(parents=True, exist_ok=True)
    # Secrets stay where they are; the paths to them are relative to the configuration.
    for name in ("tollgate.yaml", "tiers.yaml", "tenants.yaml"):
        text = (conf / name).read_text()
        (out / name).write_text(text.replace("file:../", f"file:{conf.resolve().parent}/"))
    # JSON is YAML.
    (out / "models.yaml").write_text(json.dumps({"models": models}, indent=1))
    pool = {"name": "upstream", "models": served, "servers": [server], "health": {"probe": "tcp"}}
    (out / "upstreams.yaml").write_text(json.dumps({"pools": [pool]}, indent=1))
    print(models[0]["name"])


if __name__ == "__main__":
    main()
