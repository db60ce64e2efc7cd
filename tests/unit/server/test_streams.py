"""Pieces on their way: what is written once, what is sent together, who does not read."""

import json
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.types import Delta
from snugly.errors import EngineError, SnuglyError
from snugly.server.calls import Call
from snugly.server.dialects.openai_chat import ChatWriter
from snugly.server.dialects.types import Reply

REPLY = Reply("id", 'a "model"\u2028', 1.0)


@given(st.text(min_size=1), st.booleans())
def test_words_alone_are_told_as_any_piece_is(text: str, include_usage: bool) -> None:
    writer = ChatWriter(REPLY, 1, include_usage)
    (quick,) = writer.feed(Delta(text=text))
    assert quick == writer._chunk(0, {"content": text})
    told = json.loads(quick.removeprefix(b"data: "))
    assert told["choices"][0]["delta"]["content"] == text.encode("utf-8", "replace").decode()


class Connection:
    """Takes what is sent; `bodies` are the pieces as they went out."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])


async def settled(*_: Any) -> None:
    pass


def call_of(connection: Connection, **scope: Any) -> Call:
    service: Any = SimpleNamespace(
        config=SimpleNamespace(serve_stall_seconds=0.05), settled=settled, failed=settled
    )
    return Call(service, {"path": "/x", "headers": [], **scope}, connection, "/x", "openai", "me")


async def said(*deltas: Delta, error: SnuglyError | None = None) -> AsyncGenerator[Delta, None]:
    for delta in deltas:
        yield delta
    if error is not None:
        raise error


async def test_what_came_at_once_is_sent_at_once() -> None:
    connection = Connection()
    call = call_of(connection)
    deltas = [Delta("a", more=True), Delta("b"), Delta("c"), Delta("d", more=True), Delta("e")]
    await call.stream(ChatWriter(REPLY), said(*deltas))
    call.ended()
    counts = [body.count(b'"content":"') for body in connection.bodies]
    assert counts == [1, 2, 1, 2, 0]  # the role with empty words, ab, c, de, the end


async def test_what_was_held_is_sent_before_the_error() -> None:
    connection = Connection()
    call = call_of(connection)
    broken = said(Delta("a", more=True), error=EngineError("It broke.", "", ""))
    await call.stream(ChatWriter(REPLY), broken)
    call.ended()
    whole = b"".join(connection.bodies)
    assert whole.index(b'"content":"a"') < whole.index(b"It broke.")
    assert b"[DONE]" not in whole
