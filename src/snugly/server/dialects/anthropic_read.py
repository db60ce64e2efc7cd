"""Anthropic's messages, read: `/v1/messages` and `/v1/messages/count_tokens`.

Source: https://docs.anthropic.com/en/api/messages, and what the `anthropic` package and
Claude Code send (tests/golden/clients).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from snugly.chat.turns import settled
from snugly.chat.types import (
    ChatRequest,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from snugly.server.dialects import sampling
from snugly.server.dialects.faults import BadRequest
from snugly.server.dialects.images import image_of_base64
from snugly.server.dialects.reading import Fields

# Claude Code begins its system prompt with a line for Anthropic's billing, whose hash (and
# the end of whose version) changes with every request, and may end it with the tokens that
# are left. Both would make every prompt begin anew for the cache, and say nothing to a model.
# Source: https://github.com/ggml-org/llama.cpp/pull/21793,
# https://github.com/jundot/omlx/issues/2881
_BILLING = re.compile(r"\Ax-anthropic-billing-header:(?:[ \t]*[\w.-]+=[^;\n]*;)*[ \t]*\n?")
_COUNTDOWN = re.compile(r"\n*<total_tokens>\s*[\w.,]{1,20}\s*tokens left</total_tokens>")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def steady(text: str) -> str:
    """A part of a system prompt without what changes from request to request."""
    return _COUNTDOWN.sub("", _BILLING.sub("", text))


def read(body: Mapping[str, Any]) -> ChatRequest:
    """A messages request, also that of count_tokens, which has no `max_tokens`.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    messages = _system(fields)
    for turn in fields.objects("messages"):
        messages += _messages(turn)
    if not any(m.role != "system" for m in messages):
        raise fields.wrong("messages", "a list of at least one message")
    tools, left_out = _tools(fields)
    choice, parallel = _tool_choice(fields, tools)
    output = fields.inner("output_config")
    metadata = fields.inner("metadata")
    stop = sampling.stops(fields, "stop_sequences")
    common: dict[str, Any] = sampling.sampling(fields) | sampling.options(fields) | {"stop": stop}
    return ChatRequest(
        settled(messages),
        model=fields.text("model"),
        max_tokens=fields.integer("max_tokens", low=1),
        schema=None if output is None else _schema(output),
        stream=fields.flag("stream"),
        include_usage=True,
        cache_key="" if metadata is None else metadata.text("user_id"),
        tools=tools,
        tool_choice=choice,
        parallel_tools=parallel,
        reasoning=_reasoning(fields, output),
        wants_stop_word=bool(stop),
        **common,
        ignored=(*fields.unread(), *left_out),
    )


def _system(fields: Fields) -> list[Message]:
    value = fields.raw("system")
    if isinstance(value, str):
        texts = [fields.text("system")]
    else:
        texts = [block.text("text") for block in fields.objects("system")]
    texts = [steady(text) for text in texts]
    whole = "\n\n".join(text for text in texts if text.strip())
    return [Message("system", whole)] if whole else []


def _messages(turn: Fields) -> list[Message]:
    """One turn as messages: the results of tools first, then what was said."""
    role = turn.word("role", ("user", "assistant", "system"))
    if not role:
        raise turn.wrong("role", "given")
    value = turn.raw("content")
    if value is None:
        raise turn.wrong("content", "given")
    if isinstance(value, str):
        return [Message(role, turn.text("content"))]
    said = _Said()
    for block in turn.objects("content"):
        said.take(block)
    if said.calls and role != "assistant":
        raise turn.wrong("content", "without tool_use where the role is not assistant")
    found = said.results
    if said.parts or said.calls or said.reasoning:
        content = joined(said.parts)
        found.append(Message(role, content, "".join(said.reasoning), tuple(said.calls)))
    return found


