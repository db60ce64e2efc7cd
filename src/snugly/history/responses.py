"""Answers that a client may refer to later (`previous_response_id`): bounded, and they expire."""

import time

from snugly.history.db import Database, storable

KEEP_SECONDS = 30 * 24 * 3600.0  # OpenAI keeps stored responses for 30 days
MOST = 1000
MOST_BYTES = 1024 * 1024  # of one; a longer conversation has to be sent whole


def keep(db: Database, response_id: str, body: str, now: float | None = None) -> bool:
    """Keep an answer with what led to it, as JSON; False where it is too long to be kept.

    Expired ones and, beyond MOST, the oldest ones go.

    Raises: HistoryError.
    """
    if len(body) > MOST_BYTES:
        return False
    moment = time.time() if now is None else now
    with db.writing() as connection:
        connection.execute("DELETE FROM response WHERE expires_at < ?", (moment,))
        connection.execute(
            "INSERT OR REPLACE INTO response (id, created_at, expires_at, body)"
            " VALUES (?, ?, ?, ?)",
            (response_id, moment, moment + KEEP_SECONDS, storable(body)),
        )
        connection.execute(
            "DELETE FROM response WHERE id NOT IN"
            " (SELECT id FROM response ORDER BY created_at DESC, id LIMIT ?)",
            (MOST,),
        )
    return True


def load(db: Database, response_id: str, now: float | None = None) -> str | None:
    """What was kept under an id, None where there is nothing any more."""
    moment = time.time() if now is None else now
    rows = db.rows(
        "SELECT body FROM response WHERE id = ? AND expires_at >= ?", (response_id, moment)
    )
    return str(rows[0]["body"]) if rows else None


def delete(db: Database, response_id: str) -> bool:
    """Forget one; whether it was there."""
    with db.writing() as connection:
        return connection.execute("DELETE FROM response WHERE id = ?", (response_id,)).rowcount > 0
