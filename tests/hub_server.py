"""hub_server.py - a stand-in for the Hugging Face Hub on the loopback, with faults to order.

python3 tests/hub_server.py LOG [CERT_DIR]: prints "PID PORT CDN_PORT TLS_PORT" and serves until it is killed, or nobody
asked for two minutes. The first part of a path is the scenario: HF_ENDPOINT=http://127.0.0.1:PORT/cut is a Hub that cuts
connections. Each scenario (with anything after a "-": cut-2) counts its own requests. LOG gets one JSON line a request.
Files over 100 KB are given as the Hub gives LFS files: a redirect to another origin, the CDN.
TLS_PORT is 0 without CERT_DIR; that folder then gets the certificate, cert.pem (made by the openssl program).
"""
import hashlib
import json
import os
import subprocess
import sys
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "76543210fedcba9876543210fedcba9876543210"
LFS = 100_000
MODEL = "examples/models/lune-1m"
ports, counts, active, lock = {}, {}, {}, threading.Lock()
last = [time.monotonic()]


def noise(seed, size):
    out = bytearray()
    block = hashlib.sha256(seed.encode()).digest()
    while len(out) < size:
        block = hashlib.sha256(block).digest()
        out += block * 64
    return bytes(out[:size])


def repository(name):
    """Files of ORG/NAME."""
    if name == "lune/lune-1m":
        files = {f: open(os.path.join(MODEL, f), "rb").read() for f in sorted(os.listdir(MODEL))}
        files["pytorch_model.bin"] = b"a pickle" * 20000
        files["modeling_lune.py"] = b"print('never run')\n"
        files[".gitattributes"] = b"* text\n"
        return files
    files = {"config.json": b"{}\n", "tokenizer.json": b'{"model": {}}\n'}
    if name == "made/sharded":
        shards = ["model-%05d-of-00006.safetensors" % i for i in range(1, 7)]
        for shard in shards:
            files[shard] = noise(shard, 300_000)
        files["stray-00001-of-00001.safetensors"] = noise("stray", 200_000)
        files["model.safetensors"] = noise("consolidated", 500_000)
        weights = {"tensor%d" % i: shard for i, shard in enumerate(shards + shards)}
        files["model.safetensors.index.json"] = json.dumps({"weight_map": weights}).encode()
    elif name.startswith("made/climbing"):
        bad = {"made/climbing1": "../../evil.safetensors", "made/climbing2": "/tmp/evil.safetensors",
               "made/climbing3": "a\\b.safetensors", "made/climbing4": "evil.py"}[name]
        files["model.safetensors.index.json"] = json.dumps({"weight_map": {"t": bad}}).encode()
    elif name == "made/pickled":
        files["pytorch_model.bin"] = b"a pickle" * 100
    elif name == "made/nothing":
        return {"README.md": b"hello\n"}
    elif name == "made/small":
        files["model.safetensors"] = noise("small", 3_000)
        files["LICENSE"] = files["NOTICE"] = b"the same twice\n"
    elif name == "made/big":
        files["model.safetensors"] = noise("big", 6_000_000)
    else:
        return None
    return files


def sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def name_of_blob(data):
    return sha256(data) if len(data) > LFS else sha1(data)


