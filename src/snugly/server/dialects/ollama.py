"""Ollama's answers: lines of JSON, with durations in nanoseconds.

Source: Ollama docs/api.md and api/types.go.
"""

from datetime import UTC, datetime
from typing import Any

from snugly.chat.answer import Answer, Gathering
from snugly.chat.requests import Embeddings
from snugly.chat.types import Delta, TokenLogprob, ToolCall, Usage
from snugly.errors import SnuglyError
from snugly.server.dialects.anthropic import arguments_of
from snugly.server.dialects.faults import ollama_error
from snugly.server.dialects.ollama_read import read_chat, read_embed, read_generate
from snugly.server.dialects.sending import NDJSON, line
from snugly.server.dialects.types import Body, Reply

__all__ = [
    "ChatWriter", "GenerateWriter", "read_chat", "read_embed", "read_generate", "time_text",
    "write_chat", "write_embed", "write_embeddings", "write_generate", "write_loaded",
]  # fmt: skip


def time_text(seconds: float) -> str:
    """A time as Go's clients parse it: RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _ns(ms: float) -> int:
    return round(ms * 1e6)


def _head(reply: Reply) -> Body:
    return {"model": reply.model, "created_at": time_text(reply.created)}


def _tail(reply: Reply, answer: Answer | Gathering) -> Body:
    """What the last object says beside its text."""
    # Ollama knows no reason of its own for calls of tools.
    tail: Body = {
        "done": True,
        "done_reason": "length" if answer.finish_reason == "length" else "stop",
    }
    return tail if answer.usage is None else tail | _durations(reply, answer.usage)


def _durations(reply: Reply, usage: Usage) -> Body:
    spent = reply.wait_ms + reply.load_ms + usage.prefill_ms + usage.decode_ms
    return {
        "total_duration": _ns(spent),
        "load_duration": _ns(reply.load_ms),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _ns(usage.prefill_ms),
        "eval_count": usage.completion_tokens,
        "eval_duration": _ns(usage.decode_ms),
    }


def _logprobs(tokens: tuple[TokenLogprob, ...]) -> Body:
    if not tokens:
        return {}
    return {
        "logprobs": [
            _entry(token) | {"top_logprobs": [_entry(other) for other in token.top]}
            for token in tokens
        ]
    }


def _entry(token: TokenLogprob) -> Body:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw)}


def _calls(calls: tuple[ToolCall, ...]) -> list[Body]:
    """Whole calls; those whose arguments were cut off are left out: nobody may run them."""
    found = []
    for index, call in enumerate(calls):
        arguments = arguments_of(call)
        if arguments is not None:
            function = {"index": index, "name": call.name, "arguments": arguments}
            found.append({"id": call.id, "function": function})
    return found


def _message(text: str, thinking: str, calls: list[Body]) -> Body:
    message: Body = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return message


def write_chat(reply: Reply, answer: Answer) -> Body:
    """A whole answer of `/api/chat`."""
    message = _message(answer.text, answer.reasoning, _calls(answer.tool_calls))
    logprobs = _logprobs(answer.logprobs)
    return _head(reply) | {"message": message} | logprobs | _tail(reply, answer)


def write_generate(reply: Reply, answer: Answer) -> Body:
    """A whole answer of `/api/generate`."""
    said: Body = {"response": answer.text}
    if answer.reasoning:
        said["thinking"] = answer.reasoning
    return _head(reply) | said | _logprobs(answer.logprobs) | _tail(reply, answer)


def write_loaded(reply: Reply, chat: bool, unloaded: bool) -> Body:
    """The answer to a request without a prompt, which only loaded or unloaded the model."""
    empty: Body = {"message": _message("", "", [])} if chat else {"response": ""}
    done = {"done": True, "done_reason": "unload" if unloaded else "load"}
    return _head(reply) | empty | done


def write_embed(reply: Reply, found: Embeddings) -> Body:
    """The answer of `/api/embed`."""
    return {
        "model": reply.model,
        "embeddings": [list(vector) for vector in found.vectors],
        "total_duration": _ns(reply.wait_ms + reply.load_ms),
        "load_duration": _ns(reply.load_ms),
        "prompt_eval_count": found.prompt_tokens,
    }


def write_embeddings(found: Embeddings) -> Body:
    """The answer of the older `/api/embeddings`."""
    return {"embedding": [x for vector in found.vectors[:1] for x in vector]}


class ChatWriter:
    """A streamed answer of `/api/chat`. Calls of tools come whole, in the last but one line."""

    media_type = NDJSON

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._found = Gathering()

    def start(self) -> list[bytes]:
        """Nothing: the first line comes with the first piece."""
        return []

    def feed(self, delta: Delta) -> list[bytes]:
        """One line for one piece."""
        self._found.put(delta)
        if not delta.text and not delta.reasoning and not delta.logprobs:
            return []
        said = self._said(delta.text, delta.reasoning)
        more: dict[str, Any] = _logprobs(delta.logprobs) | {"done": False}
        return [line(_head(self._reply) | said | more)]

    def _said(self, text: str, thinking: str, calls: list[Body] | None = None) -> Body:
        return {"message": _message(text, thinking, calls or [])}

    def end(self) -> list[bytes]:
        """The calls, and the counts."""
        head = _head(self._reply)
        calls = _calls(self._found.answer().tool_calls)
        lines = [line(head | self._said("", "", calls) | {"done": False})] if calls else []
        return [*lines, line(head | self._said("", "") | _tail(self._reply, self._found))]

    def fail(self, error: SnuglyError) -> list[bytes]:
        """A line with the error."""
        return [line(ollama_error(error))]

    def ping(self) -> bytes:
        """Lines of JSON know no sign of life."""
        return b""


class GenerateWriter(ChatWriter):
    """A streamed answer of `/api/generate`."""

    def _said(self, text: str, thinking: str, calls: list[Body] | None = None) -> Body:
        return {"response": text} | ({"thinking": thinking} if thinking else {})
