"""What the server was asked and how it went: one row per request, words only if wanted."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from snugly.history.db import Database, now, storable

RUNNING, INTERRUPTED = "running", "interrupted"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. Times are ISO 8601 in UTC, or milliseconds; None where there is none.

    `outcome` is "running", "done", "cancelled" (the client left), "failed", "refused"
    (before a model was asked), or "interrupted" (the server ended first).
    """

    started_at: str
    model: str
    client: str
    dialect: str
    path: str
    outcome: str = RUNNING
    ended_at: str | None = None
    status: int | None = None
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    wait_ms: float | None = None
    load_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    peak_bytes: int | None = None
    prompt: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What one model was used for since some moment. Tokens are sums, times are means.

    `name` is the model, or the client, dialect or day that the lines are of.
    """

    name: str
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    ttft_ms: float | None
    total_ms: float | None
    peak_bytes: int | None
    last_at: str


_COLUMNS = tuple(field.name for field in fields(Asked))


def write(db: Database, rows: Sequence[tuple[int | None, Asked]]) -> list[int]:
    """Keep requests in one transaction: new ones (id None), or how known ones went; their ids.

    Raises: HistoryError.
    """
    ids = []
    marks = ", ".join("?" for _ in _COLUMNS)
    changes = ", ".join(f"{name} = ?" for name in _COLUMNS)
    with db.writing() as connection:
        for number, asked in rows:
            values = [storable(v) if isinstance(v, str) else v for v in astuple(asked)]
            if number is None:
                sql = f"INSERT INTO request ({', '.join(_COLUMNS)}) VALUES ({marks})"
                number = int(connection.execute(sql, values).lastrowid or 0)
            else:
                connection.execute(f"UPDATE request SET {changes} WHERE id = ?", (*values, number))
            ids.append(number)
    return ids


def mark_interrupted(db: Database) -> int:
    """Mark what a server that was killed had begun; how many there were.

    Only for the one server of a history, before it takes requests.
    """
    with db.writing() as connection:
        cursor = connection.execute(
            "UPDATE request SET outcome = ?, ended_at = ? WHERE outcome = ?",
            (INTERRUPTED, now(), RUNNING),
        )
        return cursor.rowcount


def recent(db: Database, limit: int = 50) -> tuple[Asked, ...]:
    """The latest requests, newest first."""
    rows = db.rows(f"SELECT {', '.join(_COLUMNS)} FROM request ORDER BY id DESC LIMIT ?", (limit,))
    return tuple(Asked(*row) for row in rows)


# What requests can be summed by; days are those of this machine's own time.
KEYS = {
    "model": "model",
    "client": "client",
    "dialect": "dialect",
    "day": "date(started_at, 'localtime')",
}


def usage(db: Database, since: str = "", by: str = "model") -> tuple[UsageLine, ...]:
    """What was used since `since` (ISO 8601), by one of `KEYS`: the most used first, or by day.

    Raises: KeyError for another key.
    """
    key = KEYS[by]
    order = "name" if by == "day" else "count(*) DESC, name"
    rows = db.rows(
        f"SELECT {key} AS name, count(*), sum(outcome NOT IN ('done', 'running', 'cancelled')),"
        " coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),"
        " coalesce(sum(cached_tokens), 0), avg(ttft_ms), avg(total_ms), max(peak_bytes),"
        " max(started_at) FROM request WHERE started_at >= ? AND model <> ''"
        f" GROUP BY name ORDER BY {order}",
        (since,),
    )
    return tuple(UsageLine(*row) for row in rows)
