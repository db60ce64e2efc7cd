"""What a running server leaves beside the history for the commands that ask after it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from snugly.errors import UserError
from snugly.model import sidecar


@dataclass(frozen=True, slots=True)
class Record:
    """One running server. `started_at` is in seconds since 1970."""

    pid: int
    host: str
    port: int
    secure: bool
    version: str
    started_at: float


def record_path(history: Path) -> Path:
    """Where it lies: beside the history."""
    return history.with_name("server.json")


def write_record(path: Path, record: Record) -> None:
    """Leave it, at once or not at all. Raises: OSError."""
    sidecar.write_text(path, json.dumps(asdict(record)), lasting=False)


def read_record(path: Path) -> Record | None:
    """The server that runs; None where there is none, or it was killed."""
    import psutil  # 30 ms, which a server that starts has better use for

    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        begun = psutil.Process(record.pid).create_time()
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
    # Another process may have got its number since; a server starts before it says so.
    return record if begun <= record.started_at + 1 else None


def remove_record(path: Path) -> None:
    """Take it away, unless it is another server's."""
    record = read_record(path)
    if record is None or record.pid == os.getpid():
        path.unlink(missing_ok=True)


@contextmanager
def only_server(history: Path) -> Iterator[None]:
    """Be the one server of this history, until the block or the process ends.

    A second one would mark the first one's requests as interrupted, leave its own record in
    place of the other's, and plan with memory that the other is about to take.

    Raises: UserError, naming the server that runs.
    """
    from filelock import FileLock, Timeout

    history.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(history.with_name("server.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        other = read_record(record_path(history))
        where = f" It is process {other.pid}, on {other.host}:{other.port}." if other else ""
        raise UserError(
            "Another `snugly serve` runs with this history.",
            f"One server keeps the books in {history}.{where}",
            "Use it or stop it, or give this one a history of its own: SNUGLY_HISTORY.",
        ) from None
    try:
        yield
    finally:
        lock.release()
