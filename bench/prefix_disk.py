"""What it costs to look at a saved state and lend it to an engine: `python bench/prefix_disk.py`.

Processor time of this process, for a file of as many bytes as 4,000 tokens of SmolLM2-135M take.
The file is in the page cache, as it is after it was written.
"""

import os
import tempfile
import time
from pathlib import Path

from snugly.engine.prefix import trail_of
from snugly.engine.prefix_entry import Entry
from snugly.engine.prefix_store import PrefixStore

TOKENS, TOKEN_BYTES = 4000, 23_056  # python bench/prefix.py prints the latter
WORDS = b"word " * TOKENS


def main() -> None:
    """Save one state, find and lend it."""
    with tempfile.TemporaryDirectory() as folder:
        store = PrefixStore(Path(folder), 1 << 40)
        store.open()
        name = store.blank()
        (store.landing / name).write_bytes(os.urandom(TOKENS * TOKEN_BYTES))
        trail = trail_of("me", WORDS)
        begun = time.process_time()
        store.take(name, "me", Entry(Path(), "k", "m", TOKENS, 0, 0, True, trail))
        print(f"take {1000 * (time.process_time() - begun):6.1f} ms")
        for _ in range(3):
            begun = time.process_time()
            found = store.find("k", "me", WORDS, trail_of("me", WORDS))
            seen = time.process_time()
            assert found is not None
            store.give_back(store.lend(found[0]))
            lent = time.process_time()
            print(f"find {1000 * (seen - begun):6.1f} ms, lend {1000 * (lent - seen):6.1f} ms")


if __name__ == "__main__":
    main()
