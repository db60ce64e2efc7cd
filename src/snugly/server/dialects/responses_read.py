"""OpenAI's responses, read: `/v1/responses`.

Source: https://platform.openai.com/docs/api-reference/responses, and what the `openai`
package and Codex send (tests/golden/clients).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snugly.chat.turns import settled
from snugly.chat.types import ChatRequest, Message, Reasoning, Tool, ToolCall, ToolChoice
from snugly.server.dialects import sampling
from snugly.server.dialects.faults import BadRequest
from snugly.server.dialects.openai_messages import EFFORTS, chosen_tools, parts_of
from snugly.server.dialects.reading import Fields
from snugly.server.dialects.sending import dump
from snugly.server.dialects.types import Body


@dataclass(frozen=True, slots=True)
class CalledAs:
    """How a client knows a function: within a namespace, or as a tool of free text."""

    name: str
    namespace: str = ""
    free_text: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A response that was asked for.

    `turns` is the conversation up to here without the instructions, which hold for one
    response only; with the answer it is what a later `previous_response_id` builds on, if
    `store`. `echo` is what the response repeats of the request. `called_as` maps the names
    that the model sees to those of the client, where they differ.
    """

    request: ChatRequest
    turns: tuple[Message, ...]
    store: bool
    echo: Body
    called_as: Mapping[str, CalledAs]


# What a model writes for a tool that takes free text: JSON is all that it can be held to.
FREE_TEXT = "input"
_FREE_TEXT_SCHEMA = {
    "type": "object",
    "properties": {FREE_TEXT: {"type": "string"}},
    "required": [FREE_TEXT],
}
_REPEATED = (
    "instructions", "max_output_tokens", "metadata", "previous_response_id", "prompt_cache_key",
    "reasoning", "temperature", "text", "top_logprobs", "top_p", "user",
)  # fmt: skip


def previous_id(body: Mapping[str, Any]) -> str:
    """The stored response that a request builds on; empty for none.

    Raises: BadRequest.
    """
    return Fields(body).text("previous_response_id")


