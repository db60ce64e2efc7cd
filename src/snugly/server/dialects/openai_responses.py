"""OpenAI's responses, written: whole, and as the events that `openai` and Codex insist on.

Source: https://platform.openai.com/docs/api-reference/responses-streaming, and the types of
the `openai` package.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from snugly.chat.answer import Answer, Gathering
from snugly.chat.types import Delta, Message, TokenLogprob, ToolCall, Usage
from snugly.errors import SnuglyError
from snugly.server.dialects.anthropic import arguments_of
from snugly.server.dialects.faults import openai_error
from snugly.server.dialects.openai_chat import logprob_of
from snugly.server.dialects.responses_read import FREE_TEXT, Asked, CalledAs, previous_id, read
from snugly.server.dialects.sending import SSE, event
from snugly.server.dialects.types import Body, Reply

__all__ = ["ResponseWriter", "previous_id", "read", "turns_after", "write"]


def turns_after(asked: Asked, answer: Answer) -> tuple[Message, ...]:
    """The conversation with the answer: what to store for a later `previous_response_id`."""
    said = Message("assistant", answer.text, answer.reasoning, answer.tool_calls)
    return (*asked.turns, said)


def usage_of(usage: Usage) -> Body:
    """Token counts of a response. The engine does not tell thoughts from words: 0 of them."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _reasoning_item(item_id: str, text: str | None, status: str) -> Body:
    content = [] if text is None else [{"type": "reasoning_text", "text": text}]
    return {
        "id": item_id, "type": "reasoning", "summary": [], "content": content,
        "encrypted_content": None, "status": status,
    }  # fmt: skip


def _text_part(text: str, tokens: tuple[TokenLogprob, ...]) -> Body:
    logprobs = [logprob_of(token) for token in tokens]
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _message_item(item_id: str, parts: list[Body], status: str) -> Body:
    return {
        "id": item_id, "type": "message", "role": "assistant", "content": parts, "status": status,
    }  # fmt: skip


def _call_item(item_id: str, call: ToolCall, known: CalledAs | None, status: str) -> Body:
    item: Body = {"id": item_id, "call_id": call.id, "name": known.name if known else call.name}
    if known is not None and known.namespace:
        item["namespace"] = known.namespace
    if known is not None and known.free_text:
        return item | {"type": "custom_tool_call", "input": _free_text(call), "status": status}
    return item | {"type": "function_call", "arguments": call.arguments, "status": status}


def _free_text(call: ToolCall) -> str:
    text = (arguments_of(call) or {}).get(FREE_TEXT)
    return text if isinstance(text, str) else call.arguments


def _ids(reply: Reply) -> Callable[[str], str]:
    """Ids of a response's items, in order."""
    count = 0

    def next_id(prefix: str) -> str:
        nonlocal count
        count += 1
        return f"{prefix}_{reply.id}{count}"

    return next_id


def _output(reply: Reply, answer: Answer, called_as: Mapping[str, CalledAs]) -> list[Body]:
    next_id, done = _ids(reply), "completed"
    items: list[Body] = []
    if answer.reasoning:
        items.append(_reasoning_item(next_id("rs"), answer.reasoning, done))
    if answer.text:
        parts = [_text_part(answer.text, answer.logprobs)]
        items.append(_message_item(next_id("msg"), parts, done))
    for call in answer.tool_calls:
        items.append(_call_item(next_id("fc"), call, called_as.get(call.name), done))
    if items and answer.finish_reason == "length":
        items[-1]["status"] = "incomplete"  # the earlier ones were finished
    return items


def write(reply: Reply, asked: Asked, answer: Answer) -> Body:
    """A whole response."""
    return _response(reply, asked, answer, _output(reply, answer, asked.called_as))


def _response(reply: Reply, asked: Asked, answer: Answer | None, output: list[Body]) -> Body:
    cut = answer is not None and answer.finish_reason == "length"
    status = "in_progress" if answer is None else "incomplete" if cut else "completed"
    usage = None if answer is None else answer.usage
    return asked.echo | {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": int(reply.created),
        "model": reply.model,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": None if usage is None else usage_of(usage),
    }


