"""A conversation as a file: Markdown to read, JSON to read and to load back. Pure but for I/O."""

import json
import os
import re
from pathlib import Path
from typing import Any

from snugly.cli.render import jsonable
from snugly.errors import UserError
from snugly.history.types import Conversation, State, StoredMessage

FORMAT = "snugly-conversation-1"


def default_name(title: str) -> str:
    """A file name from a title: `What is a KV cache?` -> `what-is-a-kv-cache.md`."""
    words = re.sub(r"[^\w]+", "-", title.lower()).strip("-_")
    return f"{words[:50].rstrip('-') or 'conversation'}.md"


def write(path: Path, conversation: Conversation, *, replace: bool) -> None:
    """Write a conversation; the ending of the name says how. The file appears whole.

    Raises: UserError for another ending, a file that is there, a place that is not.
    """
    forms = {".md": as_markdown, ".markdown": as_markdown, ".json": as_json}
    form = forms.get(path.suffix.lower())
    if form is None:
        raise UserError(
            f"{path} does not say what to write.",
            f"Its name ends with {path.suffix!r}." if path.suffix else "Its name has no ending.",
            "Use a name that ends with .md (to read) or .json (to load again).",
        )
    if path.exists() and not replace:
        raise UserError(f"{path} is there already.", "", "Choose another name, or remove it.")
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_text(form(conversation), encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(
            f"{path} could not be written.", f"{error.strerror}.", "Choose another place."
        ) from error


def as_markdown(conversation: Conversation) -> str:
    """The conversation for a person to read."""
    about = [f"Model: {conversation.model}", f"Begun: {conversation.created_at}"]
    if conversation.system:
        about.append(f"System prompt: {' '.join(conversation.system.split())}")
    parts = [f"# {conversation.title}", "\n".join(f"- {line}" for line in about)]
    for message in conversation.messages:
        head = "Question" if message.role == "user" else "Answer"
        cut = " (interrupted)" if message.state is State.INTERRUPTED else ""
        parts += [f"## {head}{cut}", message.content.strip("\n")]
    return "\n\n".join(parts) + "\n"


def as_json(conversation: Conversation) -> str:
    """The conversation with all that is known of it."""
    document = {"format": FORMAT, **jsonable(conversation)}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read(path: Path) -> Conversation:
    """A conversation from a JSON file that /save wrote; its ids mean nothing here.

    Raises: UserError naming the file and what is wrong in it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} could not be read.", f"{error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"It is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _unusable(path, f'It has no "format": "{FORMAT}".')
    messages = document.get("messages")
    if not isinstance(messages, list):
        raise _unusable(path, "It has no list of messages.")
    return Conversation(
        id=0,
        title=_text(path, document, "title"),
        model=_text(path, document, "model"),
        system=_text(path, document, "system"),
        created_at=_text(path, document, "created_at"),
        updated_at=_text(path, document, "updated_at"),
        messages=tuple(_message(path, number, m) for number, m in enumerate(messages, start=1)),
    )


def _message(path: Path, number: int, value: Any) -> StoredMessage:
    where = f"Message {number}"
    if not isinstance(value, dict):
        raise _unusable(path, f"{where} is not an object.")
    if value.get("role") not in ("user", "assistant"):
        raise _unusable(
            path, f'{where} has the role {value.get("role")!r}, not "user" or "assistant".'
        )
    if value.get("state") not in list(State):
        raise _unusable(path, f"{where} has the state {value.get('state')!r}.")
    tokens = value.get("tokens")
    if tokens is not None and (type(tokens) is not int or not 0 <= tokens < 2**63):
        raise _unusable(path, f"{where} has {tokens!r} for tokens.")
    return StoredMessage(
        id=0,
        role=value["role"],
        content=_text(path, value, "content", where),
        state=State(value["state"]),
        tokens=tokens,
        started_at=_text(path, value, "started_at", where),
        ended_at=_text(path, value, "ended_at", where),
    )


def _text(path: Path, value: dict[str, Any], key: str, where: str = "It") -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise _unusable(path, f"{where} has no text for {key!r}.")
    return found


def _unusable(path: Path, because: str) -> UserError:
    return UserError(
        f"{path} is not a conversation that Snugly saved.",
        because,
        "/load takes a file that /save wrote with a name ending in .json.",
    )
