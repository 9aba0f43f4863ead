#!/usr/bin/env python3
"""How exactly gateways keep a limit that they share: 2, 4 and 8 of them over one Valkey (or Redis), asked for twice what
the limit gives for ten minutes. Writes a plot and a record into benches/record/.

usage: shared_limits.py [--binary target/release/tollgate] [--gateways 2,4,8] [--seconds 600] [--limit 600]

The groups run at the same time, each in a database of its own. Requests come evenly in time, to gateways by a dice with a
fixed seed, the first of each group three times as often as the others. Only the standard library is needed.
"""

import argparse
import asyncio
import datetime
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

KEY = "tg_bench_0123456789abcdefghijABCDEFGHIJ0123456789abc"
MODEL = "bench-model"
SLICE_PERCENT = 5
IDLE_SECONDS = 20
RECORD = pathlib.Path(__file__).resolve().parent / "record"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def said(process, prefix, count=1):
    """The rest of the first lines of its output that begin like this."""
    found = []
    for line in process.stdout:
        if line.startswith(prefix):
            found.append(line[len(prefix):].strip())
            if len(found) == count:
                return found
    sys.exit(f"{process.args[0]} ended before it said {prefix!r}")


def start(command, folder, **options):
    log = open(folder / f"{len(os.listdir(folder))}.log", "w")
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, **options)


def start_store(folder):
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if not program:
        sys.exit("neither Valkey nor Redis is installed: scripts/install-system.sh test")
    port = free_port()
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = start(command, folder)
    for line in process.stdout:
        if "Ready to accept connections" in line:
            version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
            return process, port, version.stdout.strip()
    sys.exit("the store did not start")


def configure(folder, store, database, server, limit):
    """A configuration in a folder of its own."""
    folder.mkdir()
    file = lambda name: f"file:{folder / name}"
    files = {
        "tollgate": {
            "server": {"workers": 1, "upgrade_socket": str(folder / "upgrade.sock")},
            "listeners": [{"address": "127.0.0.1:0", "cleartext": True}],
            "admin": {"address": "127.0.0.1:0"},
            "auth": {"pepper": file("pepper")},
            "limits": {"store": f"redis://127.0.0.1:{store}/{database}", "shared": {"slice_percent": SLICE_PERCENT}},
            "scan": {"mode": "off", "behaviour": {"mode": "off"}},
            "storage": {"url": f"sqlite:{folder / 'tollgate.db'}"},
            "keys": {"snapshot": str(folder / "keys.snapshot")},
            "ledger": "off",
            "access_log": {"target": "off"},
            "reload": {"watch": False},
        },
        "upstreams": {"pools": [{"name": "sim", "models": ["*"], "servers": [{"name": "s0", "address": server}]}]},
        "models": {"models": [{"name": MODEL, "publisher": "bench"}]},
        "tiers": {"tiers": [{"name": "bench", "requests_per_minute": limit}]},
        "tenants": {"tenants": [{"name": "bench", "tier": "bench", "models": ["*"],
                                 "keys": [{"id": "bench", "secret": file("key")}]}]},
    }
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(content))
    for name, secret in (("pepper", "an-unguessable-pepper-of-the-bench-0123456789"), ("key", KEY)):
        (folder / name).touch(0o600)
        (folder / name).write_text(secret)


class Pool:
    """Connections to one gateway, each used for one request at a time."""

    def __init__(self, address):
        self.host, self.port = address.removeprefix("http://").rsplit(":", 1)
        self.idle = []

    async def ask(self):
        body = json.dumps({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]})
        request = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\n"
                   f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}").encode()
        # One that has been idle for long may be closed by the gateway in this moment, which no client can tell.
        while self.idle and time.monotonic() - self.idle[-1][2] > IDLE_SECONDS:
            self.idle.pop()[1].close()
        if self.idle:
            reader, writer, _ = self.idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self.host, int(self.port))
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ", 2)[1])
        length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length"))
        await reader.readexactly(length)
        self.idle.append((reader, writer, time.monotonic()))
        return status


async def drive(addresses, limit, seconds):
    """Asks for twice the limit, and gives when each request passed, and how many were refused or failed."""
    pools = [Pool(address) for address in addresses]
    weights = [3] + [1] * (len(pools) - 1)
    dice = random.Random(len(pools))
    passed, counts = [], {200: 0, 429: 0, "other": 0}
    begin = time.monotonic()

    async def one(pool):
        status = await pool.ask()
        counts[status if status in counts else "other"] += 1
        if status == 200:
            passed.append(time.monotonic() - begin)

    tasks, failures = set(), []
    number = 0
    while (due := number / (2 * limit / 60)) < seconds:
        await asyncio.sleep(max(0, begin + due - time.monotonic()))
        task = asyncio.create_task(one(dice.choices(pools, weights)[0]))
        tasks.add(task)
        task.add_done_callback(lambda task: (tasks.discard(task), task.exception() and failures.append(task.exception())))
        number += 1
    await asyncio.gather(*tasks)
    if failures:
        raise failures[0]
    return sorted(passed), counts


