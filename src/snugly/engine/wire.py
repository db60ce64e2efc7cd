"""Between the internal language and llama-server's OpenAI dialect: pure functions."""

import json
from typing import Any

from snugly.chat.types import ChatRequest, Delta, Usage
from snugly.errors import EngineError, PromptTooLong


def body_of(request: ChatRequest) -> dict[str, Any]:
    """The JSON body of a streamed chat completion."""
    body: dict[str, Any] = {
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
    }
    for name in ("max_tokens", "temperature", "seed"):
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.repeat_penalty is not None:
        body["repeat_penalty"] = request.repeat_penalty
        body["repeat_last_n"] = 256
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        body["response_format"] = _response_format(request.schema)
    return body


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def delta_of(data: str) -> Delta:
    """One event's JSON as a Delta.

    Raises: EngineError for an error event or for anything that is not an event.
    """
    try:
        event = json.loads(data)
    except ValueError:
        raise EngineError(
            "The engine's answer cannot be read.", f"It said {data[:80]!r}."
        ) from None
    if not isinstance(event, dict):
        raise EngineError("The engine's answer cannot be read.", f"It said {data[:80]!r}.")
    if "error" in event:
        raise refusal(event, 500)
    choices = event.get("choices") or [{}]
    piece = choices[0].get("delta") or {}
    return Delta(
        text=piece.get("content") or "",
        reasoning=piece.get("reasoning_content") or "",
        finish_reason=choices[0].get("finish_reason"),
        usage=_usage(event),
    )


def _usage(event: dict[str, Any]) -> Usage | None:
    usage, timings = event.get("usage"), event.get("timings")
    if not usage or not timings:
        return None
    return Usage(
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        cached_tokens=timings.get("cache_n", 0),
        prefill_ms=timings.get("prompt_ms", 0.0),
        decode_ms=timings.get("predicted_ms", 0.0),
        prefill_tps=timings.get("prompt_per_second") or 0.0,
        decode_tps=timings.get("predicted_per_second") or 0.0,
    )


def refusal(body: Any, status: int) -> EngineError | PromptTooLong:
    """The error for a request that the engine refused with `body`."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    if error.get("type") == "exceed_context_size_error":
        return too_long(int(error.get("n_prompt_tokens", 0)), int(error.get("n_ctx", 0)))
    message = str(error.get("message") or f"HTTP status {status}")
    return EngineError("The engine refused the request.", f"It said: {message[:300]}")


def too_long(prompt_tokens: int, context: int) -> PromptTooLong:
    """The error for a prompt that does not fit, with both counts."""
    return PromptTooLong(
        f"The prompt has {prompt_tokens:,} tokens and the context holds {context:,}.",
        "Nothing was cut: an answer to half a question would be worth nothing.",
        "Shorten it, or ask for a longer --context if the model was trained for one"
        " (`snugly show`), or take a model that was.",
    )


class WholeCharacters:
    """Joins characters that arrive in halves.

    An engine that escapes non-ASCII text may send an emoji's two surrogates in two
    events; each alone is not text and could not be printed.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """`text` with what was held before it, less a half that waits for the next."""
        text = self._held + text
        self._held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text[: len(text) - len(self._held)]
        return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
