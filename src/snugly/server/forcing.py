"""A call of a tool for certain, where `tool_choice: "required"` asks for one. Pure.

llama-server lets a model write words before the call, and some never come to one: those whose
template has no place for tools, and small ones that have. So the tools are told in words, and
the answer is bound to a JSON schema that leaves nothing but a call of one of them;
`engine.loose_calls` reads it back. A template that knows tools is tried first: its model was
trained on that.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from snugly.chat.types import ChatRequest, Delta, Message, Tool, ToolChoice
from snugly.engine.loose_calls import LooseCalls

_WORDS = (
    "You answer with the call of one function, as JSON, and with nothing else:"
    ' {"name": NAME, "arguments": {...}}. The functions:\n'
)


def must_call(request: ChatRequest) -> bool:
    """Whether nothing but a call will do."""
    return request.tool_choice.mode == "required" and bool(request.tools)


def knows_tools(template: str) -> bool:
    """Whether a chat template has a place for tools."""
    return "tools" in template


def callable_tools(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools of which one is to be called."""
    only = request.tool_choice.only
    return tuple(tool for tool in request.tools if not only or tool.name in only)


def forced(request: ChatRequest) -> ChatRequest:
    """The request with its tools in words, and a schema that only a call satisfies."""
    tools = callable_tools(request)
    calls = [_call(tool) for tool in tools]
    schema = _shared(tools) | (calls[0] if len(calls) == 1 else {"anyOf": calls})
    told = Message("system", _WORDS + "\n".join(_line(tool) for tool in tools))
    messages = request.messages
    if messages and messages[0].role == "system":
        told = replace(told, content=f"{messages[0].text}\n\n{told.text}")
        messages = messages[1:]
    return replace(
        request, messages=(told, *messages), tools=(), tool_choice=ToolChoice(), schema=schema
    )


def _line(tool: Tool) -> str:
    told = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return json.dumps(told, ensure_ascii=False)


def _call(tool: Tool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.name},
            "arguments": tool.parameters or {"type": "object"},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _shared(tools: tuple[Tool, ...]) -> dict[str, Any]:
    """What the tools' schemas refer to: `#/$defs/...` is looked for at the root."""
    found: dict[str, Any] = {}
    for tool in tools:
        for name in ("$defs", "definitions"):
            inner = tool.parameters.get(name)
            if isinstance(inner, dict):
                found.setdefault(name, {}).update(inner)
    return found


async def as_calls(
    deltas: AsyncGenerator[Delta, None], tools: tuple[Tool, ...]
) -> AsyncGenerator[Delta, None]:
    """The same answer, its JSON as the call that it is; what was cut off stays words."""
    calls = LooseCalls([tool.name for tool in tools])
    async with aclosing(deltas):
        async for delta in deltas:
            for found in calls.feed(delta):
                yield found


async def or_else(
    first: AsyncGenerator[Delta, None], again: AsyncGenerator[Delta, None]
) -> AsyncGenerator[Delta, None]:
    """The first answer if it comes to a call, else the other one; nothing is told before.

    The words of a first answer without a call are lost; its tokens are counted.
    """
    held: list[Delta] = []
    called = False
    async with aclosing(first):
        async for delta in first:
            called = called or bool(delta.tool_calls)
            held.append(delta)
            if called:
                for piece in held:
                    yield piece
                held = []
    if called:
        await again.aclose()
        return
    spent = sum(piece.usage.completion_tokens for piece in held if piece.usage is not None)
    async with aclosing(again):
        async for delta in again:
            usage = delta.usage
            if usage is not None and spent:
                counted = replace(usage, completion_tokens=usage.completion_tokens + spent)
                delta = replace(delta, usage=counted)
            yield delta
