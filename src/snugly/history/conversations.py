"""Conversations: started, added to, taken back, listed, loaded, deleted.

A message is on the disk when the call that keeps it returns.
"""

import sqlite3
from collections.abc import Sequence

from snugly.errors import UserError
from snugly.history.db import Database, now, storable
from snugly.history.types import Conversation, State, StoredMessage, Summary

TITLE_LENGTH = 60

SUMMARY = """
    SELECT id, title, model, created_at, updated_at,
        (SELECT count(*) FROM message
         WHERE conversation_id = conversation.id AND role = 'user') AS turns
    FROM conversation"""
# Several things may happen within a millisecond: then the later message decides.
NEWEST_FIRST = """ORDER BY updated_at DESC,
    (SELECT max(id) FROM message WHERE conversation_id = conversation.id) DESC, id DESC"""


def title_of(question: str) -> str:
    """A title from the first question: its beginning, on one line, cut between words."""
    flat = " ".join(storable(question).split())
    if len(flat) <= TITLE_LENGTH:
        return flat or "(empty)"
    cut = flat[: TITLE_LENGTH - 1]
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) > TITLE_LENGTH // 2 else cut) + "…"


def start(db: Database, *, model: str, system: str, question: str) -> tuple[int, int]:
    """Keep a new conversation with its first question; their ids.

    Raises: HistoryError.
    """
    moment = now()
    with db.writing() as connection:
        conversation_id = _insert_conversation(
            connection, title_of(question), model, system, moment, moment
        )
        return conversation_id, _insert(
            connection, conversation_id, "user", question, State.COMPLETE, None, moment, moment
        )


def keep(
    db: Database,
    *,
    title: str,
    model: str,
    system: str,
    messages: Sequence[StoredMessage],
) -> int:
    """Keep a whole conversation that comes from elsewhere, such as a file; its new id.

    The ids of `messages` are not used.
    """
    moment = now()
    created = messages[0].started_at if messages else moment
    with db.writing() as connection:
        conversation_id = _insert_conversation(connection, title, model, system, created, moment)
        for m in messages:
            _insert(
                connection, conversation_id, m.role, m.content, m.state, m.tokens,
                m.started_at, m.ended_at,
            )  # fmt: skip
    return conversation_id


def append(
    db: Database,
    conversation_id: int,
    role: str,
    content: str,
    *,
    state: State = State.COMPLETE,
    tokens: int | None = None,
    started_at: str | None = None,
) -> int:
    """Keep one more message; its id.

    Raises: UserError when the conversation is gone; HistoryError.
    """
    moment = now()
    with db.writing() as connection:
        _touch(connection, conversation_id, moment)
        return _insert(
            connection, conversation_id, role, content, state, tokens, started_at or moment, moment
        )


def settle(
    db: Database, message_id: int, content: str, *, state: State, tokens: int | None = None
) -> None:
    """Bring a message that was kept while it grew to its present, or final, form."""
    moment = now()
    with db.writing() as connection:
        connection.execute(
            "UPDATE message SET content = ?, state = ?, tokens = ?, ended_at = ? WHERE id = ?",
            (storable(content), state.value, tokens, moment, message_id),
        )
        connection.execute(
            "UPDATE conversation SET updated_at = ? WHERE id ="
            " (SELECT conversation_id FROM message WHERE id = ?)",
            (moment, message_id),
        )


def undo(db: Database, conversation_id: int) -> str | None:
    """Drop the last question and what was answered; the question, or None without one."""
    with db.writing() as connection:
        last = connection.execute(
            "SELECT id, content FROM message WHERE conversation_id = ? AND role = 'user'"
            " ORDER BY id DESC LIMIT 1",
            (conversation_id,),
        ).fetchone()
        if last is None:
            return None
        connection.execute(
            "DELETE FROM message WHERE conversation_id = ? AND id >= ?",
            (conversation_id, last["id"]),
        )
        _touch(connection, conversation_id, now())
        return str(last["content"])


def rename(db: Database, conversation_id: int, title: str) -> None:
    """Give a conversation another title.

    Raises: UserError when there is none with this id.
    """
    _set(db, conversation_id, "title", title_of(title))


