#!/usr/bin/env python3
"""What it costs a request that gateways share what they remember of conversations: CPU of two gateways over one Valkey (or
Redis) with `scan.behaviour.shared` on and off, in turns, and the time that a request takes.

usage: shared_histories.py [--binary target/release/tollgate] [--rounds 3] [--requests 3000] [--clients 1,16]

Requests go to the two gateways in turns, so many at a time, as one conversation: each has to be asked for what the other one saw.
Only the standard library is needed.
"""

import argparse
import http.client
import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import threading
import time

from shared_limits import KEY, MODEL, configure, said, start, start_store

WARM = 300
TICK = os.sysconf("SC_CLK_TCK")


def cpu(process):
    """Seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def ask(connection, number):
    text = f"Which trams run past the harbour on a Sunday evening, and is number {number} one of them?"
    body = json.dumps({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": text}]})
    connection.request("POST", "/v1/chat/completions", body, {
        "authorization": f"Bearer {KEY}", "content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        sys.exit(f"expected 200, found {answer.status}")


def measure(options, folder, store, database, server, clients, is_shared):
    """CPU of both gateways for a request, and the median time of one: seconds."""
    conf = folder / f"conf{database}"
    # A store has sixteen databases.
    configure(conf, store, database % 16, server, 10_000_000)
    tollgate = json.loads((conf / "tollgate.yaml").read_text())
    tollgate["scan"] = {"behaviour": {"shared": is_shared}, "cache": str(folder / "scan-cache")}
    (conf / "tollgate.yaml").write_text(json.dumps(tollgate))
    gateways, connections = [], []
    try:
        for number in range(2):
            tollgate["server"]["upgrade_socket"] = str(conf / f"upgrade{number}.sock")
            tollgate["storage"]["url"] = f"sqlite:{conf / f'tollgate{number}.db'}"
            (conf / "tollgate.yaml").write_text(json.dumps(tollgate))
            gateway = start([options.binary, "run", "--conf", str(conf)], folder)
            gateways.append(gateway)
            address = said(gateway, "listening on http://")[0]
            said(gateway, "ready")
            connections.append(http.client.HTTPConnection(address))
        time.sleep(2)  # They hear of each other twice a second.
        for number in range(WARM):
            ask(connections[number % 2], number)
        before, times = sum(map(cpu, gateways)), []

        def client(numbers):
            own = [http.client.HTTPConnection(other.host, other.port) for other in connections]
            for number in numbers:
                began = time.perf_counter()
                ask(own[number // clients % 2], WARM + number)
                times.append(time.perf_counter() - began)

        threads = [threading.Thread(target=client, args=(range(at, options.requests, clients),)) for at in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (sum(map(cpu, gateways)) - before) / options.requests, statistics.median(times)
    finally:
        for gateway in gateways:
            gateway.send_signal(signal.SIGTERM)
        for gateway in gateways:
            gateway.wait(30)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--binary", default="target/release/tollgate")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--requests", type=int, default=3000)
    arguments.add_argument("--clients", default="1,16", help="how many at a time")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        store, port, version = start_store(folder)
        sim = start([options.binary, "sim", "--listen", "127.0.0.1:0", "--time-scale", "0"], folder)
        try:
            server = said(sim, "sim listening")[0].split("//")[-1].split()[-1]
            print(f"{version}; {options.requests} requests, CPU of both gateways and median time of a request")
            print("| at a time | round | apart | shared | ratio of CPU |\n|---|---|---|---|---|")
            database = 0
            for clients in map(int, options.clients.split(",")):
                for number in range(options.rounds):
                    found = []
                    for is_shared in (False, True):
                        found.append(measure(options, folder, port, database, server, clients, is_shared))
                        database += 1
                    each = [f"{1e6 * cpu:.0f} µs, {1e6 * median:.0f} µs" for cpu, median in found]
                    ratio = found[1][0] / found[0][0]
                    print(f"| {clients} | {number + 1} | {each[0]} | {each[1]} | {ratio:.2f} |", flush=True)
        finally:
            for process in (sim, store):
                process.terminate()
                process.wait(10)


if __name__ == "__main__":
    main()
