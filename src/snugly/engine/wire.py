"""Between the internal language and llama-server's chat dialect: pure functions.

Source: llama.cpp tools/server (server-common.cpp, server-schema.cpp, server-task.cpp).
"""

import base64
import json
from dataclasses import replace
from typing import Any

from snugly.chat.types import (
    ChatRequest,
    Delta,
    Generation,
    Message,
    Part,
    Text,
    TokenLogprob,
    ToolCallPiece,
    Usage,
)
from snugly.errors import EngineError, PromptTooLong, UserError

REPEAT_LAST_N = 256
_SAME_NAME = (
    "temperature", "top_p", "top_k", "min_p", "typical_p", "presence_penalty",
    "frequency_penalty", "repeat_penalty", "repeat_last_n",
)  # fmt: skip


def body_of(request: ChatRequest) -> dict[str, Any]:
    """The JSON body of a streamed chat completion.

    A prediction is left out: the server has no place for it.
    """
    body: dict[str, Any] = (
        {
            "messages": [_message(m) for m in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        | slot_of(request)
        | sampling(request)
    )
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.schema is not None:
        body["response_format"] = _response_format(request.schema)
    if request.grammar:
        body["grammar"] = request.grammar
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": max(1, request.logprobs)}  # 0 gives none at all
    if request.wants_stop_word and request.stop:
        body["verbose"] = True  # only then is the stop word told
    return body | _tools(request) | _reasoning(request)


def slot_of(request: Generation) -> dict[str, Any]:
    """Which slot answers, and whether what it holds already may be gone on from."""
    pinned = {} if request.slot is None else {"id_slot": request.slot}
    return {"cache_prompt": not request.fresh} | pinned


def sampling(request: Generation) -> dict[str, Any]:
    """How tokens are chosen, by llama.cpp's names; only what was asked for."""
    given = {name: getattr(request, name) for name in _SAME_NAME}
    body = {name: value for name, value in given.items() if value is not None}
    if request.repeat_penalty is not None:
        body.setdefault("repeat_last_n", REPEAT_LAST_N)
    if request.seed is not None and request.seed >= 0:
        body["seed"] = request.seed % 0xFFFFFFFF  # 32 bits, whose largest means random
    if request.stop:
        body["stop"] = list(request.stop)
    if request.logit_bias:
        body["logit_bias"] = [
            [token, False if bias == float("-inf") else bias] for token, bias in request.logit_bias
        ]
    return body


def _message(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if not isinstance(content, str):
        content = [_part(part) for part in content]
    body: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        body["content"] = content or None
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    named = {
        "reasoning_content": message.reasoning,
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
    return body | {name: value for name, value in named.items() if value}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    data = base64.b64encode(part.data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{part.mime};base64,{data}"}}


def _tools(request: ChatRequest) -> dict[str, Any]:
    only = request.tool_choice.only
    tools = [tool for tool in request.tools if not only or tool.name in only]
    if not tools:
        return {}
    functions = [
        {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters or {"type": "object", "properties": {}},
        }
        for tool in tools
    ]
    body: dict[str, Any] = {
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": request.tool_choice.mode,
    }
    if request.parallel_tools is not None:
        body["parallel_tool_calls"] = request.parallel_tools
    return body


def _reasoning(request: ChatRequest) -> dict[str, Any]:
    reasoning = request.reasoning
    template: dict[str, Any] = {}
    if reasoning.enabled is not None:
        template["enable_thinking"] = reasoning.enabled
    if reasoning.effort:
        template["reasoning_effort"] = reasoning.effort
    body: dict[str, Any] = {"chat_template_kwargs": template} if template else {}
    if reasoning.budget is not None:
        body["thinking_budget_tokens"] = reasoning.budget
    return body


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


# ---- and back


def event_of(data: str) -> dict[str, Any]:
    """One event's JSON.

    Raises: EngineError for anything that is not an event; what `refusal` gives for an error.
    """
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise unreadable(data) from None
    if not isinstance(event, dict):
        raise unreadable(data)
    if "error" in event:
        raise refusal(event, 500)
    return event


def unreadable(data: object) -> EngineError:
    """The error for an answer of another shape than llama-server's."""
    return EngineError("The engine's answer cannot be read.", f"It said {str(data)[:80]!r}.")


def delta_of(data: str) -> Delta:
    """One event of a chat completion as a Delta.

    Raises: EngineError for an error event or for anything that is not an event.
    """
    event = event_of(data)
    try:
        choice = (event.get("choices") or [{}])[0]
        piece = choice.get("delta") or {}
        return Delta(
            text=piece.get("content") or "",
            reasoning=piece.get("reasoning_content") or "",
            finish_reason=choice.get("finish_reason"),
            usage=_usage(event),
            tool_calls=tuple(_call_piece(call) for call in piece.get("tool_calls") or ()),
            logprobs=logprobs_of((choice.get("logprobs") or {}).get("content")),
            stop_word=(event.get("__verbose") or {}).get("stopping_word") or "",
        )
    except (AttributeError, KeyError, TypeError, IndexError, ValueError):
        raise unreadable(data) from None


def _call_piece(call: dict[str, Any]) -> ToolCallPiece:
    function = call.get("function") or {}
    return ToolCallPiece(
        int(call.get("index", 0)),
        call.get("id") or "",
        function.get("name") or "",
        function.get("arguments") or "",
    )


def logprobs_of(entries: Any) -> tuple[TokenLogprob, ...]:
    """Log probabilities as llama-server tells them, in chat and in completions."""
    return tuple(
        replace(
            _logprob(entry), top=tuple(_logprob(other) for other in entry.get("top_logprobs") or ())
        )
        for entry in entries or ()
    )


def _logprob(entry: dict[str, Any]) -> TokenLogprob:
    raw = bytes(entry.get("bytes") or ())
    return TokenLogprob(entry["token"], float(entry["logprob"]), raw, entry.get("id"))


def _usage(event: dict[str, Any]) -> Usage | None:
    usage, timings = event.get("usage"), event.get("timings")
    if not usage or not timings:
        return None
    return usage_of(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), timings)


def usage_of(prompt_tokens: int, completion_tokens: int, timings: dict[str, Any]) -> Usage:
    """Counts and llama-server's `timings`."""
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=timings.get("cache_n", 0),
        prefill_ms=timings.get("prompt_ms", 0.0),
        decode_ms=timings.get("predicted_ms", 0.0),
        prefill_tps=timings.get("prompt_per_second") or 0.0,
        decode_tps=timings.get("predicted_per_second") or 0.0,
        drafted_tokens=timings.get("draft_n", 0),
        accepted_tokens=timings.get("draft_n_accepted", 0),
    )


# What llama-server calls the client's fault (server-common.cpp, format_error_response); a
# picture for a model that sees none it calls its own.
_CLIENTS_FAULT = ("invalid_request_error", "not_supported_error")


def refusal(body: Any, status: int) -> EngineError | PromptTooLong | UserError:
    """The error for a request that the engine refused with `body`.

    A UserError where the request was at fault: a grammar that is none, a picture for a
    model that sees none, turns that the model's template does not allow.
    """
    error = body.get("error", body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    if error.get("type") == "exceed_context_size_error":
        return too_long(int(error.get("n_prompt_tokens", 0)), int(error.get("n_ctx", 0)))
    message = str(error.get("message") or f"HTTP status {status}")
    at_fault = error.get("type") in _CLIENTS_FAULT or "input is not supported" in message
    kind = UserError if at_fault else EngineError
    return kind("The engine refused the request.", f"It said: {message[:300]}")


def too_long(prompt_tokens: int, context: int) -> PromptTooLong:
    """The error for a prompt that does not fit, with both counts."""
    return PromptTooLong(
        f"The prompt has {prompt_tokens:,} tokens and the context holds {context:,}.",
        "Nothing was cut: an answer to half a question would be worth nothing.",
        "Shorten it, or ask for a longer --context if the model was trained for one"
        " (`snugly show`), or take a model that was.",
    )
