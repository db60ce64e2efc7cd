"""What OpenAI's two chat dialects share in reading: messages, parts, tools, reasoning."""

from collections.abc import Mapping

from snugly.chat.types import Message, Part, Reasoning, Text, Tool, ToolCall, ToolChoice
from snugly.server.dialects import sampling
from snugly.server.dialects.faults import BadRequest
from snugly.server.dialects.images import image_of_url
from snugly.server.dialects.reading import Fields

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_ROLES = {"developer": "system", "function": "tool"}


def message(fields: Fields) -> Message:
    """One turn."""
    role = fields.word("role", ("system", "developer", "user", "assistant", "tool", "function"))
    if not role:
        raise fields.wrong("role", "given")
    calls = tuple(_call(c) for c in fields.objects("tool_calls"))
    content = parts_of(fields, "content")
    if not content and role != "assistant" and fields.raw("content") is None:
        raise fields.wrong("content", "given")
    if calls and role != "assistant":
        raise fields.wrong("tool_calls", "with the assistant's messages only")
    return Message(
        _ROLES.get(role, role),
        content,
        fields.text("reasoning_content", "reasoning") if role == "assistant" else "",
        calls,
        fields.text("tool_call_id"),
        fields.text("name"),
    )


def parts_of(fields: Fields, name: str) -> str | tuple[Part, ...]:
    """A message's content: text, or a list of parts; words alone are joined."""
    value = fields.raw(name)
    if value is None or isinstance(value, str):
        return fields.text(name)
    parts = [_part(p) for p in fields.objects(name)]
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    return tuple(parts)


def _part(fields: Fields) -> Part:
    kind = fields.text("type")
    if kind in ("text", "input_text", "output_text"):
        return Text(fields.text("text"))
    if kind == "refusal":
        return Text(fields.text("refusal"))
    if kind in ("image_url", "input_image"):
        holder = fields
        if isinstance(fields.raw("image_url"), Mapping):
            holder, name = fields.inner("image_url") or fields, "url"
        else:
            name = "image_url"
        return image_of_url(holder.needed(name), holder.at(name))
    raise BadRequest(
        f"`{fields.at('type')}` is {kind[:40]!r}; only text and pictures can be read here.",
        fields.at("type"),
    )


def _call(fields: Fields) -> ToolCall:
    function = fields.inner("function")
    if function is None:
        raise fields.wrong("function", "given")
    return ToolCall(fields.text("id"), function.needed("name"), sampling.arguments(function))


def tool(fields: Fields) -> Tool:
    """A function as the chat dialect wraps it; other kinds of tools are refused."""
    if fields.text("type", default="function") != "function":
        raise fields.wrong("type", '"function": no other kind of tool is run here')
    function = fields.inner("function")
    if function is None:
        raise fields.wrong("function", "given")
    return sampling.tool(function)


def tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> ToolChoice:
    """Which tools may be called: a word, or an object that names them."""
    value = fields.raw("tool_choice")
    if value is None or isinstance(value, str):
        word = fields.word("tool_choice", ("auto", "none", "required"), default="auto")
        if word == "required" and not tools:
            raise fields.wrong("tool_choice", '"required" only where there are `tools`')
        return ToolChoice(
            "none" if word == "none" else "required" if word == "required" else "auto"
        )
    return chosen_tools(Fields(value, "tool_choice"), tools)


def chosen_tools(choice: Fields, tools: tuple[Tool, ...]) -> ToolChoice:
    """One named function, or some that are allowed, in the shape of chat or of Responses."""
    kind = choice.text("type")
    if kind == "function":
        holder = choice.inner("function") or choice
        only = (holder.needed("name"),)
        return ToolChoice("required", sampling.tool_names(tools, only, holder.at("name")))
    if kind == "allowed_tools":
        holder = choice.inner("allowed_tools") or choice
        mode = holder.word("mode", ("auto", "required"), default="auto")
        allowed = [t.inner("function") or t for t in holder.objects("tools", sampling.MAX_TOOLS)]
        names = tuple(t.needed("name") for t in allowed)
        known = sampling.tool_names(tools, names, holder.at("tools"))
        return ToolChoice("required" if mode == "required" else "auto", known)
    raise choice.wrong("type", '"function" or "allowed_tools"')


def reasoning(fields: Fields) -> Reasoning:
    """`reasoning_effort`, and the ways of llama.cpp, vLLM and OpenRouter beside it."""
    effort = fields.word("reasoning_effort", EFFORTS) or None
    nested = fields.inner("reasoning")
    if nested is not None and effort is None:
        effort = nested.word("effort", EFFORTS) or None
    enabled: bool | None = None
    template = fields.inner("chat_template_kwargs")
    if template is not None:
        enabled = template.maybe("enable_thinking")
        effort = effort or template.word("reasoning_effort", EFFORTS) or None
    budget = fields.integer("thinking_budget_tokens", "reasoning_budget", low=-1)
    if effort == "none":
        return Reasoning(False)
    return Reasoning(enabled, effort, None if budget == -1 else budget)


def prediction(fields: Fields) -> str:
    """Text that the answer will probably repeat."""
    given = fields.inner("prediction")
    if given is None:
        return ""
    content = parts_of(given, "content")
    return content if isinstance(content, str) else ""
