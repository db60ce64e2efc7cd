"""Which pieces of an unfinished file are done, so that the work can go on after a break.

Beside `.model.gguf.part` lies `.model.gguf.part.done`: a line that says which work it is
(a hash of the header to write, of the sources and of the library), then lines of numbers
of finished pieces. A line is written only after the pieces it names were fsynced, so what
it says holds after a power cut too; a line cut short is not counted.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

SYNC_SECONDS = 5.0  # what a power cut can cost


def journal_of(part: Path) -> Path:
    """Where the journal of an unfinished file is."""
    return part.with_name(part.name + ".done")


def read_done(part: Path, work: str, count: int) -> set[int]:
    """Pieces that are done, of `count`; empty when the journal tells of other work.

    `work` is the hash that the journal starts with.
    """
    try:
        lines = journal_of(part).read_text(encoding="ascii").splitlines(keepends=True)
        if not part.is_file() or not lines or json.loads(lines[0]) != {"work": work}:
            return set()
    except (OSError, ValueError):
        return set()
    done: set[int] = set()
    for line in lines[1:]:
        try:
            numbers = json.loads(line) if line.endswith("\n") else []
        except ValueError:
            break
        if not isinstance(numbers, list):
            break
        done.update(n for n in numbers if isinstance(n, int) and 0 <= n < count)
    return done


class Journal:
    """The journal of work in progress."""

    def __init__(self, part: Path, work: str, done: Iterable[int]) -> None:
        self._part = part
        self._waiting: list[int] = []
        with open(journal_of(part), "w", encoding="ascii") as file:
            file.write(json.dumps({"work": work}) + "\n")
            file.write(json.dumps(sorted(done)) + "\n")

    def add(self, number: int) -> None:
        """One more piece is written, though perhaps not yet on the disk."""
        self._waiting.append(number)

    def flush(self) -> None:
        """Bring the finished pieces onto the disk, then say that they are."""
        if not self._waiting:
            return
        with open(self._part, "r+b") as file:
            os.fsync(file.fileno())
        with open(journal_of(self._part), "a", encoding="ascii") as file:
            file.write(json.dumps(self._waiting) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._waiting = []


def discard(part: Path) -> None:
    """Remove an unfinished file and its journal."""
    for path in (part, journal_of(part)):
        with contextlib.suppress(OSError):
            path.unlink()
