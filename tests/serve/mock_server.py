#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""A server of OpenAI's API without a model, for developing and testing what talks to one: the playground and `decant bench serve`.

  tests/serve/mock_server.py [--port 8080] [--key KEY] [--delay 0.02]

Answers are made up, word by word, with log-probabilities, alternatives and the origins of tokens as `decant serve` sends them; with
a JSON schema they are an instance of it, as far as a few lines can tell. The playground's files are served as they are on disk, so a
change shows at the next reload. Used as a module, `Mock(fault=...)` misbehaves in the way that a test wants.
"""
import argparse
import hashlib
import http.server
import json
import math
import pathlib
import re
import threading
import time

PLAYGROUND = pathlib.Path(__file__).resolve().parents[2] / "src/serve/playground"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'"
ANSWER = ("Rayleigh scattering is why the sky is blue: sunlight meets the molecules of the air, and short waves are scattered far more "
          "than long ones. What reaches your eye from all over the sky is therefore mostly blue light – naïve as it sounds, 天空は青い.\n\n"
          "    intensity ~ 1 / wavelength^4\n\nAt sunset the path through the air is long, the blue is gone, and the red remains.")
FAULTS = ("html", "no_done", "no_usage", "error_event", "hang_up", "busy", "no_json", "no_models")


def noise(*parts):
    """A number from 0 to 1 that the parts determine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32


def pieces(text):
    """Tokens, more or less: words with the blank before them."""
    return re.findall(r"\s?[^\W_]+|\s?[^\w\s]|\s|_", text) or [""]


