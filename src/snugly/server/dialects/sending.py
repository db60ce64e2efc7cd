"""Bytes on their way to a client: JSON, server-sent events, lines of JSON."""

import json
from typing import Any

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
DONE = b"data: [DONE]\n\n"

# Clients that split lines as `str.splitlines` does (httpx's iter_lines, which the ollama
# package uses) would cut an object at these, which JSON may hold as they are.
_BREAKS = {ord(c): f"\\u{ord(c):04x}" for c in "\u0085\u2028\u2029"}
# `json.dumps` makes a new encoder for every call with options of its own.
_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8, without anything that some client takes for the end of a line."""
    text = _text(value)
    if text.isascii():
        return text.encode()
    return text.translate(_BREAKS).encode("utf-8", "replace")


def event(value: Any, name: str = "") -> bytes:
    """A server-sent event with `value` as its data."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + dump(value) + b"\n\n"


def line(value: Any) -> bytes:
    """A line of JSON."""
    return dump(value) + b"\n"
