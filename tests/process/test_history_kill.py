"""Row 2 of the faults: a writer killed at any moment loses no acknowledged row."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snugly.history import conversations
from snugly.history.opening import opened

WRITER = Path(__file__).with_name("history_writer.py")


def kill_a_writer(path: Path, after_s: float) -> list[int]:
    """Ids that the writer had acknowledged when SIGKILL hit it."""
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()  # it is in the midst of writing from here on
        time.sleep(after_s)
        writer.kill()
        # The last line may be cut: only whole ones were acknowledged.
        lines = (first + writer.stdout.read()).splitlines(keepends=True)
    return [int(line) for line in lines if line.endswith("\n")]


def check_kills(path: Path, times: int) -> int:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    acknowledged: list[int] = []
    for _ in range(times):
        acknowledged += kill_a_writer(path, chance.uniform(0.0, 0.05))
        with opened(path) as db:
            kept = {row[0] for row in db.rows("SELECT id FROM message")}
            assert set(acknowledged) <= kept, f"rows lost (seed {seed})"
            assert db.rows("PRAGMA integrity_check")[0][0] == "ok"
            assert db.rows("PRAGMA foreign_key_check") == []
    with opened(path) as db:
        assert conversations.count(db) == times
        whole = {f"answer {n} " * 50 for n in range(len(acknowledged) + times)} | {"q"}
        assert {row[0] for row in db.rows("SELECT content FROM message")} <= whole
    return len(acknowledged)


def test_thirty_killed_writers_lose_no_acknowledged_row(tmp_path: Path) -> None:
    assert check_kills(tmp_path / "history.db", 30) >= 30


@pytest.mark.soak
def test_five_hundred_killed_writers_lose_no_acknowledged_row(tmp_path: Path) -> None:
    assert check_kills(tmp_path / "history.db", 500) >= 500