def read(body: Mapping[str, Any], before: tuple[Message, ...] = ()) -> Asked:
    """A response's body; `before` are the `turns` of the response that it builds on.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    for name in ("conversation", "prompt"):
        if name in fields:
            raise BadRequest(f"`{name}` is stored at OpenAI's, not here.", name)
    if fields.flag("background"):
        raise BadRequest("`background` is not done here.", "background")
    echo = _echo(fields)
    turns = (*before, *_turns(fields))
    tools, called_as, left_out = _tools(fields)
    instructions = fields.text("instructions")
    head = (Message("system", instructions),) if instructions else ()
    if not turns:
        raise fields.wrong("input", "given")
    text = fields.inner("text")
    shape = None if text is None else text.inner("format")
    top = fields.integer("top_logprobs", low=0, high=sampling.MAX_TOP_LOGPROBS)
    wants_logprobs = "message.output_text.logprobs" in fields.texts("include", 100)
    fields.text("previous_response_id")
    common: dict[str, Any] = sampling.sampling(fields) | sampling.options(fields)
    request = ChatRequest(
        settled((*head, *turns)),
        model=fields.text("model"),
        max_tokens=fields.integer("max_output_tokens", low=1),
        logprobs=(top or 0) if wants_logprobs or top else None,
        schema=None if shape is None else sampling.response_format(shape),
        stream=fields.flag("stream"),
        include_usage=True,
        cache_key=fields.text("prompt_cache_key"),
        tools=tools,
        tool_choice=_choice(fields, tools),
        parallel_tools=fields.maybe("parallel_tool_calls"),
        reasoning=_reasoning(fields),
        trim=fields.word("truncation", ("auto", "disabled")) == "auto",
        **common,
        ignored=(*fields.unread(), *left_out),
    )
    return Asked(request, turns, fields.flag("store", default=True), echo, called_as)


def _echo(fields: Fields) -> Body:
    echo: Body = {name: sampling.copied(fields, name) for name in _REPEATED}
    tools = sampling.copied(fields, "tools")
    parallel = fields.maybe("parallel_tool_calls")
    return echo | {
        "tools": tools if isinstance(tools, list) else [],
        "tool_choice": sampling.copied(fields, "tool_choice") or "auto",
        "parallel_tool_calls": parallel is not False,
        "store": fields.flag("store", default=True),
        "truncation": fields.text("truncation", default="disabled"),
    }


def _turns(fields: Fields) -> list[Message]:
    value = fields.raw("input")
    if value is None or isinstance(value, str):
        text = fields.text("input")
        return [Message("user", text)] if text else []
    found: list[Message] = []
    for item in fields.objects("input"):
        turn = _turn(item)
        last = found[-1] if found else None
        # Thoughts, words and calls are items of their own here and one turn everywhere else.
        if turn.role == "assistant" and last is not None and _continues(last, turn):
            found[-1] = Message(
                "assistant",
                last.content or turn.content,
                last.reasoning + turn.reasoning,
                last.tool_calls + turn.tool_calls,
            )
        else:
            found.append(turn)
    return found


def _continues(last: Message, turn: Message) -> bool:
    if last.role != "assistant" or (last.content and turn.content):
        return False
    return not (last.tool_calls and (turn.content or turn.reasoning))


def _turn(item: Fields) -> Message:
    kind = item.text("type", default="message")
    if kind == "message":
        return _message(item)
    if kind in ("function_call", "custom_tool_call"):
        name = _flat(item.text("namespace"), item.needed("name"))
        arguments = item.text("arguments")
        if kind == "custom_tool_call":
            arguments = dump({FREE_TEXT: item.text("input")}).decode()
        return Message(
            "assistant", "", tool_calls=(ToolCall(item.needed("call_id"), name, arguments),)
        )
    if kind in ("function_call_output", "custom_tool_call_output"):
        return Message("tool", parts_of(item, "output"), tool_call_id=item.needed("call_id"))
    if kind == "reasoning":
        pieces = item.objects("content") or item.objects("summary")
        return Message("assistant", "", reasoning="\n".join(p.text("text") for p in pieces))
    raise BadRequest(
        f"`{item.at('type')}` is {kind[:40]!r}, which is not read here.", item.at("type")
    )


def _message(item: Fields) -> Message:
    role = item.word("role", ("system", "developer", "user", "assistant"))
    if not role:
        raise item.wrong("role", "given")
    if item.raw("content") is None:
        raise item.wrong("content", "given")
    return Message("system" if role == "developer" else role, parts_of(item, "content"))


def _flat(namespace: str, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


def _tools(fields: Fields) -> tuple[tuple[Tool, ...], dict[str, CalledAs], list[str]]:
    """The functions a model can call, how the client knows them, and what is left out."""
    tools: list[Tool] = []
    called_as: dict[str, CalledAs] = {}
    left_out: list[str] = []
    for index, given in enumerate(fields.objects("tools", sampling.MAX_TOOLS)):
        kind = given.text("type", default="function")
        if kind == "namespace":
            space = given.needed("name")
            inner = given.objects("tools", sampling.MAX_TOOLS)
        elif kind in ("function", "custom"):
            space, inner = "", [given]
        else:  # run by OpenAI's servers, or unknown
            left_out.append(f"tools[{index}] ({kind[:60]})")
            continue
        for one in inner:
            tool, known = _tool(one, space)
            tools.append(tool)
            if known.name != tool.name or known.free_text:
                called_as[tool.name] = known
    return tuple(tools), called_as, left_out


def _tool(fields: Fields, space: str) -> tuple[Tool, CalledAs]:
    plain = sampling.tool(fields)
    free_text = fields.text("type", default="function") == "custom"
    description, parameters = plain.description, plain.parameters
    if free_text:
        shape = fields.inner("format")
        definition = "" if shape is None else shape.text("definition")
        if definition:
            description += f"\n\nThe input follows this grammar:\n{definition}"
        parameters = _FREE_TEXT_SCHEMA
    tool = Tool(_flat(space, plain.name), description, parameters)
    return tool, CalledAs(plain.name, space, free_text)


def _choice(fields: Fields, tools: tuple[Tool, ...]) -> ToolChoice:
    value = fields.raw("tool_choice")
    if value is None or isinstance(value, str):
        word = fields.word("tool_choice", ("auto", "none", "required"), default="auto")
        if word == "required" and not tools:
            raise fields.wrong("tool_choice", '"required" only where there are `tools`')
        return {"none": ToolChoice("none"), "required": ToolChoice("required")}.get(
            word, ToolChoice()
        )
    if isinstance(value, Mapping) and value.get("type") == "custom":
        value = {**value, "type": "function"}
    return chosen_tools(Fields(value, "tool_choice"), tools)


def _reasoning(fields: Fields) -> Reasoning:
    reasoning = fields.inner("reasoning")
    effort = "" if reasoning is None else reasoning.word("effort", EFFORTS)
    if effort == "none":
        return Reasoning(False)
    return Reasoning(None, effort or None)
