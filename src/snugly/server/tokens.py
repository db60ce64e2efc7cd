"""The server's token: random, in a file that only its owner can read."""

import hmac
import os
import secrets
from pathlib import Path

from snugly.errors import UserError

_BYTES = 32


def token_path(history: Path) -> Path:
    """Where the token lies: beside the history."""
    return history.with_name("server.token")


def read_token(path: Path) -> str:
    """The token of this person's server.

    Raises: UserError when there is none yet.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"There is no token in {path}.",
            "The server makes one when it is started.",
            "Start it with `snugly serve`.",
        ) from error
    return token


def own_token(path: Path) -> str:
    """The token; made when there is none, and the file closed to everybody else."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        token = read_token(path)
        if len(token) >= _BYTES:
            return token
        path.unlink()
        return own_token(path)
    with os.fdopen(made, "w", encoding="ascii") as file:
        token = secrets.token_urlsafe(_BYTES)
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    return token


def same(given: str, token: str) -> bool:
    """Whether a client's token is the token, in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
