"""What changes from request to request, taken from the front of a prompt. Pure.

An engine goes on from what it has read as far as a prompt begins like an earlier one. One
line with the time of day in a system prompt, and all after it is read anew every minute.
"""

import re
from dataclasses import replace

from snugly.chat.types import ChatRequest, Message, Text

# Claude Code begins its system prompt with a line for Anthropic's billing, whose hash changes
# with every request; programs between it and us hand it on in other dialects.
# Source: https://github.com/1rgs/claude-code-proxy/issues/99
_BILLING = re.compile(r"\Ax-anthropic-billing-header:[^\n]{0,300}(?:\n+|\Z)")
# "Current time: 12:25", "CURRENT DATE/TIME: 2026-02-16 01:08:19 PST", "The current date and
# time is ...T12:25:14Z". Seen in https://github.com/earendil-works/pi/issues/1873,
# https://github.com/HKUDS/nanobot/issues/226,
# https://github.com/danielmiessler/LifeOS/issues/689,
# https://github.com/dimagi/open-chat-studio/issues/3625. A date alone changes once a day.
_NAMED = re.compile(
    r"\b(?:current|today'?s?|present)[ _](?:local[ _])?(?:date|time)", re.IGNORECASE
)
_CLOCK = re.compile(r"(?<!\d)\d{1,2}:[0-5]\d(?!\d)")
_LONGEST = 200  # characters of such a line; in longer ones the time is part of a text


def steady(request: ChatRequest) -> ChatRequest:
    """The request with what is volatile at its end.

    The time stays in the prompt, behind the last question or the last result of a tool.
    """
    messages = request.messages
    if not messages or messages[0].role != "system" or not isinstance(messages[0].content, str):
        return request
    text = _BILLING.sub("", messages[0].content)
    kept, moved = _parted(text)
    if moved and (len(messages) < 2 or messages[-1].role not in ("user", "tool")):
        kept, moved = text, []
    if kept == messages[0].content:
        return request
    first = (replace(messages[0], content=kept),) if kept.strip() else ()
    rest = messages[1:]
    if moved:
        rest = (*rest[:-1], _with(rest[-1], "\n".join(moved)))
    return replace(request, messages=(*first, *rest))


def _parted(text: str) -> tuple[str, list[str]]:
    """The lines that stay, and those that tell the time."""
    kept: list[str] = []
    moved: list[str] = []
    for line in text.split("\n"):
        tells = len(line) <= _LONGEST and _NAMED.search(line) and _CLOCK.search(line)
        (moved if tells else kept).append(line)
    return "\n".join(kept), moved


def _with(message: Message, words: str) -> Message:
    """A message with a remark of the system, in the tags that `chat.turns` uses."""
    remark = f"\n\n<system-reminder>\n{words}\n</system-reminder>"
    if isinstance(message.content, str):
        return replace(message, content=message.content + remark)
    return replace(message, content=(*message.content, Text(remark)))
