"""Conversations as chat templates can take them."""

from collections.abc import Iterable
from dataclasses import replace

from snugly.chat.types import Message, Part, Text


def settled(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same words with at most one system message, which stands first, and turns that alternate.

    Clients put rules between turns (Claude Code, Codex, aider) and send several turns of one
    side in a row; the templates of Gemma, Mistral and Qwen 3.5 refuse both. What comes late
    from the system joins the user's turn, in the tags that Claude Code itself uses for that.
    """
    found: list[Message] = []
    for message in messages:
        if message.role == "system" and any(m.role != "system" for m in found):
            words = f"<system-reminder>\n{message.text.strip()}\n</system-reminder>"
            message = Message("user", words)
        if found and _joins(found[-1], message):
            found[-1] = replace(
                found[-1],
                content=_together(found[-1], message),
                tool_calls=message.tool_calls,
                reasoning=found[-1].reasoning + message.reasoning,
            )
        else:
            found.append(message)
    return tuple(found)


def _joins(first: Message, second: Message) -> bool:
    return first.role == second.role != "tool" and not first.tool_calls


def _together(first: Message, second: Message) -> str | tuple[Part, ...]:
    if isinstance(first.content, str) and isinstance(second.content, str):
        return "\n\n".join(text for text in (first.content, second.content) if text)
    return (*_parts(first), *_parts(second))


def _parts(message: Message) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (Text(message.content),) if message.content else ()
    return message.content
