"""What `snugly run` asks: the words, the files and the standard input, put together."""

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snugly.cli.render import note
from snugly.errors import UserError

_PATIENCE_SECONDS = 1.0
MAX_INPUT_BYTES = 64 * 1024 * 1024  # far above any context; a slip such as -f model.gguf


def piped_text() -> str:
    """Everything on standard input when it is piped in; nothing at a terminal.

    Raises: UserError when it is not text or far too large.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    # Whoever started us may have left a pipe open that never says anything.
    waiting = threading.Timer(
        _PATIENCE_SECONDS, note, ["Reading standard input (`< /dev/null` gives none)..."]
    )
    waiting.daemon = True
    waiting.start()
    try:
        data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    except OSError:  # closed by whoever started us
        return ""
    finally:
        waiting.cancel()
    return _text(data, "Standard input")


def file_text(path: Path) -> str:
    """One file's text.

    Raises: UserError naming the file when it cannot be read, is not text or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read.", f"{error.strerror}.") from error
    return _text(data, str(path))


def _text(data: bytes, what: str) -> str:
    if len(data) > MAX_INPUT_BYTES:
        raise UserError(
            f"{what} is too large to be a prompt.",
            f"It has more than {MAX_INPUT_BYTES // 1024**2} MiB.",
            "Give the part of it that matters.",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not text.",
            f"Byte {error.start} is not UTF-8.",
            "Convert it to UTF-8 text first.",
        ) from None


def compose(words: Sequence[str], piped: str, files: Sequence[tuple[str, str]]) -> str:
    """The prompt: each file under its name, then what was piped in, the question last.

    So a second question about the same files starts as the first did, and what the model has
    read of them is remembered.

    Raises: UserError when there is nothing to ask.
    """
    parts = [f"{name}:\n```\n{text.rstrip()}\n```" for name, text in files]
    parts += [piped.strip(), " ".join(words).strip()]
    prompt = "\n\n".join(part for part in parts if part)
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise UserError(
            "The prompt is not text.",
            "Its words hold bytes that are not UTF-8.",
            "Use a UTF-8 terminal, or put the text into a file for --file.",
        )
    if not prompt:
        raise UserError(
            "There is no prompt.",
            "No words were given and nothing was piped in.",
            'Write `snugly run "your question"`, or `snugly chat` to talk.',
        )
    return prompt


def read_schema(text: str) -> dict[str, Any]:
    """A JSON schema from a file, from JSON itself, or {} for the word "json".

    Raises: UserError when it is neither, or no JSON object.
    """
    if text == "json":
        return {}
    source = text if text.lstrip()[:1] in ("{", "[", '"') else file_text(Path(text))
    try:
        schema = json.loads(source)
    except ValueError as error:
        raise UserError(
            "The schema is not JSON.",
            f"{error}.",
            "Give a file, a JSON object, or the word json for any JSON object.",
        ) from None
    if not isinstance(schema, dict):
        raise UserError("The schema is not a JSON object.", f"It is {type(schema).__name__}.")
    return schema
