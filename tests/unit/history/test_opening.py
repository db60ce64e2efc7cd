"""The history file: private, whole, versioned; every fault is said and nothing is replaced."""

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from snugly.errors import HistoryError
from snugly.history import conversations, search
from snugly.history.db import Database
from snugly.history.opening import opened
from snugly.history.schema import APPLICATION_ID, MIGRATIONS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "history.db"


def fill(path: Path, questions: int = 3) -> None:
    with opened(path) as db:
        for number in range(questions):
            conversations.start(db, model="m", system="", question=f"question {number}")


def read_all(path: Path) -> None:
    with opened(path) as db:
        for found in conversations.recent(db):
            conversations.load(db, found.id)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no mode bits")
def test_file_is_0600_in_a_0700_folder_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        fill(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.name != "posix", reason="Windows has no mode bits")
def test_a_file_that_others_may_read_is_closed_and_a_foreign_folder_left_alone(path: Path) -> None:
    fill(path)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    fill(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_rollback_journal_synced_writes_and_foreign_keys(path: Path) -> None:
    with opened(path) as db:
        pragmas = {
            name: db.rows(f"PRAGMA {name}")[0][0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "user_version")
        }
    # synchronous 3 is EXTRA: FULL, and the folder is synced too
    assert pragmas == {
        "journal_mode": "delete",
        "synchronous": 3,
        "foreign_keys": 1,
        "user_version": len(MIGRATIONS),
    }


def test_only_the_file_itself_is_left_in_the_folder(path: Path) -> None:
    fill(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["history.db"]


def test_a_newer_schema_is_refused_and_not_touched(path: Path) -> None:
    fill(path)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=r"newer Snugly.*schema 99.*--upgrade"), opened(path):
        pass
    assert path.read_bytes() == before


def test_a_sqlite_file_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE conversation (id INTEGER)")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="not a history file of Snugly"), opened(path):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"this is no database " * 300,
        lambda data: b"\0" * len(data),
        lambda data: data[:100],
        lambda data: data[: len(data) // 2],
        lambda data: data[:4096] + os.urandom(len(data) - 4096),
    ],
    ids=["empty", "text", "zeros", "header only", "half", "scrambled pages"],
)
def test_a_damaged_file_is_an_error_that_names_it_and_the_remedy(path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    fill(path, 50)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(HistoryError) as caught:
        read_all(path)
    assert str(path) in caught.value.problem
    assert caught.value.remedy
    assert path.read_bytes() == damaged, "a damaged file must stay for rescue"


def test_a_missing_table_is_damage_and_not_a_traceback(path: Path) -> None:
    fill(path)
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE conversation")
    raw.close()
    with pytest.raises(HistoryError, match=r"damaged.*no such table"), opened(path) as db:
        conversations.recent(db)


def test_a_full_disk_is_said_loses_nothing_and_is_over_when_there_is_room(path: Path) -> None:
    with opened(path) as db:
        conversation, _ = conversations.start(db, model="m", system="", question="kept")
        pages = db.rows("PRAGMA page_count")[0][0]
        db.rows(f"PRAGMA max_page_count = {pages}")  # SQLite answers as on a full disk
        with pytest.raises(HistoryError, match=r"full.*Free some space"):
            conversations.append(db, conversation, "assistant", "x" * 100_000)
        assert [m.content for m in conversations.load(db, conversation).messages] == ["kept"]
        db.rows(f"PRAGMA max_page_count = {pages + 1000}")
        conversations.append(db, conversation, "assistant", "x" * 100_000)
        assert len(conversations.load(db, conversation).messages) == 2


def test_a_busy_file_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snugly.history.opening.BUSY_SECONDS", 0.05)
    fill(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(HistoryError, match="in use"), opened(path) as db:
        conversations.start(db, model="m", system="", question="q")
    other.execute("ROLLBACK")
    other.close()


def test_a_writer_waits_for_another_that_is_quick(path: Path) -> None:
    fill(path, 0)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            fill(path, 10)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with opened(path) as db:
        assert conversations.count(db) == 40


def test_many_that_begin_at_once_share_one_file(path: Path) -> None:
    threads = [threading.Thread(target=fill, args=(path, 2)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened(path) as db:
        assert conversations.count(db) == 12
    assert [entry.name for entry in path.parent.iterdir()] == ["history.db"]


def test_a_place_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HistoryError, match="SNUGLY_HISTORY"), opened(tmp_path / "file" / "h.db"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(HistoryError, match="cannot be opened"), opened(tmp_path / "folder"):
        pass


def insert_and_fail(db: Database) -> None:
    with db.writing() as connection:
        connection.execute(
            "INSERT INTO conversation (title, model, system, created_at, updated_at)"
            " VALUES ('t', 'm', '', '', '')"
        )
        raise ZeroDivisionError


def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    with opened(path) as db:
        with pytest.raises(ZeroDivisionError):
            insert_and_fail(db)
        assert conversations.count(db) == 0


def test_a_file_from_an_older_schema_is_migrated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    longer = (*MIGRATIONS, ("ALTER TABLE conversation ADD COLUMN note TEXT",))
    monkeypatch.setattr("snugly.history.opening.MIGRATIONS", longer)
    with opened(path) as db:
        assert db.rows("PRAGMA user_version")[0][0] == len(MIGRATIONS) + 1
        assert db.rows("SELECT count(*), count(note) FROM conversation")[0][:] == (3, 0)
        assert db.rows("PRAGMA application_id")[0][0] == APPLICATION_ID


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    broken = (*MIGRATIONS, ("CREATE TABLE extra (id INTEGER)", "this is no SQL"))
    with monkeypatch.context() as patch:
        patch.setattr("snugly.history.opening.MIGRATIONS", broken)
        with pytest.raises(HistoryError), opened(path):
            pass
    with opened(path) as db:
        assert db.rows("SELECT count(*) FROM sqlite_master WHERE name = 'extra'")[0][0] == 0
        assert conversations.count(db) == 3


def test_one_file_serves_builds_with_and_without_full_text_search(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    with monkeypatch.context() as patch:
        patch.setattr("snugly.history.search.index_is_possible", lambda _: False)
        with opened(path) as db:  # the build without: writes and searches work
            conversations.start(db, model="m", system="", question="written without an index")
            assert len(search.search(db, "without")) == 1
    with opened(path) as db:  # the build with: what was written meanwhile is found
        assert len(search.search(db, "without")) == 1
        assert len(search.search(db, "question")) == 3
