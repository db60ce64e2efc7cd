"""Writes to a history file until it is killed; says each id once it is acknowledged."""

import sys
from pathlib import Path

from snugly.history import conversations
from snugly.history.opening import opened

with opened(Path(sys.argv[1])) as db:
    conversation, _ = conversations.start(db, model="m", system="", question="q")
    for number in range(1_000_000):
        kept = conversations.append(db, conversation, "assistant", f"answer {number} " * 50)
        print(kept, flush=True)
