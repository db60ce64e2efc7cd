"""What runs really used: predicted beside actual, so that the next plan is better."""

from dataclasses import astuple, fields
from pathlib import Path

from snugly.history.db import Database, storable
from snugly.history.opening import opened
from snugly.history.types import Measurement

_COLUMNS = ", ".join(field.name for field in fields(Measurement))
_MARKS = ", ".join("?" for _ in fields(Measurement))


def record(measurement: Measurement, path: Path | None = None) -> None:
    """Keep one measurement in the history file (default: the one in the settings).

    Raises: HistoryError; an answer that was given is no less good then, so callers
    say it and go on.
    """
    with opened(path) as db:
        record_in(db, measurement)


def record_in(db: Database, measurement: Measurement) -> None:
    """Keep one measurement in a history that is already open."""
    values = [storable(v) if isinstance(v, str) else v for v in astuple(measurement)]
    with db.writing() as connection:
        connection.execute(f"INSERT INTO measurement ({_COLUMNS}) VALUES ({_MARKS})", values)


def recent(limit: int = 50, path: Path | None = None) -> tuple[Measurement, ...]:
    """The latest measurements, newest first.

    Raises: HistoryError.
    """
    with opened(path) as db:
        rows = db.rows(f"SELECT {_COLUMNS} FROM measurement ORDER BY id DESC LIMIT ?", (limit,))
    return tuple(Measurement(*row) for row in rows)
