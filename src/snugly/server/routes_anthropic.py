"""Anthropic's routes: messages, and counting their tokens."""

from typing import Any

from snugly.server.calls import Call
from snugly.server.dialects import anthropic
from snugly.server.dialects.sending import SSE
from snugly.server.routing import Body, Route
from snugly.server.writing import asked_of, fitting, gathered, pieces, ready


async def messages(call: Call, body: Body) -> Any:
    """A message."""
    request = await ready(call, anthropic.read(body))
    async with call.service.lend(call, request.model, **asked_of(request)) as lent:
        reply = call.reply(lent.name, lent.lease, lent.wait_ms)
        request = await fitting(call, lent, request)
        deltas = pieces(call, lent, request)
        if request.stream:
            # Its clients show the length of the context from the first event.
            tokens = await lent.lease.running.count_tokens(request)
            await call.stream(anthropic.MessageWriter(reply, tokens), deltas)
            return None
        (answer,) = await gathered(call, deltas)
        return anthropic.write(reply, answer)


async def count(call: Call, body: Body) -> Any:
    """How many tokens a message would have."""
    request = anthropic.read({"max_tokens": 1, **body})
    async with call.service.lend(call, request.model) as lent:
        return anthropic.write_count(await lent.lease.running.count_tokens(request))


ROUTES = (
    Route(
        "POST", "/v1/messages", "anthropic", messages, "A message",
        needs=("messages",), streams=SSE, asks_model=True,
    ),
    Route(
        "POST", "/v1/messages/count_tokens", "anthropic", count, "Count a message's tokens",
        needs=("messages",),
    ),
)  # fmt: skip
