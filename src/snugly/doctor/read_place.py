"""Reading where things lie. Each returns facts; what they mean is said in `place`."""

import os
import secrets
import sqlite3
import stat
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import snugly
from snugly.doctor.place import ClockFacts, DiskFacts, HistoryFacts, PrivateFacts, StoreFacts
from snugly.errors import HistoryError
from snugly.history.db import damaged, faults
from snugly.history.schema import APPLICATION_ID, MIGRATIONS
from snugly.settings import Settings


def nearest(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path


def read_store(store: Path) -> StoreFacts:
    """Try to write a file where models are, or would be."""
    place = nearest(store)
    trial = place / f".snugly-doctor-{secrets.token_hex(4)}"
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        return StoreFacts(str(store), store.exists(), error.strerror or str(error))
    return StoreFacts(str(store), store.exists(), "")


def read_disks(config: Settings) -> list[DiskFacts]:
    """The file systems that ours lies on, each once."""
    places: dict[int, list[tuple[str, Path]]] = {}
    for name, path in (
        ("models", config.store), ("the history", config.history), ("the cache", config.cache)
    ):  # fmt: skip
        place = nearest(path)
        with suppress(OSError):
            places.setdefault(os.stat(place).st_dev, []).append((name, place))
    found = []
    for group in places.values():
        with suppress(OSError):
            found.append(_disk(tuple(name for name, _ in group), group[0][1]))
    return found


def _disk(used_for: tuple[str, ...], place: Path) -> DiskFacts:
    if not hasattr(os, "statvfs"):  # Windows
        import shutil

        usage = shutil.disk_usage(place)
        return DiskFacts(used_for, str(place), usage.free, usage.total, None, False)
    told = os.statvfs(place)
    return DiskFacts(
        used_for, str(place), told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize,
        told.f_favail if told.f_files else None,  # btrfs counts none
        bool(told.f_flag & os.ST_RDONLY),
    )  # fmt: skip


def read_history(path: Path, deep: bool) -> HistoryFacts:
    """Ask SQLite for damage; every page of it, and when `deep` every index too."""
    if not os.path.lexists(path):
        return HistoryFacts(str(path), False)
    try:
        with faults(path):
            size = path.stat().st_size
            if size == 0:
                raise damaged(path, "It is empty, and Snugly never leaves it so")
            # Never made anew: mode=rw opens what is there.
            uri = f"{path.resolve().as_uri()}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as connection:
                _ask_sqlite(connection, path, "integrity_check" if deep else "quick_check")
    except HistoryError as error:
        return HistoryFacts(str(path), True, 0, (error.problem, error.because, error.remedy))
    return HistoryFacts(str(path), True, size)


def _ask_sqlite(connection: sqlite3.Connection, path: Path, check: str) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise HistoryError(
            f"{path} is not a history file of Snugly.",
            "It is a SQLite file that another program made.",
            "Point SNUGLY_HISTORY (or `history` in the settings) at another file.",
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise HistoryError(
            f"{path} was written by a newer Snugly.",
            f"It has schema {version}; this version knows schemas up to {len(MIGRATIONS)}.",
            "Update with `pip install --upgrade snugly`.",
        )
    told = str(connection.execute(f"PRAGMA {check}").fetchone()[0])
    if told != "ok":
        raise damaged(path, f"SQLite's {check} says: {told.splitlines()[-1]}")


def read_private(history: Path) -> list[PrivateFacts]:
    """The files that only their owner should read, where permissions are kept so."""
    if os.name != "posix":
        return []
    names = (history.name, "server.token", "server.key", "server.log")
    found = []
    for path in (history.with_name(name) for name in names):
        with suppress(OSError):
            told = path.stat()
            mode = stat.S_IMODE(told.st_mode)
            found.append(PrivateFacts(str(path), mode, told.st_uid, os.getuid()))
    return found


def read_clock(history: Path) -> ClockFacts:
    """The clock, and the latest of what was written down with a date."""
    return ClockFacts(datetime.now(UTC), *max(_evidence(history)))


def _evidence(history: Path) -> Iterable[tuple[datetime, str]]:
    for path in (Path(snugly.__file__), history.with_name("server.token")):
        with suppress(OSError):
            yield datetime.fromtimestamp(path.stat().st_mtime, UTC), f"The file {path}"
    with suppress(sqlite3.Error, ValueError, TypeError):
        uri = f"{history.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as connection:
            sql = "SELECT max(updated_at) FROM conversation"
            if told := connection.execute(sql).fetchone()[0]:
                yield datetime.fromisoformat(told), "The last conversation in the history"
            sql = "SELECT max(started_at) FROM request"
            if told := connection.execute(sql).fetchone()[0]:
                yield datetime.fromisoformat(told), "The last request in the history"