def set_model(db: Database, conversation_id: int, model: str) -> None:
    """Note which model goes on with a conversation."""
    _set(db, conversation_id, "model", model)


def set_system(db: Database, conversation_id: int, system: str) -> None:
    """Change the system prompt of a conversation."""
    _set(db, conversation_id, "system", system)


def delete(db: Database, conversation_id: int) -> str:
    """Delete a conversation and its messages; the title it had.

    Raises: UserError when there is none with this id.
    """
    if not 0 < conversation_id < 2**63:
        raise _unknown(conversation_id)
    with db.writing() as connection:
        row = connection.execute(
            "SELECT title FROM conversation WHERE id = ?", (conversation_id,)
        ).fetchone()
        if row is None:
            raise _unknown(conversation_id)
        connection.execute("DELETE FROM conversation WHERE id = ?", (conversation_id,))
        return str(row["title"])


def load(db: Database, conversation_id: int) -> Conversation:
    """A conversation with its messages.

    Raises: UserError when there is none with this id; HistoryError.
    """
    if not 0 < conversation_id < 2**63:  # no INTEGER of SQLite
        raise _unknown(conversation_id)
    found = db.rows("SELECT * FROM conversation WHERE id = ?", (conversation_id,))
    if not found:
        raise _unknown(conversation_id)
    row = found[0]
    messages = tuple(
        StoredMessage(
            m["id"], m["role"], m["content"], State(m["state"]), m["tokens"],
            m["started_at"], m["ended_at"],
        )
        for m in db.rows(
            "SELECT * FROM message WHERE conversation_id = ? ORDER BY id", (conversation_id,)
        )
    )  # fmt: skip
    return Conversation(
        row["id"], row["title"], row["model"], row["system"],
        row["created_at"], row["updated_at"], messages,
    )  # fmt: skip


def recent(db: Database, limit: int = 50) -> tuple[Summary, ...]:
    """The conversations that were last active, newest first."""
    rows = db.rows(f"{SUMMARY} {NEWEST_FIRST} LIMIT ?", (limit,))
    return tuple(summary(row) for row in rows)


def count(db: Database) -> int:
    """How many conversations there are."""
    return int(db.rows("SELECT count(*) FROM conversation")[0][0])


def summary(row: sqlite3.Row, snippet: str = "") -> Summary:
    """A row of SUMMARY as a value."""
    return Summary(
        row["id"], row["title"], row["model"], row["created_at"], row["updated_at"],
        row["turns"], snippet,
    )  # fmt: skip


def _insert_conversation(
    connection: sqlite3.Connection,
    title: str,
    model: str,
    system: str,
    created_at: str,
    updated_at: str,
) -> int:
    cursor = connection.execute(
        "INSERT INTO conversation (title, model, system, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?)",
        (storable(title), storable(model), storable(system), created_at, updated_at),
    )
    return int(cursor.lastrowid or 0)


def _insert(
    connection: sqlite3.Connection,
    conversation_id: int,
    role: str,
    content: str,
    state: State,
    tokens: int | None,
    started_at: str,
    ended_at: str,
) -> int:
    cursor = connection.execute(
        "INSERT INTO message"
        " (conversation_id, role, content, state, tokens, started_at, ended_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (conversation_id, role, storable(content), state.value, tokens, started_at, ended_at),
    )
    return int(cursor.lastrowid or 0)


def _touch(connection: sqlite3.Connection, conversation_id: int, moment: str) -> None:
    done = connection.execute(
        "UPDATE conversation SET updated_at = ? WHERE id = ?", (moment, conversation_id)
    )
    if done.rowcount == 0:
        raise _unknown(conversation_id)


def _set(db: Database, conversation_id: int, column: str, value: str) -> None:
    with db.writing() as connection:
        done = connection.execute(
            f"UPDATE conversation SET {column} = ? WHERE id = ?",
            (storable(value), conversation_id),
        )
        if done.rowcount == 0:
            raise _unknown(conversation_id)


def _unknown(conversation_id: int) -> UserError:
    return UserError(
        f"There is no conversation {conversation_id}.",
        "It was deleted, or never was.",
        "`snugly chat --list` shows the conversations and their numbers.",
    )
