"""Responses that a client may go on from: kept in the history, bounded, for 30 days."""

import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from snugly.chat.answer import Answer, Gathering
from snugly.chat.types import Delta, Image, Message, Part, Text, ToolCall
from snugly.errors import HistoryError
from snugly.history import responses as stored
from snugly.server.calls import Call
from snugly.server.dialects import openai_responses as responses
from snugly.server.dialects.faults import HttpFault
from snugly.server.dialects.responses_read import Asked
from snugly.server.dialects.types import Reply

_PREFIX = "resp_"


def unknown(number: str) -> HttpFault:
    """The error for a response that is not kept, or no more."""
    return HttpFault(
        404,
        f"There is no stored response {number[:80]!r}.",
        "It was never stored, it has expired, or it was too long to be kept.",
        "Send the whole conversation as `input`.",
    )


async def keep(call: Call, asked: Asked, answer: Answer) -> None:
    """Store a response with the conversation that it ends, if its client wants that."""
    if not asked.store:
        return
    reply = Reply(call.id, asked.request.model, call.created)
    body = {
        "turns": [_plain(turn) for turn in responses.turns_after(asked, answer)],
        "response": responses.write(reply, asked, answer),
    }
    text = json.dumps(body, ensure_ascii=False)
    try:
        await call.service.ledger.ask(lambda db: stored.keep(db, _PREFIX + call.id, text))
    except HistoryError:
        return  # the answer is no less good; going on from it will say that it is not there


class Kept:
    """Passes an answer on while it gathers it, and stores it once it is whole."""

    def __init__(self, call: Call, asked: Asked) -> None:
        self._call, self._asked = call, asked
        self._found = Gathering()

    async def through(self, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
        """The same pieces."""
        async with aclosing(deltas):
            async for delta in deltas:
                self._found.put(delta)
                yield delta
        await keep(self._call, self._asked, self._found.answer())


async def _load(call: Call, number: str) -> Mapping[str, Any]:
    text = await call.service.ledger.ask(lambda db: stored.load(db, number))
    if text is None:
        raise unknown(number)
    found: Mapping[str, Any] = json.loads(text)
    return found


async def turns_before(call: Call, number: str) -> tuple[Message, ...]:
    """The conversation that a request goes on with; () where it names none.

    Raises: HttpFault 404 where it is not kept.
    """
    if not number:
        return ()
    return tuple(_message(turn) for turn in (await _load(call, number))["turns"])


async def told(call: Call, number: str) -> Any:
    """A stored response as it was given. Raises: HttpFault 404."""
    return (await _load(call, number))["response"]


def _plain(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if not isinstance(content, str):
        content = [_plain_part(part) for part in content]
    return {
        "role": message.role,
        "content": content,
        "reasoning": message.reasoning,
        "tool_calls": [[call.id, call.name, call.arguments] for call in message.tool_calls],
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }


def _plain_part(part: Part) -> dict[str, str]:
    if isinstance(part, Text):
        return {"text": part.text}
    return {"image": base64.b64encode(part.data).decode(), "mime": part.mime}


def _message(plain: Mapping[str, Any]) -> Message:
    content = plain["content"]
    if not isinstance(content, str):
        content = tuple(_part(part) for part in content)
    return Message(
        plain["role"],
        content,
        plain["reasoning"],
        tuple(ToolCall(*call) for call in plain["tool_calls"]),
        plain["tool_call_id"],
        plain["name"],
    )


def _part(plain: Mapping[str, str]) -> Part:
    if "text" in plain:
        return Text(plain["text"])
    return Image(base64.b64decode(plain["image"]), plain["mime"])
