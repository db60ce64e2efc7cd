"""A small real HTTP server that speaks the part of the hub's API that a pull needs.

The hub redirects file requests to its storage on another host; so does this one, to a
second server. Faults are switches on `Hub`. It also serves a simple package index.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories, faults, and a record of what was asked."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)  # files without LFS metadata
    wheels: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    licence: str = "mit"
    cut_after: list[int] = field(default_factory=list)  # bytes; one per body request
    ignore_range: bool = False
    wrong_range: bool = False
    served: dict[str, bytes] = field(default_factory=dict)  # file -> what is really sent
    fail_once: list[int] = field(default_factory=list)  # statuses, one per body request
    fail_api: list[int] = field(default_factory=list)
    bytes_per_s: float = 0
    bodies: list[tuple[str, str]] = field(default_factory=list)  # (path, Range header)
    body_bytes: int = 0
    authorizations: dict[str, list[str]] = field(default_factory=dict)
    endpoint: str = ""
    storage: str = ""

    def info(self, repository: str) -> dict[str, Any]:
        files = self.repositories[repository]
        return {
            "id": repository, "modelId": repository, "sha": COMMIT, "private": False,
            "gated": "manual" if repository in self.gated else False, "tags": [],
            "cardData": {"license": self.licence},
            "siblings": [self._sibling(name, body) for name, body in files.items()],
        }  # fmt: skip

    def _sibling(self, name: str, body: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": name, "size": len(body), "blobId": "0" * 40}
        if name not in self.plain:
            digest = hashlib.sha256(body).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 134}
        return entry


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    role: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.authorizations.setdefault(self.role, []).append(
            self.headers.get("Authorization", "")
        )
        if self.role == "storage":
            self._body(path)
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        elif path.startswith("/simple/"):
            self._index(path.split("/")[2])
        elif "/resolve/" in path:
            self._resolve(path)
        else:
            self._plain(404)

    def _api(self, rest: str) -> None:
        if self.hub.fail_api:
            return self._plain(self.hub.fail_api.pop(0))
        repository, _, revision = rest.partition("/revision/")
        if repository not in self.hub.repositories:
            # The real hub hides whether a repository is private.
            return self._plain(401, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("", "main", COMMIT):
            return self._plain(404, {"X-Error-Code": "RevisionNotFound"})
        self._send(json.dumps(self.hub.info(repository)).encode(), "application/json")

    def _index(self, package: str) -> None:
        if package not in self.hub.wheels:
            return self._plain(404)
        name = self.hub.wheels[package][0]
        self._send(f'<a href="{self.hub.storage}/wheels/{name}#sha256=0">{name}</a>'.encode(),
                   "text/html")  # fmt: skip

    def _resolve(self, path: str) -> None:
        repository = "/".join(path.split("/")[1:3])
        if repository in self.hub.gated:
            return self._plain(401, {"X-Error-Code": "GatedRepo"})
        self.send_response(302)
        self.send_header("Location", self.hub.storage + path)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self, path: str) -> None:
        body = self._find(path)
        asked = self.headers.get("Range", "")
        self.hub.bodies.append((path.rpartition("/")[2], asked))
        if self.hub.fail_once:
            return self._plain(self.hub.fail_once.pop(0))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and not self.hub.ignore_range:
            if self.hub.wrong_range:
                start = 0
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            start = 0
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self._write(body[start:])

    def _find(self, path: str) -> bytes:
        name = path.rpartition("/")[2]
        if name in self.hub.served:
            return self.hub.served[name]
        if path.startswith("/wheels/"):
            return next(body for wheel, body in self.hub.wheels.values() if wheel == name)
        _, publisher, model, _, _, *inside = path.split("/")
        return self.hub.repositories[f"{publisher}/{model}"]["/".join(inside)]

    def _write(self, body: bytes) -> None:
        cut = self.hub.cut_after.pop(0) if self.hub.cut_after else len(body)
        step = 16 * 1024
        try:
            for at in range(0, min(cut, len(body)), step):
                piece = body[at : min(at + step, cut)]
                self.wfile.write(piece)
                self.hub.body_bytes += len(piece)
                if self.hub.bytes_per_s:
                    time.sleep(len(piece) / self.hub.bytes_per_s)
        except OSError:
            pass
        self.close_connection = True

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def running() -> Iterator[Hub]:
    """A hub and its storage on two loopback ports."""
    hub = Hub()
    servers = []
    for role in ("endpoint", "storage"):
        handler = type(role, (_Handler,), {"hub": hub, "role": role})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        setattr(hub, role, f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