class Cut(Exception):
    pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = 1 << 16

    def log_message(self, *args):
        pass

    def count(self, what):
        """How often this scenario was asked for that before."""
        with lock:
            n = counts.get((self.scenario, what), 0)
            counts[(self.scenario, what)] = n + 1
        return n

    def note(self):
        line = {"scenario": self.scenario, "method": self.command, "path": self.path, "server": self.server.role,
                "active": active.get(self.scenario, 0)}
        for key, header in (("auth", "Authorization"), ("range", "Range"), ("if_range", "If-Range"),
                            ("encoding", "Accept-Encoding"), ("host", "Host"), ("agent", "User-Agent")):
            if self.headers.get(header) is not None:
                line[key] = self.headers[header]
        with lock, open(sys.argv[1], "a") as log:
            log.write(json.dumps(line) + "\n")

    def answer(self, status, body=b"", headers=(), length=True, stop=None, drip=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(body) if length is True else length))
        else:
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        if drip:
            for at in range(0, len(body), drip[0]):
                self.wfile.write(body[at:at + drip[0]])
                self.wfile.flush()
                time.sleep(drip[1])
        else:
            self.wfile.write(body[:stop])
        self.wfile.flush()
        if stop is not None and stop < len(body):
            raise Cut()

    def refuse(self, status, code=None, message=None, headers=()):
        extra = list(headers)
        if code:
            extra += [("X-Error-Code", code), ("X-Error-Message", message or code)]
        self.answer(status, b"no\n", extra)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        last[0] = time.monotonic()
        parts = unquote(urlsplit(self.path).path).split("/")
        self.scenario, rest = parts[1], parts[2:]
        self.kind = self.scenario.split("-")[0]
        try:
            if self.server.role == "cdn":
                with lock:
                    active[self.scenario] = active.get(self.scenario, 0) + 1
                self.note()
                try:
                    self.cdn(rest)
                finally:
                    with lock:
                        active[self.scenario] -= 1
                return
            self.note()
            if not self.everywhere(rest):
                self.hub(rest)
        except (Cut, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def base(self):
        secure = self.server.role == "tls"
        return "%s://%s/%s" % ("https" if secure else "http", self.headers["Host"], self.scenario)

    # Faults that do not depend on what is asked for; whether there was one.
    def everywhere(self, rest):
        kind = self.kind
        if kind == "html":
            self.answer(200, b"<!DOCTYPE html><html>log in first</html>", [("Content-Type", "text/html")])
        elif kind == "html302":
            self.answer(302, b"", [("Location", "/html/login")])
        elif kind == "gated" and "resolve" in rest:
            self.refuse(403, "GatedRepo", "Access to model lune/lune-1m is restricted.\x1b[31m")
        elif kind == "unauthorized":
            self.refuse(401, "RepoNotFound", "Repository not found")
        elif kind == "missing":
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif kind == "norevision":
            self.refuse(404, "RevisionNotFound", "Invalid rev id: nope")
        elif kind == "entry" and "resolve" in rest:
            self.refuse(404, "EntryNotFound", "Entry not found")
        elif kind == "s500":
            self.refuse(500)
        elif kind == "s503" and self.count("all") < 2:
            self.refuse(503)
        elif kind == "s429" and self.count("all") < 1:
            self.refuse(429, headers=[("Retry-After", "1")])
        elif kind == "s429date" and self.count("all") < 1:
            self.refuse(429, headers=[("Retry-After", time.strftime("%a, %d %b %Y %H:%M:%S GMT",
                                                                    time.gmtime(time.time() + 2)))])
        elif kind == "busy":
            self.refuse(429, headers=[("Retry-After", "3600")])
        elif kind == "hopping":
            self.answer(302, b"", [("Location", "/%s/%d" % (self.scenario, self.count("hop")))])
        elif kind == "nowhere":
            self.answer(302, b"")
        elif kind == "heads":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for i in range(10000):
                self.wfile.write(b"X-Filler-%d: %s\r\n" % (i, b"x" * 1000))
            raise Cut()
        elif kind == "garbage":
            self.wfile.write(b"\x00\xff\x13 this is no HTTP\r\n\r\n")
            self.wfile.flush()
            raise Cut()
        elif kind == "hangup":
            raise Cut()
        else:
            return False
        return True

    def hub(self, rest):
        if rest[:2] == ["api", "models"]:
            return self.listing("/".join(rest[2:4]), rest[4:])
        if rest[:1] == ["again"]:  # a redirect within the Hub
            rest = rest[1:]
        elif len(rest) > 4 and rest[2] == "resolve" and self.kind == "relative":
            return self.answer(307, b"", [("Location", "/%s/again/%s" % (self.scenario, "/".join(rest)))])
        files = repository("/".join(rest[:2])) or {}
        name = "/".join(rest[4:])
        if name not in files or rest[2] != "resolve":
            return self.refuse(404, "EntryNotFound", "Entry not found")
        data = files[name]
        tags = [("X-Repo-Commit", COMMIT)]
        if len(data) <= LFS:
            if self.kind == "htmlfile":
                return self.answer(200, b"<!DOCTYPE html><html>log in first</html>")
            return self.answer(200, data, tags + [("ETag", '"%s"' % (sha1(data) if self.kind != "bareweak" else "weak"))])
        linked = sha256(data) if self.kind != "changed" else "0" * 64
        tags += [("X-Linked-Etag", '"%s"' % linked), ("X-Linked-Size", str(len(data)))]
        where = {
            "file": "file:///etc/passwd", "ftp": "ftp://127.0.0.1/x", "plain": "http://huggingface.invalid/x",
            "user": "http://me:secret@127.0.0.1:%d/x" % ports["cdn"], "named": "http://localhost:%d" % ports["hub"],
            "long": "http://127.0.0.1/" + "x" * 20000, "tlsdown": "http://127.0.0.1:%d/x" % ports["hub"],
        }.get(self.kind)
        if where is None:
            where = "http://127.0.0.1:%d/%s/%s/%s?X-Signature=abcSECRETdef" % (
                ports["cdn"], self.scenario, "/".join(rest[:2]), name)
        elif self.kind == "named" and self.headers["Host"].startswith("127"):
            where += "/%s/%s" % (self.scenario, "/".join(rest))
        elif self.kind == "named":
            return self.body(data, tags)
        self.answer(302, b"", tags + [("Location", where)])

    def listing(self, repo, rest):
        files = repository(repo)
        if files is None:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        if rest[:1] == ["tree"]:
            page = []
            for name, data in files.items():
                entry = {"type": "file", "path": name, "size": len(data), "oid": sha1(data)}
                if len(data) > LFS:
                    entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
                page.append(entry)
            return self.answer(200, json.dumps(page).encode(), [("Content-Type", "application/json")])
        revision = "/".join(rest[1:]) or "main"
        if revision not in ("main", "v1", "refs/pr/1", COMMIT):
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        siblings = []
        for name, data in files.items():
            entry = {"rfilename": name, "size": len(data), "blobId": sha1(data)}
            if len(data) > LFS:
                entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        page = {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "tags": [], "downloads": 0,
                "siblings": siblings}
        kind = self.kind
        if kind == "names":
            for name in ("../evil", "/etc/evil", "a\\b", "..", "tokenizer.json/../../x", "config.json\0", "LICENSE\n", ".bashrc"):
                siblings.append({"rfilename": name, "size": 3, "blobId": sha1(b"bad")})
            siblings.append({"rfilename": 7})
            siblings.append("text")
        elif kind == "hashes":
            siblings[0]["blobId"] = siblings[1]["blobId"] = "../../../" + "a" * 40
        elif kind == "longhash":
            siblings[0]["blobId"] = siblings[1]["blobId"] = "a" * 300
        elif kind.startswith("bare"):
            page["siblings"] = [{"rfilename": s["rfilename"]} for s in siblings]
        elif kind == "sizes":
            siblings[0]["size"] = siblings[1]["size"] = -5
        elif kind == "vast":
            for s in siblings:
                if "lfs" in s:
                    s["lfs"]["size"] = 1 << 45
        elif kind == "badsha":
            page["sha"] = "../../../../tmp/x"
        elif kind == "newer":  # the branch moves on
            page["sha"] = COMMIT if self.count("list") == 0 else OTHER
        text = json.dumps(page)
        if kind == "endless":
            text = '{"sha": "' + "x" * (20 << 20) + '"}'
        elif kind == "deep":
            text = "[" * 100000
        elif kind == "twice":
            text = '{"sha": "%s", "sha": "%s", "siblings": []}' % (COMMIT, OTHER)
        elif kind == "list":
            text = "[1, 2, 3]"
        self.answer(200, text.encode(), [("Content-Type", "application/json")])

    def cdn(self, rest):
        data = repository("/".join(rest[:2]))[rest[2]]
        self.body(data, [])

    # A file's bytes, as the range asked for has them, with what goes wrong on the way.
    def body(self, data, tags):
        kind, n = self.kind, self.count("body")
        size, first = len(data), 0
        tag = '"cdn-%d"' % (n if kind == "retag" else 0)
        if kind == "weaktag":
            tag = 'W/"weak"'
        elif kind == "oddtag":
            tag = '"' + "a/b" * 100 + '"'
        elif kind == "wildtag":
            tag = '"' + "x" * 5000 + '"'
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if asked and kind not in ("norange",) and (condition is None or condition == tag):
            first = int(asked[len("bytes="):].rstrip("-"))
        head = tags + [("ETag", tag), ("Accept-Ranges", "bytes")]
        if kind == "range416" and first:
            return self.answer(416, b"", [("Content-Range", "bytes */%d" % size)])
        if kind == "expired" and n == 0:
            return self.refuse(403)
        if kind == "gone":
            return self.refuse(404)
        if kind == "hash" or (kind == "hashonce" and n == 0) or (kind == "hashpart" and n == 0):
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        part, status = data[first:], 206 if first else 200
        if first:
            start = first + 7 if kind == "otherrange" else first
            total = size + 1 if kind == "othertotal" else size
            head.append(("Content-Range", "bytes %d-%d/%d" % (start, size - 1, total)))
        if kind in ("cut", "norange", "retag", "range416", "otherrange", "othertotal", "weaktag", "oddtag", "wildtag", "hashpart") \
                and n < 1:
            return self.answer(status, part, head, stop=len(part) // 2)
        if kind == "cutall":
            return self.answer(status, part, head, stop=min(len(part), 200_000))
        if kind == "creep":  # a million bytes and a little at a time
            return self.answer(status, part, head, stop=min(len(part), (1 << 20) + 50_000))
        if kind == "stall" and n < 1:
            self.answer(status, part[:500], head, length=len(part))
            time.sleep(20)
            raise Cut()
        if kind == "slow":
            return self.answer(status, part, head, drip=(120_000, 0.1))
        if kind == "gzip":
            return self.answer(status, part, head + [("Content-Encoding", "gzip")])
        if kind == "short":
            return self.answer(status, part[:-5], head)
        if kind == "longer":
            return self.answer(status, part + b"x" * 1000, head)
        if kind == "flood":
            return self.answer(status, part + b"x" * (20 << 20), head, length=False)
        if kind == "close":
            return self.answer(status, part, head, length=False)
        if kind == "closecut" and n < 1:
            self.answer(status, part[:70_000], head, length=False)
            raise Cut()
        self.answer(status, part, head)


def serve(role, context=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.role = role
    server.handle_error = lambda *args: None
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    ports[role] = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()


def certificate(folder):
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def main():
    context = certificate(sys.argv[2]) if len(sys.argv) > 2 else None
    serve("hub")
    serve("cdn")
    if context:
        serve("tls", context)
    print(os.getpid(), ports["hub"], ports["cdn"], ports.get("tls", 0), flush=True)
    while time.monotonic() - last[0] < 120:
        time.sleep(1)


main()
