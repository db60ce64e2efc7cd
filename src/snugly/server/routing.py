"""A route as data: what the app serves, what it asks for, and what openapi.json tells of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snugly.errors import SnuglyError
from snugly.server.calls import Call
from snugly.server.dialects.faults import anthropic_error, ollama_error, openai_error
from snugly.server.dialects.llamacpp import raw_error
from snugly.server.security import Access

Body = Mapping[str, Any]
# What a handler gives back is the JSON of a 200; None where it has answered by itself.
Handler = Callable[[Call, Body], Awaitable[Any]]

ERRORS: dict[str, Callable[[SnuglyError], dict[str, Any]]] = {
    "openai": openai_error,
    "anthropic": anthropic_error,
    "ollama": ollama_error,
    "llama.cpp": raw_error,
    "lmstudio": openai_error,
    "snugly": openai_error,
}


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `needs` are fields that a body must have; `streams` as it says.

    `asks_model` marks what goes into the history.
    """

    method: str
    path: str
    dialect: str
    handler: Handler
    summary: str
    access: Access = Access.MODELS
    needs: tuple[str, ...] = ()
    streams: str = ""
    asks_model: bool = False
    media_type: str = "application/json"
    query: tuple[str, ...] = ()
