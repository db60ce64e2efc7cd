"""The history file: made whole, opened safely, migrated by number, kept private."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from snugly.errors import HistoryError
from snugly.history.db import Database, damaged, faults, transaction
from snugly.history.schema import APPLICATION_ID, MIGRATIONS
from snugly.history.search import ensure_index
from snugly.settings import settings

# How long to wait for another Snugly that is writing. A write takes milliseconds, so
# one that is not over by then hangs or holds the file on a stopped network disk.
BUSY_SECONDS = 10.0


@contextmanager
def opened(path: Path | None = None) -> Iterator[Database]:
    """Open the history file (default: the one in the settings), made when there is none.

    Raises: HistoryError when it is damaged, of a newer Snugly, of another program,
    or cannot be read or written. A file that is there is never replaced.
    """
    path = settings().history if path is None else path
    with faults(path):
        if not path.exists():
            _create(path)
        if path.stat().st_size == 0:
            raise damaged(path, "It is empty, and Snugly never leaves it so")
        _keep_private(path)
        connection = _connect(path)
    database = Database(path, connection)
    try:
        with faults(path):
            _check_and_migrate(connection, path)
            ensure_index(connection)
        yield database
    finally:
        database.close()


def _create(path: Path) -> None:
    """Make a new file aside and move it into place whole, never over one that is there.

    So an empty or half-made history file is always damage and never a beginning.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = _connect(aside)
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _migrate(connection)
        finally:
            connection.close()
        _move_into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _move_into_place(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        return  # another Snugly was first; its file is as good
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(aside, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _keep_private(path: Path) -> None:
    """Close file and folder to other users where they are ours and open.

    Only Snugly's own data folder is touched: a path that a person set may lie in a
    folder that others need.
    """
    if os.name != "posix":
        return
    own_folder = platformdirs.user_data_path("snugly", appauthor=False)
    for place, mode in ((path, 0o600), (path.parent, 0o700)):
        if place == path or place == own_folder:
            facts = place.stat()
            if facts.st_uid == os.getuid() and facts.st_mode & 0o077:
                place.chmod(mode)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        # Not WAL: SQLite below 3.51.3 can corrupt a file when a WAL is reset, and
        # Pythons come with older ones. EXTRA is FULL plus a sync of the folder after
        # the journal is gone, without which a power cut can undo the last commit.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what a person deletes is gone
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_and_migrate(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise HistoryError(
            f"{path} is not a history file of Snugly.",
            "It is a SQLite file that another program made.",
            "Point SNUGLY_HISTORY (or `history` in the settings) at another file.",
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise HistoryError(
            f"The history file {path} was written by a newer Snugly.",
            f"It has schema {version}; this version knows schemas up to {len(MIGRATIONS)}.",
            "Update with `pip install --upgrade snugly`, or set SNUGLY_HISTORY to another file.",
        )
    if version < len(MIGRATIONS):
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each migration whole or not at all."""
    for number, statements in enumerate(MIGRATIONS, start=1):
        with transaction(connection):
            # Asked inside the transaction: another process may just have done it.
            if connection.execute("PRAGMA user_version").fetchone()[0] >= number:
                continue
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
