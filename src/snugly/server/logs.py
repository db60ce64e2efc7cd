"""The server's log: one JSON object per line, rotated by size, never with anybody's words.

What is written: times, routes, models, addresses, counts, outcomes. Not written: prompts,
answers, keys, tokens, and the messages of unexpected errors, which may quote any of them.
"""

import contextlib
import json
import logging
import logging.handlers
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from snugly.history.requests import Asked

FILE_BYTES = 10 * 1024 * 1024  # some 30,000 requests
_UNREAD_LINES = 1000  # of standard error
_LAST_SECONDS = 1.0  # for showing the last of them
FILES = 5  # the present one and four older ones
_COUNTS = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "wait_ms", "load_ms", "ttft_ms",
    "total_ms", "peak_bytes",
)  # fmt: skip


def log_path(history: Path) -> Path:
    """Where the log lies: beside the history."""
    return history.with_name("server.log")


def request_fields(number: str, route: str, asked: Asked) -> dict[str, Any]:
    """What the log says of one request: `asked` without words.

    Errors are told by their status: below 500 the client's own words may stand in them.
    """
    known: dict[str, Any] = {
        "request": number, "model": asked.model, "client": asked.client,
        "dialect": asked.dialect, "route": route, "status": asked.status,
        "outcome": asked.outcome,
    }  # fmt: skip
    for name in _COUNTS:
        value = getattr(asked, name)
        if value is not None:
            known[name] = round(value, 1) if isinstance(value, float) else value
    if asked.error and (asked.status or 0) >= 500:
        known["error"] = asked.error
    return known


class JsonLines(logging.Formatter):
    """A record as one line of JSON. What `extra={"fields": {...}}` brings stands in it too."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line |= fields
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["trace"] = _frames(record)
        return json.dumps(line, ensure_ascii=False, default=str)


class Words(logging.Formatter):
    """A record for people, on one line; an unexpected error with its kind and places only."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and one per frame."""
        moment = datetime.fromtimestamp(record.created).isoformat(" ", "seconds")
        line = f"{moment} {record.levelname} {record.getMessage()}"
        return "\n  ".join([line, *_frames(record)])


def _frames(record: logging.LogRecord) -> list[str]:
    """Kind and places of an error, without its message."""
    if not record.exc_info or record.exc_info[0] is None:
        return []
    frames = traceback.extract_tb(record.exc_info[2])
    return [record.exc_info[0].__name__, *(f"{f.filename}:{f.lineno} {f.name}" for f in frames)]


class _File(logging.handlers.RotatingFileHandler):
    """A file that a full disk does not stop: that is said once, and tried with every line."""

    failing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        before, self._failed = self.failing, False
        super().emit(record)
        self.failing = self._failed
        if before and not self.failing:
            print(f"The log {self.baseFilename} can be written again.", file=sys.stderr)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say it once."""
        self._failed = True
        if not self.failing:
            why = sys.exc_info()[1]
            print(f"The log {self.baseFilename} cannot be written: {why}.", file=sys.stderr)


class _Dropping(logging.handlers.QueueHandler):
    """What does not fit because nobody reads it is not shown: the file has it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: to say so would have to wait as well."""


def _show(lines: "queue.Queue[logging.LogRecord | None]", stream: TextIO) -> None:
    """Write what comes, until there is None."""
    out = logging.StreamHandler(stream)
    while (line := lines.get()) is not None:
        out.handle(line)
        lines.task_done()


def _wait_for(lines: "queue.Queue[logging.LogRecord | None]") -> None:
    """Until all is written, or for a second where nobody reads it."""
    deadline = time.monotonic() + _LAST_SECONDS
    while lines.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(0.005)
    with contextlib.suppress(queue.Full):
        lines.put_nowait(None)


@contextlib.contextmanager
def logged(path: Path, *, as_json: bool, verbose: bool) -> Iterator[None]:
    """Write the log of a server for as long as the block lasts.

    Standard error shows everything as JSON, or for people warnings (`verbose`: everything). Each
    is written by a thread of its own, so that a slow disk, or a pipe that nobody reads, holds no
    answer up.
    """
    words: queue.Queue[logging.LogRecord | None] = queue.Queue(_UNREAD_LINES)
    shown = _Dropping(words)
    shown.setFormatter(JsonLines() if as_json else Words())
    shown.setLevel(logging.INFO if as_json or verbose else logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = _File(path, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8", delay=True)
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    kept = logging.handlers.QueueHandler(lines)
    kept.setFormatter(JsonLines())
    listener = logging.handlers.QueueListener(lines, file)
    threading.Thread(target=_show, args=(words, sys.stderr), daemon=True).start()
    root, ours = logging.getLogger(), logging.getLogger("snugly")
    before = ours.level
    ours.setLevel(logging.INFO)
    root.addHandler(shown)
    root.addHandler(kept)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(kept)
        root.removeHandler(shown)
        ours.setLevel(before)
        listener.stop()
        _wait_for(words)
        with contextlib.suppress(OSError):  # a full disk, once more
            file.close()
