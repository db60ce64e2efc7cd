"""Calls of tools that a model writes as plain JSON, without the marks its template asks for.

Small coders do (Qwen2.5-Coder answers {"name": ..., "arguments": ...} bare or between
fences), and the engine passes that on as words. What begins like a call of a tool that was
offered is held back; whole, it is a call, and anything else is words again. Pure but for ids.
"""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from snugly.chat.types import ChatRequest, Delta, ToolCallPiece

# How such answers begin, blanks left out; the name of a tool follows, and a quote.
_FENCES = ("", "[", "```json", "```", "```json[", "```[", "<tool_call>", "<tools>", "<tools>[")
_HEADS = (
    '{"name":"',
    '{"function":"',
    '{"type":"function","name":"',
    '{"type":"function","function":{"name":"',
)
_BETWEEN = re.compile(r"(?:\s|[\[\],;]|```(?:json)?|</?(?:tool_call|tools)>)*")


def names_to_watch(request: ChatRequest) -> tuple[str, ...]:
    """The tools whose calls may come as plain JSON; none where JSON was asked for itself."""
    if request.tool_choice.mode == "none" or request.schema is not None or request.grammar:
        return ()
    only = request.tool_choice.only
    return tuple(tool.name for tool in request.tools if not only or tool.name in only)


class LooseCalls:
    """Takes the pieces of one answer; gives them back with such calls as calls."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._beginnings = tuple(
            f'{fence}{head}{"".join(name.split())}"'
            for fence in _FENCES
            for head in _HEADS
            for name in names
        )
        self._held: list[Delta] = []
        self._head = ""  # the first characters of what is held, blanks left out
        self._watching = bool(names)

    def feed(self, delta: Delta) -> list[Delta]:
        """What can be told now."""
        if not self._watching:
            return [delta]
        if delta.tool_calls:  # the engine knows this model's calls
            return [*self._release(), delta]
        if delta.finish_reason is not None:
            return self._finish(delta)
        if not delta.text:
            return [delta]
        self._held.append(delta)
        if len(self._head) < 400:
            self._head += "".join(delta.text.split())
        return [] if self._may_be_call() else self._release()

    def _may_be_call(self) -> bool:
        head = self._head
        return any(b.startswith(head) or head.startswith(b) for b in self._beginnings)

    def _release(self) -> list[Delta]:
        held, self._held, self._watching = self._held, [], False
        return held

    def _finish(self, last: Delta) -> list[Delta]:
        held = self._release()
        text = "".join(delta.text for delta in held) + last.text
        calls = calls_in(text, self._names)
        if not calls:  # also where the last of them was cut off
            return [*held, last]
        pieces = tuple(
            ToolCallPiece(index, f"call_{secrets.token_hex(8)}", name, arguments)
            for index, (name, arguments) in enumerate(calls)
        )
        return [Delta(tool_calls=pieces), replace(last, text="", finish_reason="tool_calls")]


def calls_in(text: str, names: frozenset[str]) -> list[tuple[str, str]]:
    """Names and arguments, if `text` is calls of these tools and nothing else; empty if not."""
    found: list[tuple[str, str]] = []
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return []
        call = _call_of(value, names)
        if call is None:
            return []
        found.append(call)
        place = _skip(text, place)
    return found


def _skip(text: str, place: int) -> int:
    between = _BETWEEN.match(text, place)
    return between.end() if between else place


def _call_of(value: Any, names: frozenset[str]) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    function = value.get("function")
    if isinstance(function, dict):
        value = function
    name = value.get("name", function)
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, ensure_ascii=False)