class _Said:
    """What the blocks of one turn hold, sorted by kind."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.reasoning: list[str] = []
        self.calls: list[ToolCall] = []
        self.results: list[Message] = []

    def take(self, block: Fields) -> None:
        """Add one block."""
        kind = block.text("type", default="text")
        if kind == "thinking":
            self.reasoning.append(block.text("thinking"))
        elif kind == "tool_use":
            arguments = sampling.copied(block, "input")
            text = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
            self.calls.append(ToolCall(block.text("id"), block.needed("name"), text))
        elif kind == "tool_result":
            self.results.append(
                Message("tool", _result(block), tool_call_id=block.text("tool_use_id"))
            )
        elif kind != "redacted_thinking":  # encrypted: only its maker can read it
            self.parts += _parts(block, kind)


def joined(parts: list[Part]) -> str | tuple[Part, ...]:
    """Words alone as one text, with pictures as they stand."""
    if all(isinstance(part, Text) for part in parts):
        texts = (part.text for part in parts if isinstance(part, Text))
        # Claude Code puts its countdown into a block of its own after the results of tools.
        return "\n".join(text for text in texts if not _COUNTDOWN.fullmatch(text))
    return tuple(parts)


def _result(block: Fields) -> str | tuple[Part, ...]:
    value = block.raw("content")
    if value is None or isinstance(value, str):
        return block.text("content")
    parts: list[Part] = []
    for inner in block.objects("content"):
        parts += _parts(inner, inner.text("type", default="text"))
    return joined(parts)


def _parts(block: Fields, kind: str) -> list[Part]:
    if kind == "text":
        return [Text(block.text("text"))]
    if kind == "image":
        return [_image(block)]
    if kind == "document":
        return _document(block)
    if kind == "search_result":
        return [Text(f"{block.text('title')}\n{block.text('source')}"), *_content(block)]
    if kind == "tool_reference":  # a tool found by a search; its definition is among the tools
        return [Text(block.text("tool_name"))]
    raise BadRequest(f"`{block.at('type')}` is {kind[:40]!r}, which is not read here.")


def _content(block: Fields) -> list[Part]:
    return [Text(inner.text("text")) for inner in block.objects("content")]


def _image(block: Fields) -> Image:
    source = block.inner("source")
    if source is None:
        raise block.wrong("source", "given")
    if source.text("type") != "base64":
        raise source.wrong("type", '"base64": nothing is fetched from elsewhere')
    return image_of_base64(source.needed("data"), source.at("data"))


def _document(block: Fields) -> list[Part]:
    source = block.inner("source")
    kind = "" if source is None else source.text("type")
    if source is None or kind not in ("text", "content"):
        raise BadRequest(
            f"`{block.at('source')}` is not text.", block.at("source"), "PDF is not read here."
        )
    title = block.text("title")
    parts: list[Part] = [Text(title)] if title else []
    value = source.raw("content")
    if kind == "text" or isinstance(value, str):
        return [*parts, Text(source.text("data", "content"))]
    return parts + _content(source)


def _tools(fields: Fields) -> tuple[tuple[Tool, ...], list[str]]:
    """The tools that a model here can call, and names of those that only Anthropic runs."""
    tools, left_out = [], []
    for index, tool in enumerate(fields.objects("tools", sampling.MAX_TOOLS)):
        kind = tool.text("type", default="custom")
        if kind == "custom" or "input_schema" in tool:
            tools.append(sampling.tool(tool, "input_schema"))
        else:
            left_out.append(f"tools[{index}] ({kind[:60]})")
    return tuple(tools), left_out


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> tuple[ToolChoice, bool | None]:
    choice = fields.inner("tool_choice")
    if choice is None:
        return ToolChoice(), None
    kind = choice.word("type", ("auto", "any", "tool", "none"), default="auto")
    parallel = choice.maybe("disable_parallel_tool_use")
    found = {"auto": ToolChoice(), "any": ToolChoice("required"), "none": ToolChoice("none")}
    if kind == "tool":
        name = choice.needed("name")
        found["tool"] = ToolChoice(
            "required", sampling.tool_names(tools, (name,), "tool_choice.name")
        )
    if kind == "any" and not tools:
        raise choice.wrong("type", '"any" only where there are `tools`')
    return found[kind], None if parallel is None else not parallel


def _schema(output: Fields) -> dict[str, Any] | None:
    shape = output.inner("format")
    return None if shape is None else sampling.response_format(shape)


def _reasoning(fields: Fields, output: Fields | None) -> Reasoning:
    effort = None if output is None else output.word("effort", _EFFORTS) or None
    thinking = fields.inner("thinking")
    if thinking is None:
        # Thinking is off unless asked for, as at Anthropic's.
        return Reasoning(None if effort else False, effort)
    kind = thinking.word("type", ("enabled", "disabled", "adaptive", "between_tools"))
    if not kind:
        raise thinking.wrong("type", "given")
    budget = thinking.integer("budget_tokens", low=1)
    if kind == "disabled":
        return Reasoning(False)
    return Reasoning(True, effort, budget if kind == "enabled" else None)
