"""Ollama's requests: `/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`.

Source: Ollama docs/api.md and api/types.go, and what the `ollama` package sends
(tests/golden/clients).
"""

from collections.abc import Mapping
from typing import Any

from snugly.chat.requests import CompletionRequest, EmbedRequest, InfillRequest, LoadRequest
from snugly.chat.turns import settled
from snugly.chat.types import (
    ChatRequest,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolChoice,
)
from snugly.server.dialects import sampling
from snugly.server.dialects.images import image_of_base64
from snugly.server.dialects.openai_messages import tool
from snugly.server.dialects.reading import Fields, schema_of

_LEVELS = ("low", "medium", "high", "max")
# Options of Ollama's loader: here the plan decides them, from the memory that is free.
_PLANNED = (
    "numa num_batch num_gpu main_gpu low_vram f16_kv logits_all vocab_only use_mmap use_mlock"
    " embedding_only num_thread num_keep tfs_z penalize_newline mirostat mirostat_tau mirostat_eta"
).split()


def read_chat(body: Mapping[str, Any]) -> ChatRequest | LoadRequest:
    """A chat; without messages it only loads the model, or with `keep_alive` 0 unloads it.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    model = fields.needed("model")
    common, reasoning, ignored = _common(fields)
    turns = fields.objects("messages")
    if not turns:
        return LoadRequest(model, common.get("keep_alive"), common.get("context"))
    tools = tuple(tool(t) for t in fields.objects("tools", sampling.MAX_TOOLS))
    return ChatRequest(
        settled(_turns(turns)),
        model=model,
        tools=tools,
        tool_choice=ToolChoice(),
        reasoning=reasoning,
        trim=fields.flag("truncate"),
        **common,
        ignored=(*fields.unread(), *ignored),
    )


def read_generate(
    body: Mapping[str, Any],
) -> ChatRequest | CompletionRequest | InfillRequest | LoadRequest:
    """A prompt: as a chat of one turn, raw, or to be filled in before `suffix`; empty it loads.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    model = fields.needed("model")
    common, reasoning, ignored = _common(fields)
    prompt, suffix, system = (fields.text(name) for name in ("prompt", "suffix", "system"))
    images = _images(fields)
    raw = fields.flag("raw")
    common["ignored"] = (*fields.unread(), *ignored)
    if not prompt and not suffix and not images:
        return LoadRequest(model, common.get("keep_alive"), common.get("context"))
    if suffix:
        return InfillRequest(prompt, suffix, model=model, **common)
    if raw:
        if images:
            raise fields.wrong("images", "left out where `raw` is set")
        return CompletionRequest((prompt,), model=model, **common)
    turns = [Message("system", system)] if system else []
    turns.append(Message("user", _content(prompt, images)))
    return ChatRequest(tuple(turns), model=model, reasoning=reasoning, **common)


def _common(fields: Fields) -> tuple[dict[str, Any], Reasoning, tuple[str, ...]]:
    """What chat and generate share, the thinking, and names of options that nobody uses."""
    options = fields.inner("options") or Fields({}, "options")
    # -1 is without end and -2 to the end of the context: both mean no limit of the client's.
    limit = options.integer("num_predict", low=-2)
    for name in _PLANNED:
        options.raw(name)
    found: dict[str, Any] = (
        sampling.sampling(options)
        | sampling.options(options)
        | sampling.options(fields)
        | {
            "max_tokens": limit if limit is not None and limit > 0 else None,
            "schema": _format(fields),
            "logprobs": sampling.chat_logprobs(fields),
            "stream": fields.flag("stream", default=True),
            "include_usage": True,
        }
    )
    left = tuple(f"options.{name}" for name in options.unread())
    return found, _think(fields), left


def _think(fields: Fields) -> Reasoning:
    value = fields.raw("think")
    if value is None or isinstance(value, bool):
        return Reasoning(value)
    if value == "":
        return Reasoning()
    return Reasoning(True, fields.word("think", _LEVELS))


def _format(fields: Fields) -> dict[str, Any] | None:
    value = fields.raw("format")
    if value is None or value == "":
        return None
    if isinstance(value, str):
        fields.word("format", ("json",))
        return {}
    return schema_of(value, fields.at("format"))


def _images(fields: Fields) -> tuple[Image, ...]:
    path = fields.at("images")
    return tuple(
        image_of_base64(text, f"{path}[{index}]")
        for index, text in enumerate(fields.texts("images", 1000))
    )


def _content(text: str, images: tuple[Image, ...]) -> str | tuple[Part, ...]:
    return (*images, Text(text)) if images else text


def _turns(turns: list[Fields]) -> list[Message]:
    """Ollama's older clients send no ids with calls: they are numbered, and results follow."""
    found: list[Message] = []
    waiting: list[ToolCall] = []
    count = 0
    for turn in turns:
        role = turn.word("role", ("system", "user", "assistant", "tool"))
        if not role:
            raise turn.wrong("role", "given")
        calls = []
        for call in turn.objects("tool_calls"):
            calls.append(_call(call, f"call_{count}"))
            count += 1
        waiting += calls
        found.append(
            Message(
                role,
                _content(turn.text("content"), _images(turn)),
                turn.text("thinking") if role == "assistant" else "",
                tuple(calls) if role == "assistant" else (),
                _answered(turn, waiting) if role == "tool" else "",
                turn.text("tool_name", "name"),
            )
        )
    return found


def _call(fields: Fields, number: str) -> ToolCall:
    function = fields.inner("function")
    if function is None:
        raise fields.wrong("function", "given")
    arguments = sampling.arguments(function)
    return ToolCall(fields.text("id", default=number), function.needed("name"), arguments)


def _answered(turn: Fields, waiting: list[ToolCall]) -> str:
    """The id of the call that a result answers: named, or the first of that tool, or the first."""
    named = turn.text("tool_call_id")
    if named:
        return named
    tool_name = turn.text("tool_name", "name")
    match = next((call for call in waiting if call.name == tool_name), None)
    match = match or next(iter(waiting), None)
    if match is None:
        return ""
    waiting.remove(match)
    return match.id


def read_embed(body: Mapping[str, Any]) -> EmbedRequest:
    """`/api/embed`, with `input`, and the older `/api/embeddings`, with `prompt`.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    model = fields.needed("model")
    options = fields.inner("options") or Fields({}, "options")
    place: dict[str, Any] = sampling.options(options) | sampling.options(fields)
    prompt = fields.text("prompt")
    inputs = (prompt,) if "prompt" in fields else fields.texts("input", 2048)
    return EmbedRequest(
        model,
        inputs,
        dimensions=fields.integer("dimensions", low=1, high=100_000),
        truncate=fields.flag("truncate", default=True),  # Ollama's default
        **place,
        ignored=fields.unread(),
    )
