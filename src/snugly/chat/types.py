"""Requests and answers inside the house. Every dialect and every engine meets here."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What to answer and how. None leaves a choice to the engine's default.

    `repeat_penalty` above 1 makes words of the last 256 tokens less likely.
    `schema` is a JSON schema that the answer must satisfy; {} means any JSON object.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    schema: dict[str, Any] | None = None
    stop: tuple[str, ...] = field(default_factory=tuple)
    repeat_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer, and the engine's own times in milliseconds."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    prefill_ms: float
    decode_ms: float
    prefill_tps: float
    decode_tps: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer. The last one carries `finish_reason` and `usage`.

    `finish_reason` is "stop" or "length". `reasoning` is text of a thinking model
    that is not part of the answer.
    """

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
