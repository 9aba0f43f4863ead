"""An engine for client tests: an OpenAI-shaped server that does what the last user message tells it to.

`say WORDS` answers with these words (also the default), `fail STATUS` answers with an error, `hang` never answers,
`cut` dies in the middle of a stream. Run as a program it prints its port and serves until its input ends.
"""

import base64
import json
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def order(request):
    """The last user message, or the prompt."""
    messages = request.get("messages") or [{"content": request.get("prompt", "")}]
    content = messages[-1].get("content") or ""
    if isinstance(content, list):
        content = " ".join(part.get("text", "") for part in content)
    return str(content)


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Quiet: the tests tell what happened."""

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer(200, {"status": "ok"})

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        request = json.loads(self.rfile.read(length))
        if self.path == "/v1/embeddings":
            return self.embeddings(request)
        told = order(request)
        if told.startswith("fail "):
            status = int(told.split()[1])
            error = {"message": f"told to fail with {status}", "type": "BadRequestError", "param": None, "code": status}
            return self.answer(status, {"error": error})
        if told == "hang":
            time.sleep(60)
            return None
        words = (told.removeprefix("say ") or "hello").split()
        if request.get("stream"):
            return self.stream(request, words, is_cut=told == "cut")
        return self.whole(request, words)

    def whole(self, request, words):
        usage = {"prompt_tokens": 5, "completion_tokens": len(words), "total_tokens": 5 + len(words)}
        choice = {"index": 0, "message": {"role": "assistant", "content": " ".join(words)}, "finish_reason": "stop"}
        kind = "chat.completion"
        if self.path == "/v1/completions":
            choice = {"index": 0, "text": " ".join(words), "finish_reason": "stop", "logprobs": None}
            kind = "text_completion"
        body = {"id": "x1", "object": kind, "created": 1, "model": request["model"], "choices": [choice], "usage": usage}
        self.answer(200, body)

    def stream(self, request, words, is_cut):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        base = {"id": "x1", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        self.event(base | {"choices": [first]})
        for word in words:
            delta = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
            self.event(base | {"choices": [delta]})
        if is_cut:
            self.close_connection = True
            return
        self.event(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (request.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 5, "completion_tokens": len(words), "total_tokens": 5 + len(words)}
            self.event(base | {"choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, body):
        self.chunk(b"data: " + json.dumps(body).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def embeddings(self, request):
        inputs = request["input"] if isinstance(request["input"], list) else [request["input"]]
        vector = [0.5, -0.25, 0.125]
        if request.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))]
        usage = {"prompt_tokens": 2 * len(inputs), "total_tokens": 2 * len(inputs)}
        self.answer(200, {"object": "list", "model": request["model"], "data": data, "usage": usage})


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A gateway that hangs up is what many tests are about."""


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Engine)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
