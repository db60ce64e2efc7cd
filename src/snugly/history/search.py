"""Finding conversations by what was said in them.

A message is a hit when it contains every word of the search, in upper or lower case,
anywhere in it. That is decided here, in Python; SQLite's FTS5 with trigrams only
narrows down what must be looked at, so results are the same where it is missing.
"""

import sqlite3
from collections.abc import Iterable

from snugly.history.conversations import NEWEST_FIRST, SUMMARY, summary
from snugly.history.db import Database, storable, transaction
from snugly.history.types import Summary

# An expression of more terms only costs time, and FTS5 refuses very deep ones.
_NARROWING_WORDS = 8

_TRIGGERS = {
    "message_index_insert": """
        CREATE TRIGGER message_index_insert AFTER INSERT ON message BEGIN
            INSERT INTO message_index (rowid, content) VALUES (new.id, new.content);
        END""",
    "message_index_delete": """
        CREATE TRIGGER message_index_delete AFTER DELETE ON message BEGIN
            INSERT INTO message_index (message_index, rowid, content)
            VALUES ('delete', old.id, old.content);
        END""",
    "message_index_update": """
        CREATE TRIGGER message_index_update AFTER UPDATE OF content ON message BEGIN
            INSERT INTO message_index (message_index, rowid, content)
            VALUES ('delete', old.id, old.content);
            INSERT INTO message_index (rowid, content) VALUES (new.id, new.content);
        END""",
}


def index_is_possible(connection: sqlite3.Connection) -> bool:
    """Whether this build of SQLite has FTS5 with trigrams (3.34)."""
    found = connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone()
    return found is not None and sqlite3.sqlite_version_info >= (3, 34)


def _is_kept(connection: sqlite3.Connection) -> bool:
    marks = ", ".join("?" * len(_TRIGGERS))
    sql = f"SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name IN ({marks})"
    return bool(connection.execute(sql, list(_TRIGGERS)).fetchone()[0] == len(_TRIGGERS))


def ensure_index(connection: sqlite3.Connection) -> None:
    """Make the index where this SQLite can, and stop keeping it where it cannot.

    One file may be opened by Pythons with different SQLites. Without FTS5 the triggers
    would make every write fail, so they go; they come back, and the index with them,
    with the next SQLite that has it.
    """
    possible = index_is_possible(connection)
    if possible == _is_kept(connection):
        return
    with transaction(connection):
        for name in _TRIGGERS:
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        if possible:
            connection.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS message_index USING fts5"
                " (content, content='message', content_rowid='id', tokenize='trigram')"
            )
            connection.execute("INSERT INTO message_index (message_index) VALUES ('rebuild')")
            for trigger in _TRIGGERS.values():
                connection.execute(trigger)


def search(db: Database, text: str, limit: int = 50) -> tuple[Summary, ...]:
    """Conversations with a message, or a title, that has every word of `text`.

    The one that was last active comes first. Any text is a search; none finds nothing.
    """
    words = tuple(dict.fromkeys(storable(text).lower().split()))
    if not words:
        return ()
    snippets: dict[int, str] = {}
    for row in _candidates(db, words):
        if row["conversation_id"] not in snippets and _has(row["content"], words):
            snippets[row["conversation_id"]] = snippet(row["content"], words)
    found = [
        summary(row, snippet=snippets.get(row["id"], ""))
        for row in db.rows(f"{SUMMARY} {NEWEST_FIRST}")
        if row["id"] in snippets or _has(row["title"], words)
    ]
    return tuple(found[:limit])


def _has(content: str, words: Iterable[str]) -> bool:
    folded = content.lower()
    return all(word in folded for word in words)


def _candidates(db: Database, words: tuple[str, ...]) -> list[sqlite3.Row]:
    """Messages that may be hits, newest first: through the index where it can help."""
    # Trigrams know nothing shorter than three characters; NUL ends a query for FTS5.
    usable = [word for word in words if len(word) >= 3 and "\0" not in word]
    indexed = db.rows("SELECT 1 FROM sqlite_master WHERE name = 'message_index_insert'")
    if not usable or not indexed:
        return db.rows("SELECT conversation_id, content FROM message ORDER BY id DESC")
    usable = sorted(usable, key=len, reverse=True)[:_NARROWING_WORDS]
    # In double quotes, doubled inside, nothing is an operator of FTS5.
    query = " ".join('"' + word.replace('"', '""') + '"' for word in usable)
    return db.rows(
        "SELECT conversation_id, content FROM message WHERE id IN"
        " (SELECT rowid FROM message_index WHERE message_index MATCH ?) ORDER BY id DESC",
        (query,),
    )


def snippet(content: str, words: Iterable[str], width: int = 80) -> str:
    """About `width` characters of `content` around the first word found, on one line."""
    flat = " ".join(content.split())
    folded = flat.lower()
    places = [place for word in words if (place := folded.find(word)) >= 0]
    start = max(0, min(places, default=0) - width // 4)
    cut = flat[start : start + width]
    return ("…" if start else "") + cut + ("…" if start + width < len(flat) else "")
