"""Hands pieces of work to the converting process and hears what became of them."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import IO, Any

from snugly.errors import BadModelFile, EngineError, SnuglyError
from snugly.machine import cgroup
from snugly.machine.host import Host
from snugly.model.progress import Progress
from snugly.quantize.jobs import bytes_read
from snugly.quantize.jobs_journal import SYNC_SECONDS, Journal
from snugly.quantize.jobs_worker import imatrix_config
from snugly.quantize.reader_imatrix import Imatrix
from snugly.quantize.types import Job
from snugly.quantize.writer import cannot_write, said

_AHEAD = 3  # pieces per thread that wait in the process, so that no thread ever waits for us


def usable_threads() -> int:
    """Threads that affinity and control groups leave us; one per logical core."""
    allowed = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = cgroup.cpu_quota(Host().read)
    return max(min(allowed, int(quota[0]) if quota else allowed), 1)


class Pool:
    """The converting process, for one file. Use as a context: it is gone afterwards."""

    def __init__(self, part: Path, imatrix: Imatrix | None, threads: int) -> None:
        self._part = part
        self._threads = threads
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        # Pools of numpy's own would compete with our threads; see ggml's `ggml_print_backtrace`.
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "GGML_NO_BACKTRACE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "snugly.quantize.jobs_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **quiet},
            text=True,
            start_new_session=True,  # Ctrl-C is ours to answer
        )
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        matrix = imatrix_config(imatrix) if imatrix else None
        self._send({"target": str(part), "imatrix": matrix, "threads": threads})

    def __enter__(self) -> "Pool":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                try:
                    stream.close()
                except OSError:  # what was still to be sent has no reader
                    pass
        self._errors.close()

    @property
    def pid(self) -> int:
        """Of the converting process."""
        return self._process.pid

    def run(
        self, jobs: Sequence[Job], numbers: Iterable[int], progress: Progress, journal: Journal
    ) -> None:
        """Do the pieces of `jobs` with these numbers.

        Raises: BadModelFile when a source is damaged, UserError when the disk is full,
        EngineError when the process dies.
        """
        waiting = iter(numbers)
        busy = 0
        flushed = time.monotonic()
        while True:
            while busy < _AHEAD * self._threads and (number := next(waiting, None)) is not None:
                self._send([number, astuple(jobs[number])])
                busy += 1
            if not busy:
                break
            answer = self._answers.get()
            if answer is None:
                raise self._died()
            if "done" not in answer:
                raise self._failed(answer, jobs)
            busy -= 1
            journal.add(answer["done"])
            progress.advance(bytes_read(jobs[answer["done"]]))
            if time.monotonic() - flushed > SYNC_SECONDS:
                self._flush(journal)
                flushed = time.monotonic()

    def _flush(self, journal: Journal) -> None:
        with said(self._part, 0):
            journal.flush()

    def _send(self, line: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._answers.put(json.loads(line))
        except ValueError:  # closed while we listened, or a line cut short by its death
            pass
        self._answers.put(None)

    def _died(self) -> EngineError:
        code = self._process.wait()
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - 2000, 0))
        last = self._errors.read().decode(errors="replace").strip().splitlines()
        return EngineError(
            "The process that quantizes died.",
            f"It ended with {code}" + (f": {last[-1]}" if last else "") + ".",
            "Try once more; should it happen again, that is a bug: please report it.",
        )

    def _failed(self, answer: dict[str, Any], jobs: Sequence[Job]) -> SnuglyError:
        if answer["failed"] == "write":
            return cannot_write(self._part, OSError(answer["errno"], answer["why"]), 0)
        job = jobs[answer["job"]]
        if answer["failed"] == "memory":
            return EngineError(
                "Memory ran out.", f"It happened at {job.name}.", "Stop other programs."
            )
        return BadModelFile(
            f"{os.path.basename(job.path)} cannot be quantized: tensor {job.name!r}.",
            f"{answer['why'][:1].upper()}{answer['why'][1:]} ({job.path}).",
            "Fetch it again with `snugly pull`, or ask whoever made the file.",
        )
