"""The history file in use: transactions, and every fault in words."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snugly.errors import HistoryError


class Database:
    """An open history file. Several threads may share it; one at a time gets in."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query.

        Raises: HistoryError.
        """
        with self._lock, faults(self.path):
            return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on the disk when the block has ended, undone when it raises.

        Raises: HistoryError when the disk is full, the file busy or damaged.
        """
        with self._lock, faults(self.path), transaction(self._connection):
            yield self._connection

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()


def now() -> str:
    """The present, as it is stored: ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def storable(text: str) -> str:
    """`text` without lone surrogates: undecodable bytes of an argument cannot be UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE ... COMMIT; ROLLBACK when anything raises, a failed COMMIT included."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite may have rolled back already: disk full
            # The first error says why; a failed rollback leaves a hot journal, which
            # the next opening plays back.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def damaged(path: Path, because: str) -> HistoryError:
    """The error for a file that cannot be trusted; `because` is a clause without a full stop."""
    return HistoryError(
        f"The history file {path} is damaged.",
        f"{because}.",
        f"Move it away to start a new one (mv {path} {path}.damaged); what can be read "
        f"of it comes back with `sqlite3 {path}.damaged .recover`.",
    )


# SQLite's primary result code -> (problem, remedy); {path} is filled in.
# Source: https://www.sqlite.org/rescode.html
_CODES = {
    sqlite3.SQLITE_FULL: (
        "The disk that holds the history file {path} is full.",
        "Free some space and try again; everything kept before is safe.",
    ),
    sqlite3.SQLITE_BUSY: (
        "The history file {path} is in use.",
        "Another Snugly has been writing to it for a long time: end that one and try again.",
    ),
    sqlite3.SQLITE_READONLY: (
        "The history file {path} cannot be written.",
        "Make it and its folder writable, or set SNUGLY_HISTORY to another file.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "The history file {path} cannot be opened.",
        "Make sure that it is a file that you may read and write, in a folder you may write to.",
    ),
    sqlite3.SQLITE_IOERR: (
        "The disk that holds the history file {path} does not work as it should.",
        "Free some space, check the disk and try again; everything kept before is safe.",
    ),
}


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into a HistoryError that names the file."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # bugs of ours, not faults of the file
    except sqlite3.Error as error:
        # Absent where the sqlite3 module itself objects, as to undecodable values.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        # ERROR: the tables are not what the schema number promises.
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise damaged(path, f"SQLite says: {error}") from error
        problem, remedy = _CODES.get(
            code, ("The history file {path} could not be used.", "Try again.")
        )
        raise HistoryError(problem.format(path=path), f"SQLite says: {error}.", remedy) from error
    except OSError as error:
        raise HistoryError(
            f"The history file {path} cannot be used.",
            f"{error.strerror or error}: {error.filename or path}.",
            "Make its place readable and writable, or set SNUGLY_HISTORY to another file.",
        ) from error
