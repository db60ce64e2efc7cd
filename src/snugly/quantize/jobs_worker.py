"""The process that converts: `python -P -m snugly.quantize.jobs_worker`.

It reads its configuration and then pieces of work as lines of JSON on stdin, and answers
each with a line on stdout. ggml ends a process on what it does not like, so it lives here;
threads share its tables and the weights never travel: each piece is read from the source
and written into the unfinished file by the thread that converts it. The end of stdin is
the end of the process, so nothing outlives the program that asked.
"""

import errno
import json
import os
import queue
import sys
import threading
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from snugly.errors import SnuglyError
from snugly.quantize.jobs import bytes_read
from snugly.quantize.kernels import (
    READABLE,
    Bytes,
    Floats,
    dequantize_rows,
    is_valid,
    quantize_rows,
)
from snugly.quantize.reader_imatrix import Entry, Imatrix
from snugly.quantize.types import Job

BLOCK_WEIGHTS = 1 << 18  # converted at a time: 1 MiB of floats, what a core's own cache holds


class Damage(Exception):
    """A piece cannot be converted because of what is in the source."""


class Files:
    """The files of one thread, kept open."""

    def __init__(self, target: str) -> None:
        self._target = open(target, "r+b", buffering=0)  # noqa: SIM115
        self._sources: dict[str, BinaryIO] = {}

    def read(self, path: str, offset: int, count: int) -> Bytes:
        """Exactly `count` bytes. Raises: Damage when the file ends before."""
        file = self._sources.get(path)
        if file is None:
            file = self._sources[path] = open(path, "rb", buffering=0)  # noqa: SIM115
        file.seek(offset)
        result = np.empty(count, dtype=np.uint8)
        view, have = result.data, 0
        while have < count:
            got = file.readinto(view[have:])  # type: ignore[attr-defined]
            if not got:
                raise Damage(f"the file ends {count - have} bytes too early")
            have += got
        return result

    def write(self, offset: int, data: Bytes) -> None:
        """All of `data`."""
        self._target.seek(offset)
        view = data.data
        while view:
            view = view[self._target.write(view) :]


def convert(job: Job, data: Bytes, weights: Floats | None) -> Bytes:
    """What `data`, the bytes of a piece, become.

    Raises: Damage naming the row when a weight is not finite or fits the type no more.
    """
    if job.kind == job.to and not job.add and not job.interleave:
        if not is_valid(data, job.kind):
            raise Damage(_not_finite(job, data))
        return data
    step = max(BLOCK_WEIGHTS // job.row, 1)
    per_row = len(data) // job.rows
    if job.interleave:
        data = interleaved(data, job.rows, job.interleave)
    pieces = []
    for start in range(0, job.rows, step):
        raw = data[start * per_row : (start + step) * per_row]
        rows = dequantize_rows(raw, job.kind, job.row)
        if job.add:
            # In the precision of the source, as a converter adds: half in half, else single.
            rows = rows + np.float32(job.add)
            rows = rows.astype(np.float16).astype(np.float32) if job.kind == "F16" else rows
        if not is_valid(rows.view(np.uint8).reshape(-1), "F32"):
            raise Damage(_not_finite(job, data))
        try:
            pieces.append(quantize_rows(rows, job.to, weights))
        except ValueError as error:
            raise Damage(str(error)) from error
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def interleaved(data: Bytes, rows: int, head: int) -> Bytes:
    """Rows of each head in the order 0, n/2, 1, n/2+1, ...

    Llama's rotary embedding turns pairs of neighbours in GGUF, halves in checkpoints.
    Counterpart: `LlamaModel.permute` of llama.cpp conversion/llama.py.
    """
    shaped = data.reshape(rows // head, 2, head // 2, -1)
    return np.ascontiguousarray(shaped.swapaxes(1, 2)).reshape(-1)


def _not_finite(job: Job, data: Bytes) -> str:
    if job.kind not in READABLE:
        return "a number in it is not valid"
    rows = dequantize_rows(data, job.kind, job.row)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if not bad.size:
        return "a number in it is not valid"
    value = rows[bad[0]][~np.isfinite(rows[bad[0]])][0]
    kind = "not a number (NaN)" if np.isnan(value) else "infinite"
    return f"a weight is {kind} (near byte {job.offset + int(bad[0]) * (len(data) // job.rows)})"


class Worker:
    """Threads that take pieces from one queue."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._target = str(config["target"])
        self._imatrix = imatrix_of(config["imatrix"]) if config["imatrix"] else None
        self._queue: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        self._say = threading.Lock()
        self._weights = lru_cache(maxsize=8)(self._read_weights)
        for _ in range(config["threads"]):
            threading.Thread(target=self._work, daemon=True).start()

    def put(self, number: int, job: Job) -> None:
        """One more piece."""
        self._queue.put((number, job))

    def say(self, answer: dict[str, Any]) -> None:
        """One line to whoever asked."""
        with self._say:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def _work(self) -> None:
        try:
            files = Files(self._target)
        except OSError as error:
            self.say({"failed": "write", "errno": error.errno, "why": error.strerror})
            return
        while True:
            number, job = self._queue.get()
            self.say(self._done(number, job, files))

    def _done(self, number: int, job: Job, files: Files) -> dict[str, Any]:
        try:
            data = files.read(job.path, job.offset, bytes_read(job))
            result = convert(job, data, self._slice(job))
        except Damage as damage:
            return {"failed": "source", "job": number, "why": str(damage)}
        except SnuglyError as error:
            return {"failed": "source", "job": number, "why": str(error)}
        except OSError as error:
            return {"failed": "source", "job": number, "why": error.strerror or str(error)}
        except MemoryError:
            return {"failed": "memory", "job": number, "why": "memory ran out"}
        try:
            files.write(job.target, result)
        except OSError as error:
            return {"failed": "write", "job": number, "errno": error.errno or errno.EIO,
                    "why": error.strerror}  # fmt: skip
        return {"done": number}

    def _slice(self, job: Job) -> Floats | None:
        if job.matrix < 0:
            return None
        start = job.matrix * job.row
        return self._weights(job.name)[start : start + job.row]

    def _read_weights(self, name: str) -> Floats:
        assert self._imatrix is not None  # a job says which slice only when there is one
        return self._imatrix.weights(name)


def imatrix_config(imatrix: Imatrix) -> dict[str, Any]:
    """An importance matrix as JSON."""
    entries = {name: [e.offset, e.length, e.counts] for name, e in imatrix.entries.items()}
    return {"path": imatrix.path, "entries": entries}


def imatrix_of(config: dict[str, Any]) -> Imatrix:
    """An importance matrix from its JSON."""
    entries = {name: Entry(o, n, tuple(c)) for name, (o, n, c) in config["entries"].items()}
    return Imatrix(config["path"], "", entries, (), 0)


def main() -> None:
    """Work until stdin ends."""
    worker = Worker(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        number, fields = json.loads(line)
        worker.put(number, Job(*fields))
    os._exit(0)  # threads may be in the middle of a piece that nobody waits for


if __name__ == "__main__":
    main()
