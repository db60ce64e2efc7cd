"""Headers that were read from afar, kept on disk: planned again at once, and without a network.

One small compressed file per header or answer, named by the hash of its key, in a folder that
only its owner can read: it tells what a person looked at. Losing any of it costs a few MB.
"""

import hashlib
import json
import os
import secrets
import zlib
from pathlib import Path
from typing import Any

from snugly.model.remote_bytes import MAX_READ_BYTES, Piece
from snugly.units import MiB

FOLDER = "headers"
MAX_KEPT_BYTES = 64 * MiB  # about 20 of the largest headers; the oldest go first


class Shelf:
    """What was kept, by key. Nothing here ever fails: what cannot be kept is fetched again."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / FOLDER

    def answer(self, key: str) -> Any:
        """The JSON kept under `key`; None when there is none."""
        try:
            return json.loads(self._get(key))
        except ValueError:
            return None

    def keep_answer(self, key: str, value: Any) -> None:
        """Keep something that JSON can hold."""
        self._put(key, json.dumps(value).encode())

    def pieces(self, key: str) -> list[Piece]:
        """The pieces of a file kept under `key`, in order; empty when there are none."""
        first, _, body = self._get(key).partition(b"\n")
        pieces, at = [], 0
        try:
            for start, length in json.loads(first):
                pieces.append(Piece(int(start), bytearray(body[at : at + length])))
                at += length
        except (ValueError, TypeError):
            return []
        return pieces if at == len(body) else []

    def keep_pieces(self, key: str, pieces: list[Piece], end: int) -> None:
        """Keep what `pieces` hold before `end`."""
        cut = [(p.start, bytes(p.body[: max(0, end - p.start)])) for p in pieces]
        index = json.dumps([(start, len(body)) for start, body in cut]).encode()
        self._put(key, index + b"\n" + b"".join(body for _, body in cut))

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()[:40]

    def _get(self, key: str) -> bytes:
        try:
            packed = self._path(key).read_bytes()
            # Never more than was put in: a damaged file must not fill the memory.
            return zlib.decompressobj().decompress(packed, MAX_READ_BYTES + MiB)
        except (OSError, zlib.error):
            return b""

    def _put(self, key: str, body: bytes) -> None:
        path = self._path(key)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(zlib.compress(body, 1))
            os.replace(temporary, path)
            self._make_room()
        except OSError:
            temporary.unlink(missing_ok=True)

    def _make_room(self) -> None:
        files = [(file.stat().st_mtime, file) for file in self._folder.iterdir()]
        total = 0
        for _, file in sorted(files, reverse=True):
            total += file.stat().st_size
            if total > MAX_KEPT_BYTES:
                file.unlink(missing_ok=True)
