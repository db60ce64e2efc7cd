"""SHA-256 of files too large to hold in memory."""

import hashlib
from collections.abc import Callable
from pathlib import Path

HASH_CHUNK = 4 * 1024**2


def sha256_of(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file, in hex. Raises: OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()
