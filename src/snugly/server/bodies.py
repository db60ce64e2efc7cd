"""What a client sends, read with limits: its body as bytes, as JSON, and its leaving."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from snugly.server.dialects.faults import HttpFault
from snugly.server.dialects.reading import parse

Receive = Callable[[], Awaitable[dict[str, Any]]]

BODY_SECONDS = 60.0  # how long a client may take to send what it said it would
# Of a body that is too large so much is read and dropped: a connection that is closed on what
# it still sends is reset, and the client never sees why.
_READ_IN_VAIN = 64 * 1024 * 1024
JSON = b"application/json"


class Gone(Exception):
    """The client left, or does not read its answer."""


async def read_body(scope: Mapping[str, Any], receive: Receive, most: int) -> bytes:
    """The body of a request, within its limits.

    Raises: HttpFault 413 for one that is too large, 408 for one that does not come; Gone.
    """
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone("it left before the request was whole")
                piece = message.get("body", b"")
                size += len(piece)
                if size <= most:
                    pieces.append(piece)
                elif size > most + _READ_IN_VAIN:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise HttpFault(408, f"The request did not come whole in {BODY_SECONDS:.0f} s.") from None
    if size > most:
        raise _too_large(most)
    return b"".join(pieces)


def _too_large(most: int) -> HttpFault:
    return HttpFault(
        413,
        "The request is too large.",
        f"At most {most:,} bytes are read.",
        "`serve_body_bytes` in the settings allows more.",
    )


def json_body(scope: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; {} where there is none.

    A form that a foreign page can send without asking is no JSON: the type must say it is.

    Raises: HttpFault 415; BadRequest.
    """
    if not body:
        return {}
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    kind = kinds[0].partition(b";")[0].strip().lower() if len(kinds) == 1 else b""
    if kind != JSON:
        raise HttpFault(
            415,
            "The request must be JSON.",
            f"Its Content-Type is {kind[:60].decode('latin-1') or 'not given'}.",
            "Send `Content-Type: application/json`.",
        )
    return parse(body)


async def left(receive: Receive) -> None:
    """Returns when the client has closed its side."""
    while (await receive())["type"] != "http.disconnect":
        pass


def words_of(body: Mapping[str, Any]) -> str:
    """What a client asked, for a history that keeps words: pictures left out by length."""
    kept = ("messages", "prompt", "input", "system", "input_prefix", "input_suffix", "suffix")
    text = json.dumps({key: body[key] for key in kept if key in body}, ensure_ascii=False)
    return text if len(text) <= 1_000_000 else text[:1_000_000]
