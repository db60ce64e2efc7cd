"""The schema, as numbered migrations. A released one is never edited, only followed.

The number in SQLite's `user_version` is how many of them a file has had.
No STRICT, RETURNING or UPSERT: Python 3.11 still runs on systems with SQLite 3.31.
"""

# Marks the file as ours ("Snug"), so that no other program's SQLite file is written to.
APPLICATION_ID = 0x536E7567

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: an id that a person noted must never come to mean another thing.
        """
        CREATE TABLE conversation (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            title TEXT NOT NULL,
            model TEXT NOT NULL,
            system TEXT NOT NULL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX conversation_by_time ON conversation (updated_at)",
        """
        CREATE TABLE message (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation_id INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
            content TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('complete', 'interrupted')),
            tokens INTEGER,
            started_at TEXT NOT NULL,
            ended_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX message_by_conversation ON message (conversation_id, id)",
        """
        CREATE TABLE measurement (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            taken_at TEXT NOT NULL,
            model_ref TEXT NOT NULL,
            model_path TEXT NOT NULL,
            quant TEXT NOT NULL,
            context INTEGER NOT NULL,
            threads INTEGER NOT NULL,
            predicted_bytes INTEGER NOT NULL,
            peak_bytes INTEGER,
            prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            prefill_tps REAL NOT NULL,
            decode_tps REAL NOT NULL,
            ttft_ms REAL NOT NULL,
            engine TEXT NOT NULL
        )
        """,
        "CREATE INDEX measurement_by_model ON measurement (model_path, id)",
    ),
    # What learning needs: predicted speed beside the actual one, and where it was.
    (
        "ALTER TABLE measurement ADD COLUMN machine TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE measurement ADD COLUMN place TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE measurement ADD COLUMN model_name TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE measurement ADD COLUMN predicted_decode_tps REAL",
        "ALTER TABLE measurement ADD COLUMN predicted_prefill_tps REAL",
        "CREATE INDEX measurement_by_machine ON measurement (machine, id)",
    ),
    # What the server did: one row per request, and answers that clients may refer to.
    (
        """
        CREATE TABLE request (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            started_at TEXT NOT NULL,
            ended_at TEXT,
            model TEXT NOT NULL,
            client TEXT NOT NULL,
            dialect TEXT NOT NULL,
            path TEXT NOT NULL,
            outcome TEXT NOT NULL,
            status INTEGER,
            error TEXT NOT NULL DEFAULT '',
            prompt_tokens INTEGER,
            completion_tokens INTEGER,
            cached_tokens INTEGER,
            wait_ms REAL,
            load_ms REAL,
            ttft_ms REAL,
            total_ms REAL,
            peak_bytes INTEGER,
            prompt TEXT,
            answer TEXT
        )
        """,
        "CREATE INDEX request_by_time ON request (started_at)",
        "CREATE INDEX request_by_outcome ON request (outcome)",
        """
        CREATE TABLE response (
            id TEXT PRIMARY KEY,
            created_at REAL NOT NULL,
            expires_at REAL NOT NULL,
            body TEXT NOT NULL
        )
        """,
        "CREATE INDEX response_by_expiry ON response (expires_at)",
    ),
    # Cores that other programs kept busy during a run: a disturbed one teaches nothing.
    ("ALTER TABLE measurement ADD COLUMN others_cores REAL",),
)
