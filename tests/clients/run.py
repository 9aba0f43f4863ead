"""Starts what the client tests need on free ports, runs both suites, and stops everything again.

usage: run.py PATH-OF-TOLLGATE [--without-llamacpp] [--python-only | --node-only]
       run.py PATH-OF-TOLLGATE --real-engine vllm --real-port PORT --real-model NAME    with a server that runs already
Servers are children that end when their input does, so nothing outlives this process.
"""

import argparse
import contextlib
import json
import os
import pathlib
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
READY_SECONDS = 60
# Of the real model; made by scripts/install-clients.sh.
TOKENIZER = HERE.parents[1] / "target/venv/tokenizers/smollm2.json"
# An engine that runs elsewhere may still be loading its model.
ENGINE_SECONDS = 600


@contextlib.contextmanager
def server(script):
    """A server that prints its port; gives the port."""
    process = subprocess.Popen(
        [sys.executable, HERE / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield int(line(process, script))
    finally:
        process.stdin.close()
        stop(process)


def line(process, name):
    ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
    text = process.stdout.readline().decode() if ready else ""
    if not text:
        sys.exit(f"{name} said nothing within {READY_SECONDS} s (exit code {process.poll()})")
    return text.strip()


def stop(process):
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def write_conf(folder, key, engine, real):
    """Configuration as JSON, which is YAML. `real` is engine, port and model name of a real server, if there is one."""

    def private(name, text):
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return f"file:{path}"

    health = {"probe": "http", "path": "/health", "interval_ms": 200, "timeout_ms": 5000}
    pools = [{
        "name": "scripted", "models": ["fake-*"], "health": health,
        "servers": [{"name": "engine", "address": f"127.0.0.1:{engine}"}],
        "retry": {"attempts": 1, "budget_percent": 100}, "passive": {"failures": 0},
    }]
    models = [{"name": "fake-chat", "publisher": "Tests"}, {"name": "fake-embed", "publisher": "Tests"}]
    if real:
        kind, port, served_as = real
        pools.append({
            "name": "real", "models": [{"model": "smol", "served_as": served_as}], "health": health,
            "servers": [{"name": "real", "address": f"127.0.0.1:{port}", "engine": kind}],
        })
        model = {"name": "smol", "publisher": "Hugging Face"}
        if TOKENIZER.exists():
            model["tokenizer"] = str(TOKENIZER)
        models.append(model)
    files = {
        "tollgate": {
            "listeners": [{"address": "127.0.0.1:0", "cleartext": True, "http2": True}],
            "admin": {"address": "127.0.0.1:0"},
            "server": {"workers": 1, "drain_timeout_ms": 2000, "upgrade_socket": str(folder / "upgrade.sock")},
            # Waiting for a server says the same over and over, which is an attack elsewhere.
            "scan": {"behaviour": {"repeats": 1_000_000}},
            "auth": {"pepper": private("pepper", secrets.token_hex(32)), "failures_per_minute": 1000},
            "access_log": {"target": str(folder / "access.log")},
            "cors": {"allow_origins": ["https://app.test"]},
        },
        "upstreams": {"pools": pools},
        "models": {"models": models},
        "tiers": {"tiers": [
            {"name": "open", "default_max_tokens": 64},
            {"name": "tight", "requests_per_minute": 1, "default_max_tokens": 64},
        ]},
        "tenants": {"tenants": [
            {"name": "clients", "tier": "open", "models": ["*"], "keys": [{"id": "demo", "secret": private("key", key)}]},
            {"name": "limited", "tier": "tight", "models": ["*"],
             "keys": [{"id": "tight", "secret": private("tight.key", key.replace("tg_demo_", "tg_tight_"))}]},
        ]},
    }
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(content, indent=1))


@contextlib.contextmanager
def gateway(binary, folder):
    """The gateway; gives the URLs of its data plane and its admin listener."""
    log = (folder / "gateway.log").open("w")
    process = subprocess.Popen(
        [binary, "run", "--conf", folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
    )
    urls = {}
    try:
        while (said := line(process, f"tollgate (log: {folder}/gateway.log)")) != "ready":
            for prefix in ("listening on ", "admin on "):
                if said.startswith(prefix):
                    urls.setdefault(prefix, said.removeprefix(prefix))
        yield urls["listening on "], urls["admin on "]
    finally:
        process.terminate()
        stop(process)


def wait_until_served(url, key, model, seconds):
    """Polls until the gateway has found a healthy server for the model."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "say hi"}], "max_tokens": 1})
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    deadline = time.monotonic() + seconds
    while True:
        try:
            request = urllib.request.Request(f"{url}/v1/chat/completions", body.encode(), headers)
            return urllib.request.urlopen(request, timeout=30).read()
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{model} is not served: {error}")
            time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--without-llamacpp", action="store_true")
    parser.add_argument("--real-engine")
    parser.add_argument("--real-port", type=int)
    parser.add_argument("--real-model")
    suites = parser.add_mutually_exclusive_group()
    suites.add_argument("--python-only", action="store_true")
    suites.add_argument("--node-only", action="store_true")
    args = parser.parse_args()
    key = "tg_demo_" + "".join(secrets.choice("0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz") for _ in range(43))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tollgate-clients-"))
    failed = False
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(server("engine.py"))
        real = None
        if args.real_engine:
            real = (args.real_engine, args.real_port, args.real_model)
        elif not args.without_llamacpp:
            real = ("llama.cpp", stack.enter_context(server("llamacpp_server.py")), "smollm2")
        write_conf(folder, key, engine, real)
        url, admin = stack.enter_context(gateway(args.binary, folder))
        wait_until_served(url, key, "fake-chat", READY_SECONDS)
        if real:
            wait_until_served(url, key, "smol", ENGINE_SECONDS)
        environment = os.environ | {
            "TOLLGATE_URL": url, "TOLLGATE_ADMIN": admin, "TOLLGATE_KEY": key,
            "TOLLGATE_REAL_MODEL": real[0] if real else "",
            "TOLLGATE_REAL_TOKENIZER": str(TOKENIZER) if TOKENIZER.exists() else "",
        }
        if not args.node_only:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "python"]
            failed |= subprocess.run(command, env=environment, check=False).returncode != 0
        if not args.python_only:
            command = ["node", "--test", "--test-reporter=tap"]
            failed |= subprocess.run(command, env=environment, cwd=HERE / "node", check=False).returncode != 0
    if failed:
        print((folder / "gateway.log").read_text(), file=sys.stderr)
    shutil.rmtree(folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