def plot(results, limit, seconds):
    """What passed beyond what the limit gives, over time: 0 is exact."""
    width, height, left, top = 760, 360, 64, 40
    slices = {count: count * (limit * SLICE_PERCENT // 100) for count in results}
    deviations = {}
    for count, (passed, _) in results.items():
        points, at = [], 0
        for step in range(0, 201):
            moment = seconds * step / 200
            while at < len(passed) and passed[at] <= moment:
                at += 1
            # Twice the limit is asked for, so the first minute's worth is used up after a minute, not at once.
            asked = 2 * limit * moment / 60
            points.append((moment, at - min(asked, limit * (1 + moment / 60))))
        deviations[count] = points
    most = max(max(slices.values()), max(abs(y) for points in deviations.values() for _, y in points)) * 1.1
    x = lambda moment: left + moment / seconds * (width - left - 20)
    y = lambda value: top + (most - value) / (2 * most) * (height - top - 40)
    colours = ["#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#b7791f", "#555555", "#0e7c7b"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           f'font-size="12">', f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="20" font-size="14">Requests let through beyond a limit of {limit} a minute that '
           f'gateways share</text>',
           f'<line x1="{left}" x2="{x(seconds)}" y1="{y(0)}" y2="{y(0)}" stroke="black"/>',
           f'<line x1="{left}" x2="{left}" y1="{top}" y2="{height - 40}" stroke="black"/>',
           f'<text x="{left - 8}" y="{y(0) + 4}" text-anchor="end">0</text>']
    for minute in range(0, int(seconds // 60) + 1, max(1, int(seconds // 600))):
        out.append(f'<text x="{x(minute * 60)}" y="{height - 22}" text-anchor="middle">{minute}</text>')
    out.append(f'<text x="{x(seconds)}" y="{height - 6}" text-anchor="end">minutes</text>')
    for index, (count, points) in enumerate(deviations.items()):
        colour = colours[index % len(colours)]
        line = " ".join(f"{x(moment):.1f},{y(value):.1f}" for moment, value in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(f'<line x1="{left}" x2="{x(seconds)}" y1="{y(slices[count])}" y2="{y(slices[count])}" '
                   f'stroke="{colour}" stroke-dasharray="4 4"/>')
        out.append(f'<text x="{left - 8}" y="{y(slices[count]) + 4}" text-anchor="end" fill="{colour}">'
                   f'+{slices[count]}</text>')
        out.append(f'<text x="{left + 12 + index * 210}" y="{height - 48}" fill="{colour}">{count} gateways '
                   f'(bound dashed)</text>')
    return "\n".join(out + ["</svg>", ""])


def machine():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"


def record(results, options, store, name):
    allowed = options.limit * (1 + options.seconds / 60)
    rows = []
    for count, (passed, counts) in results.items():
        bound = allowed + count * (options.limit * SLICE_PERCENT // 100)
        rows.append(f"| {count} | {len(passed)} | {allowed:.0f} | {100 * (len(passed) / allowed - 1):+.2f} % | {bound:.0f} | "
                    f"{counts[429]} | {counts['other']} |")
    return "\n".join([
        f"# A shared limit, {datetime.date.today()}", "",
        f"{machine()}. {store}. `{options.binary}`, {options.seconds} s, a limit of {options.limit} requests a minute, "
        f"slices of {SLICE_PERCENT} %; twice the limit was asked for, the groups at the same time.", "",
        f"    benches/shared_limits.py --binary {options.binary} --gateways {options.gateways} --seconds "
        f"{options.seconds} --limit {options.limit}", "",
        "| gateways | passed | the limit gives | difference | bound | refused | failed |", "|---|---|---|---|---|---|---|",
        *rows, "",
        "What the limit gives is `limit × (1 + t / 60)`: a minute's worth at once and then evenly. The bound adds a slice for "
        "each gateway ([how](../../docs/quotas.md#how-far-a-limit-can-be-overrun)).", "",
        f"![What passed beyond the limit]({name}.svg)", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--binary", default="target/release/tollgate")
    parser.add_argument("--gateways", default="2,4,8", help="sizes of the groups")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--limit", type=int, default=600, help="requests a minute")
    options = parser.parse_args()
    sizes = [int(size) for size in options.gateways.split(",")]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tollgate-shared-"))
    processes = []
    try:
        store, port, version = start_store(folder)
        processes.append(store)
        sim = start([options.binary, "sim", "--listen", "127.0.0.1:0", "--time-scale", "0"], folder)
        processes.append(sim)
        server = said(sim, "sim listening")[0].split("//")[-1].split()[-1]
        groups = []
        for database, size in enumerate(sizes):
            addresses = []
            for number in range(size):
                conf = folder / f"group{size}-{number}"
                configure(conf, port, database, server, options.limit)
                gateway = start([options.binary, "run", "--conf", str(conf)], folder)
                processes.append(gateway)
                addresses.append(said(gateway, "listening on ")[0])
                said(gateway, "ready")
            groups.append(addresses)

        async def run():
            return await asyncio.gather(*(drive(group, options.limit, options.seconds) for group in groups))

        results = dict(zip(sizes, asyncio.run(run())))
        name = f"{datetime.date.today()}-shared-limits"
        RECORD.mkdir(exist_ok=True)
        (RECORD / f"{name}.svg").write_text(plot(results, options.limit, options.seconds))
        text = record(results, options, version, name)
        (RECORD / f"{name}.md").write_text(text)
        print(text)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