class ResponseWriter:
    """A streamed response: items one after the other, each opened, filled and closed."""

    media_type = SSE

    def __init__(self, reply: Reply, asked: Asked) -> None:
        self._reply, self._asked = reply, asked
        self._next_id = _ids(reply)
        self._all = Gathering()
        self._item = Gathering()  # what the open item holds so far
        self._kind = ""  # "", "reasoning", "text" or "call N"
        self._id = ""
        self._known: CalledAs | None = None  # how the client knows the open call
        self._done: list[Body] = []
        self._sequence = 0

    def start(self) -> list[bytes]:
        """The empty response."""
        empty = _response(self._reply, self._asked, None, [])
        return [
            self._event("response.created", response=empty),
            self._event("response.in_progress", response=empty),
        ]

    def feed(self, delta: Delta) -> list[bytes]:
        """Events for one piece."""
        self._all.put(delta)
        events: list[bytes] = []
        if delta.reasoning:
            piece = Delta(reasoning=delta.reasoning)
            events += self._open("reasoning", piece)
            name = "response.reasoning_text.delta"
            events.append(self._part_event(name, delta=delta.reasoning))
        if delta.text:
            events += self._open("text", Delta(text=delta.text, logprobs=delta.logprobs))
            logprobs = [logprob_of(token) for token in delta.logprobs]
            name = "response.output_text.delta"
            events.append(self._part_event(name, delta=delta.text, logprobs=logprobs))
        for call in delta.tool_calls:
            events += self._open(f"call {call.index}", Delta(tool_calls=(call,)))
            if call.arguments and not self._free_text:
                name = "response.function_call_arguments.delta"
                events.append(self._item_event(name, delta=call.arguments))
        return events

    def _open(self, kind: str, piece: Delta) -> list[bytes]:
        """Make `kind` the open item, and put `piece` into it."""
        if kind == self._kind:
            self._item.put(piece)
            return []
        events = self._close("completed")
        self._kind, self._item = kind, Gathering()
        prefix = {"reasoning": "rs", "text": "msg"}.get(kind, "fc")
        self._id = self._next_id(prefix)
        self._item.put(
            Delta(tool_calls=tuple(replace(call, arguments="") for call in piece.tool_calls))
        )
        names = [call.name for call in piece.tool_calls]
        self._known = self._asked.called_as.get(names[0]) if names else None
        events.append(self._item_event("response.output_item.added", item=self._current(False)))
        if not kind.startswith("call"):
            events.append(self._part_event("response.content_part.added", part=self._part("")))
        self._item.put(piece)
        return events

    def _close(self, status: str) -> list[bytes]:
        if not self._kind:
            return []
        events = self._closing()
        item = self._current(True) | {"status": status}
        events.append(self._item_event("response.output_item.done", item=item))
        self._done.append(item)
        self._kind = ""
        return events

    def _closing(self) -> list[bytes]:
        answer = self._item.answer()
        if self._kind.startswith("call"):
            return self._closing_call(answer.tool_calls[0])
        text = answer.text or answer.reasoning
        more = {"logprobs": self._part(text)["logprobs"]} if answer.text else {}
        name = "output_text" if self._kind == "text" else "reasoning_text"
        return [
            self._part_event(f"response.{name}.done", text=text, **more),
            self._part_event("response.content_part.done", part=self._part(text)),
        ]

    def _closing_call(self, call: ToolCall) -> list[bytes]:
        if self._free_text:
            text = _free_text(call)
            name = "response.custom_tool_call_input"
            return [
                self._item_event(f"{name}.delta", delta=text),
                self._item_event(f"{name}.done", input=text),
            ]
        name = "response.function_call_arguments.done"
        return [self._item_event(name, name=call.name, arguments=call.arguments)]

    @property
    def _free_text(self) -> bool:
        return self._known is not None and self._known.free_text

    def _part(self, text: str) -> Body:
        if self._kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return _text_part(text, self._item.answer().logprobs if text else ())

    def _current(self, whole: bool) -> Body:
        """The open item, as it is added (empty) or done."""
        answer = self._item.answer()
        status = "completed" if whole else "in_progress"
        if self._kind == "reasoning":
            return _reasoning_item(self._id, answer.reasoning if whole else None, status)
        if self._kind == "text":
            parts = [self._part(answer.text)] if whole else []
            return _message_item(self._id, parts, status)
        call = answer.tool_calls[0]
        item = _call_item(self._id, call, self._known, status)
        return item if whole or "input" not in item else item | {"input": ""}

    def end(self) -> list[bytes]:
        """Closes the open item and the response."""
        answer = self._all.answer()
        cut = answer.finish_reason == "length"
        events = self._close("incomplete" if cut else "completed")
        response = _response(self._reply, self._asked, answer, self._done)
        name = "response.incomplete" if cut else "response.completed"
        return [*events, self._event(name, response=response)]

    def fail(self, error: SnuglyError) -> list[bytes]:
        """The response, failed."""
        told = openai_error(error)["error"]
        response = _response(self._reply, self._asked, None, self._done) | {
            "status": "failed",
            "error": {"code": told["code"] or "server_error", "message": told["message"]},
        }
        return [self._event("response.failed", response=response)]

    def ping(self) -> bytes:
        """A comment, which every reader of events skips."""
        return b": ping\n\n"

    def _part_event(self, name: str, /, **fields: Any) -> bytes:
        return self._item_event(name, content_index=0, **fields)

    def _item_event(self, name: str, /, **fields: Any) -> bytes:
        where: Body = {"output_index": len(self._done)}
        if "item" not in fields:
            where["item_id"] = self._id
        return self._event(name, **where, **fields)

    def _event(self, name: str, /, **fields: Any) -> bytes:
        self._sequence += 1
        body = {"type": name, "sequence_number": self._sequence - 1, **fields}
        return event(body, name)
