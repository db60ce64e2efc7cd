"""Anthropic's messages, written: whole, streamed, counted.

Source: https://docs.anthropic.com/en/api/messages-streaming, and the types of the
`anthropic` package.
"""

import json
from typing import Any

from snugly.chat.answer import Answer, Gathering
from snugly.chat.types import Delta, ToolCall, ToolCallPiece, Usage
from snugly.errors import SnuglyError
from snugly.server.dialects.anthropic_read import read
from snugly.server.dialects.faults import anthropic_error
from snugly.server.dialects.sending import SSE, event
from snugly.server.dialects.types import Body, Reply

__all__ = ["MessageWriter", "arguments_of", "read", "write", "write_count"]

# The real service signs thinking so that it can be sent back. Nothing here checks it.
SIGNATURE = ""


def usage_of(usage: Usage | None) -> Body:
    """Anthropic's counts: `input_tokens` are those that were read anew."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def stop_reason(finish_reason: str | None, stop_word: str) -> str:
    """Why the answer ended, in Anthropic's words."""
    if stop_word:
        return "stop_sequence"
    known = {"length": "max_tokens", "tool_calls": "tool_use"}
    return known.get(finish_reason or "", "end_turn")


def arguments_of(call: ToolCall) -> dict[str, Any] | None:
    """A call's arguments as an object; None where they are damaged or cut off."""
    try:
        value = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write(reply: Reply, answer: Answer) -> Body:
    """A whole message. Calls whose arguments were cut off are left out: nobody may run them."""
    content: list[Body] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": SIGNATURE})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for call in answer.tool_calls:
        arguments = arguments_of(call)
        if arguments is not None:
            content.append(
                {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
            )
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop_reason(answer.finish_reason, answer.stop_word),
        "stop_sequence": answer.stop_word or None,
        "usage": usage_of(answer.usage),
    }


def write_count(n_tokens: int) -> Body:
    """The answer of count_tokens."""
    return {"input_tokens": n_tokens}


class MessageWriter:
    """A streamed message: one block after the other, each opened, filled and closed."""

    media_type = SSE

    def __init__(self, reply: Reply, prompt_tokens: int = 0) -> None:
        self._message: Body = {
            "id": f"msg_{reply.id}",
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            # The count is known before the first piece only where somebody counted.
            "usage": {"input_tokens": prompt_tokens, "output_tokens": 0},
        }
        self._found = Gathering()
        self._open = ""  # "", "text", "thinking" or "tool N"
        self._index = -1

    def start(self) -> list[bytes]:
        """The empty message."""
        return [_event("message_start", message=self._message)]

    def feed(self, delta: Delta) -> list[bytes]:
        """Blocks for one piece."""
        self._found.put(
            Delta(finish_reason=delta.finish_reason, usage=delta.usage, stop_word=delta.stop_word)
        )
        events: list[bytes] = []
        if delta.reasoning:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            events += self._switch("thinking", block)
            events.append(self._delta({"type": "thinking_delta", "thinking": delta.reasoning}))
        if delta.text:
            events += self._switch("text", {"type": "text", "text": ""})
            events.append(self._delta({"type": "text_delta", "text": delta.text}))
        for piece in delta.tool_calls:
            events += self._tool(piece)
        return events

    def _tool(self, piece: ToolCallPiece) -> list[bytes]:
        block = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
        events = self._switch(f"tool {piece.index}", block)
        if piece.arguments:
            events.append(
                self._delta({"type": "input_json_delta", "partial_json": piece.arguments})
            )
        return events

    def _switch(self, kind: str, block: Body) -> list[bytes]:
        if kind == self._open:
            return []
        events = self._close()
        self._open = kind
        self._index += 1
        start = _event("content_block_start", index=self._index, content_block=block)
        return [*events, start]

    def _close(self) -> list[bytes]:
        if not self._open:
            return []
        events = []
        if self._open == "thinking":
            events.append(self._delta({"type": "signature_delta", "signature": SIGNATURE}))
        self._open = ""
        return [*events, _event("content_block_stop", index=self._index)]

    def _delta(self, delta: Body) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def end(self) -> list[bytes]:
        """Closes what is open, says why it ended and what it took."""
        word = self._found.stop_word
        delta = {
            "stop_reason": stop_reason(self._found.finish_reason, word),
            "stop_sequence": word or None,
        }
        last = _event("message_delta", delta=delta, usage=usage_of(self._found.usage))
        return [*self._close(), last, _event("message_stop")]

    def fail(self, error: SnuglyError) -> list[bytes]:
        """An error event."""
        return [event(anthropic_error(error), "error")]

    def ping(self) -> bytes:
        """Anthropic's own sign of life."""
        return _event("ping")


def _event(name: str, **fields: Any) -> bytes:
    return event({"type": name, **fields}, name)