def instance(schema, depth=0):
    """Some instance of a simple schema."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(sub, depth + 1) for name, sub in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {}), depth + 1) for _ in range(max(schema.get("minItems", 2), 1))] if depth < 8 else []
    return {"integer": schema.get("minimum", 42), "number": 3.25, "boolean": True, "null": None}.get(kind, "Ada Lovelace")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    @property
    def mock(self):
        return self.server.mock

    def answer(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.answer(status, {"error": {"message": message, "type": "invalid_request_error", "code": status}})

    def allowed(self):
        if self.mock.key and self.headers.get("Authorization") != f"Bearer {self.mock.key}":
            self.refuse(401, "no valid API key")
            return False
        return True

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/v1/models":
            if self.mock.fault == "no_models":
                return self.answer(200, {"data": []})
            return self.allowed() and self.answer(200, {"object": "list", "data": [{"id": "mock-135m", "object": "model", "owned_by": "nobody"}]})
        if path == "/health":
            return self.answer(200, {"status": "ok"})
        if path == "/metrics":
            return self.allowed() and self.answer(200, self.mock.metrics(), "text/plain; version=0.0.4")
        file = PLAYGROUND / (path.strip("/") or "index.html")
        if file.parent == PLAYGROUND and file.is_file() and file.suffix in TYPES:
            return self.answer(200, file.read_bytes(), TYPES[file.suffix], Content_Security_Policy=CSP, Cache_Control="no-store")
        return self.refuse(404, f"there is no {path}")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.mock.requests.append(request)
        path = self.path.split("?")[0]
        if not self.allowed():
            return None
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return self.refuse(404, f"there is no {path}")
        if self.mock.fault == "busy":
            return self.refuse(503, "the queue is full")
        if self.mock.fault == "html":
            return self.answer(200, "<html>hello</html>", "text/html")
        if request.get("draft") == "unknown":
            return self.refuse(400, "draft: unknown method 'unknown'")
        return self.stream(request, path == "/v1/chat/completions")

    def tokens(self, request):
        """(text, origin) of the answer."""
        form = request.get("response_format") or {}
        if form.get("type") == "json_schema":
            text = json.dumps(instance(form["json_schema"]["schema"]), indent=1, ensure_ascii=False)
        else:
            text = ANSWER
        draft = request.get("draft", "auto")
        free = True
        limit = request.get("max_tokens") or request.get("max_completion_tokens") or 10**6
        words = pieces(text)
        while request.get("ignore_eos") and len(words) < limit:
            words += pieces(text)
        for i, word in enumerate(words[:limit]):
            if form.get("type") == "json_schema":
                free = word.strip() not in tuple('{}[]":,') or word.strip() == ""
            guessed = draft != "none" and noise("draft", draft, i) < 0.55
            yield word, "model" if free and not guessed else "draft" if free else "forced"

    def chunk(self, value):
        data = f"data: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def stream(self, request, is_chat):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head = {"id": "x-1", "object": "chat.completion.chunk" if is_chat else "text_completion", "created": 0, "model": "mock-135m"}

        def choice(text, reason=None, extra=None):
            part = {"delta": {"content": text}} if is_chat else {"text": text}
            return {**head, "choices": [{"index": 0, **part, "finish_reason": reason, **(extra or {})}]}

        count = 0
        try:
            with self.mock.running():
                group = []
                for i, (word, origin) in enumerate(self.tokens(request)):
                    group.append((i, word, origin))
                    if origin != "model" and len(group) < 4:
                        continue
                    count += self.send_group(request, group, choice)
                    group = []
                    if self.mock.fault == "error_event" and count > 3:
                        return self.end({"error": {"message": "the model has burst", "code": 500}})
                    if self.mock.fault == "no_json" and count > 3:
                        return self.end("{not json")
                    if self.mock.fault == "hang_up" and count > 3:
                        self.close_connection = True
                        return None
                if group:
                    count += self.send_group(request, group, choice)
            self.chunk(choice("", "stop"))
            if request.get("stream_options", {}).get("include_usage") and self.mock.fault != "no_usage":
                self.chunk({**head, "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": count, "total_tokens": 12 + count}})
            return self.end("" if self.mock.fault == "no_done" else "[DONE]")
        except (BrokenPipeError, ConnectionResetError):
            self.mock.hung_up += 1
            return None

    def end(self, last):
        if last:
            self.chunk(last)
        self.wfile.write(b"0\r\n\r\n")

    def send_group(self, request, group, choice):
        extra = {}
        wanted = request.get("top_logprobs", 0) if request.get("logprobs") else None
        if wanted is not None:
            entries = []
            for i, word, origin in group:
                p = 1.0 if origin == "forced" else 0.3 + 0.69 * noise("p", i)
                others = [(f" {o}", (1 - p) * 0.6 * 0.5**k) for k, o in enumerate(("other", "word", "<b>", "天", "\n"))]
                top = sorted([(word, p), *(o for o in others if o[1] > 0)], key=lambda x: -x[1])[:wanted]
                entries.append({"token": word, "logprob": math.log(p), "bytes": list(word.encode()), "token_id": 100 + i, "origin": origin,
                                "top_logprobs": [{"token": t, "logprob": math.log(q), "bytes": list(t.encode())} for t, q in top]})
            extra["logprobs"] = {"content": entries}
        time.sleep(self.mock.delay)
        self.chunk(choice("".join(word for _, word, _ in group), None, extra))
        self.mock.tokens += len(group)
        return len(group)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        pass  # clients that hang up are the tests' own


class Mock:
    """Runs in a thread of its own while it is a context; `requests` are the bodies that came."""

    def __init__(self, port=0, key="", delay=0.0, fault=""):
        assert fault in ("", *FAULTS)
        self.key, self.delay, self.fault = key, delay, fault
        self.requests, self.tokens, self.hung_up, self.now_running, self.most_running = [], 0, 0, 0, 0
        self.lock = threading.Lock()
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.mock = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def running(self):
        mock = self

        class Running:
            def __enter__(self):
                with mock.lock:
                    mock.now_running += 1
                    mock.most_running = max(mock.most_running, mock.now_running)

            def __exit__(self, *error):
                with mock.lock:
                    mock.now_running -= 1

        return Running()

    def metrics(self):
        t = time.monotonic()
        used = 40 + int(20 * math.sin(t / 3))
        lines = []
        for name, kind, help, value in (
                ("running", "gauge", "Requests that hold rows in the cache.", self.now_running),
                ("waiting", "gauge", "Requests in the queue.", int(2 + 2 * math.sin(t))),
                ("kv_pages", "gauge", "Pages of the cache of keys and values.", 256), ("kv_pages_used", "gauge", "Pages that running requests hold.", used),
                ("prompt_tokens_total", "counter", "Tokens of prompts.", 12 * len(self.requests)),
                ("completion_tokens_total", "counter", "Tokens of answers.", self.tokens),
                ("drafted_tokens_total", "counter", "Guesses that the model verified.", self.tokens),
                ("accepted_tokens_total", "counter", "Of them, kept.", self.tokens // 2)):
            lines += [f"# HELP decant_{name} {help}", f"# TYPE decant_{name} {kind}", f"decant_{name} {value}"]
        lines += [
            "# HELP decant_answers_total Answers by how they ended.", "# TYPE decant_answers_total counter",
            f'decant_answers_total{{finish_reason="stop"}} {len(self.requests)}', 'decant_answers_total{finish_reason="length"} 0',
            "# HELP decant_time_to_first_token_seconds Time to first token.", "# TYPE decant_time_to_first_token_seconds histogram",
            *(f'decant_time_to_first_token_seconds_bucket{{le="{le}"}} {n}' for le, n in ((0.01, 3), (0.05, 17), (0.1, 22), (0.5, 24), ("+Inf", 25))),
            "decant_time_to_first_token_seconds_sum 1.5", "decant_time_to_first_token_seconds_count 25"]
        return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--key", default="", help="API key that requests need")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds before each chunk")
    args = parser.parse_args()
    with Mock(args.port, args.key, args.delay) as mock:
        print(mock.url, flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
