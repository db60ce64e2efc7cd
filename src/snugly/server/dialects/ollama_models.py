"""Ollama's requests about models: show, pull, copy, delete, version.

Source: Ollama docs/api.md. Older clients say `name` where newer ones say `model`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snugly.server.dialects.faults import HttpFault
from snugly.server.dialects.reading import Fields
from snugly.server.dialects.sending import line
from snugly.server.dialects.types import Body

# What is told to clients that compare it; the API is Ollama's of this version.
OLLAMA_VERSION = "0.12.6"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A model to fetch, told about in lines as it comes, or once at the end."""

    model: str
    stream: bool


def read_name(body: Mapping[str, Any]) -> str:
    """The model that show, delete or stop is about.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    name = fields.text("model", "name")
    return name or fields.needed("model")


def read_pull(body: Mapping[str, Any]) -> PullRequest:
    """`/api/pull`.

    Raises: BadRequest naming the field, and for `insecure`: nothing is fetched unverified.
    """
    fields = Fields(body)
    if fields.flag("insecure"):
        raise fields.wrong("insecure", "left out: nothing is fetched unverified")
    return PullRequest(read_name(body), fields.flag("stream", default=True))


def read_copy(body: Mapping[str, Any]) -> tuple[str, str]:
    """`/api/copy`: from which name to which.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    return fields.needed("source"), fields.needed("destination")


def refused(what: str) -> HttpFault:
    """The answer to `push` and `create`, which are not done here."""
    return HttpFault(
        403,
        f"`/api/{what}` is not done here.",
        "Snugly keeps plain GGUF files and has no registry of its own.",
        "See `snugly models` and `snugly pull`.",
    )


def pull_line(status: str, digest: str = "", total: int = 0, completed: int = 0) -> bytes:
    """One line of a pull's progress; the last one's status is "success"."""
    body: Body = {"status": status}
    if digest:
        body |= {"digest": f"sha256:{digest}", "total": total, "completed": completed}
    return line(body)


def write_version() -> Body:
    """`/api/version`."""
    return {"version": OLLAMA_VERSION}
