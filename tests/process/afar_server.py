"""A small real HTTP server of large files, with true ranges and every fault that servers have.

It speaks what reading from afar needs: the hub's model API and its redirect to a storage on
another port, Ollama's registry with the same redirect, plain files under /files/, and a package
index of these. Files lie
on disk, so that one of 40 GB may be sparse.
"""

import gzip
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
MODEL = "application/vnd.ollama.image.model"


@dataclass
class Afar:
    """What is served, the faults, and a record of what was asked and sent."""

    repositories: dict[str, dict[str, Path]] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)  # "library/m:tag"
    blobs: dict[str, Path] = field(default_factory=dict)  # by SHA-256
    files: dict[str, Path] = field(default_factory=dict)  # /files/<name>
    # faults
    ignore_range: bool = False
    no_size: bool = False  # neither Content-Length nor a total
    shifted: int = 0  # every piece begins so many bytes too late
    total_says: int | None = None
    encoding: str = ""
    cut_after: list[int] = field(default_factory=list)  # bytes of each answer, then it ends
    statuses: list[int] = field(default_factory=list)  # of the next storage answers
    bytes_per_s: float = 0
    stall_s: float = 0
    circle: bool = False
    expire_after: int = 10**9  # answers of the storage, then 403 once
    # record
    sent: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # role, path, Range
    tokens: dict[str, set[str]] = field(default_factory=dict)
    endpoint: str = ""
    storage: str = ""

    def add_blob(self, name: str, path: Path, **layer: Any) -> str:
        digest = hashlib.sha256(str(path).encode()).hexdigest()  # nobody reads 40 GB to check
        self.blobs[digest] = path
        entry = {"mediaType": MODEL, "digest": f"sha256:{digest}", "size": path.stat().st_size}
        self.manifests[name] = {"schemaVersion": 2, "layers": [
            {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "0" * 64,
             "size": 10}, entry | layer]}  # fmt: skip
        return digest

    def info(self, repository: str) -> dict[str, Any]:
        siblings = []
        for name, path in self.repositories[repository].items():
            size = path.stat().st_size
            entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": "0" * 40}
            if not name.endswith(".json"):
                digest = hashlib.sha256(str(path).encode()).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
            siblings.append(entry)
        return {"id": repository, "modelId": repository, "sha": COMMIT, "private": False,
                "gated": False, "tags": [], "cardData": {}, "siblings": siblings}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    afar: Afar
    role: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        afar, path = self.afar, unquote(urlsplit(self.path).path)
        afar.asked.append((self.role, path, self.headers.get("Range", "")))
        afar.tokens.setdefault(self.role, set()).add(self.headers.get("Authorization", ""))
        if self.role == "storage":
            return self._stored(path)
        if path.startswith("/api/models/"):
            repository = path.removeprefix("/api/models/").partition("/revision/")[0]
            if repository not in afar.repositories:
                return self._plain(401, {"X-Error-Code": "RepoNotFound"})
            return self._json(afar.info(repository))
        if match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            name = f"{match[1]}:{match[2]}"
            return self._json(afar.manifests[name]) if name in afar.manifests else self._plain(404)
        if path.startswith("/simple/"):
            return self._page(path.split("/")[2])
        if path.startswith("/files/") and not afar.circle:
            return self._serve(afar.files.get(path.removeprefix("/files/")))
        where = self.path if afar.circle else afar.storage + self.path + "?signature=secret"
        self._plain(302, {"Location": where})

    def _stored(self, path: str) -> None:
        if self.afar.expire_after == 0:
            self.afar.expire_after = 10**9
            return self._plain(403)
        self.afar.expire_after -= 1
        if match := re.fullmatch(r"/v2/.+/blobs/sha256:(\w+)", path):
            return self._serve(self.afar.blobs.get(match[1]))
        _, publisher, model, _, _, *inside = path.split("/")
        self._serve(self.afar.repositories[f"{publisher}/{model}"].get("/".join(inside)))

    def _serve(self, file: Path | None) -> None:
        afar = self.afar
        time.sleep(afar.stall_s)
        if afar.statuses:
            return self._plain(afar.statuses.pop(0))
        if file is None:
            return self._plain(404)
        size = file.stat().st_size
        told = size if afar.total_says is None else afar.total_says
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None or afar.ignore_range:
            self.send_response(200)
            return self._send(file, 0, size, told)
        start, end = int(match[1]) + afar.shifted, min(int(match[2]) + 1 + afar.shifted, size)
        if start >= size:
            return self._plain(416, {"Content-Range": f"bytes */{told}"})
        self.send_response(206)
        total = "*" if afar.no_size else told
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        self._send(file, start, end, end - start)

    def _send(self, file: Path, start: int, end: int, told: int) -> None:
        afar = self.afar
        self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
        if afar.encoding:
            self.send_header("Content-Encoding", afar.encoding)
        if not afar.no_size:
            self.send_header("Content-Length", str(told))
        self.send_header("Connection", "close")
        self.end_headers()
        left = min(end - start, afar.cut_after.pop(0) if afar.cut_after else end - start)
        self.close_connection = True
        with file.open("rb") as body:
            body.seek(start)
            try:
                while left > 0 and (piece := body.read(min(left, 16 * 1024))):
                    self.wfile.write(gzip.compress(piece) if afar.encoding else piece)
                    afar.sent += len(piece)
                    left -= len(piece)
                    if afar.bytes_per_s:
                        time.sleep(len(piece) / afar.bytes_per_s)
            except OSError:
                pass

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")  # as Ollama's registry does
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # so that a server that ends is gone
        self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def _page(self, package: str) -> None:
        """A package index that lists every file under its own name."""
        names = [name for name in self.afar.files if name.startswith(package.replace("-", "_"))]
        body = "".join(f'<a href="/files/{name}">{name}</a>' for name in names).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has enough hangs up


@contextmanager
def running() -> Iterator[Afar]:
    """An endpoint and its storage on two loopback ports."""
    afar = Afar()
    servers = []
    for role in ("endpoint", "storage"):
        handler = type(role, (_Handler,), {"afar": afar, "role": role})
        server = _Server(("127.0.0.1", 0), handler)
        setattr(afar, role, f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    try:
        yield afar
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
