"""llama.cpp's own dialect, written: `/completion`, `/infill`, `/tokenize`, `/props` and the like.

Source: llama.cpp tools/server/README.md. Tabby wants `content` and `stop` in every event
(crates/http-api-bindings), llama.vim names the fields that it wants back, and
lm-evaluation-harness speaks of `prompt` where llama.cpp says `content`.
"""

from collections.abc import Sequence
from typing import Any

from snugly.chat.answer import Answer, Gathering
from snugly.chat.requests import Embeddings
from snugly.chat.types import Delta, TokenLogprob, Usage
from snugly.errors import SnuglyError
from snugly.server.dialects.faults import openai_error, status_of
from snugly.server.dialects.llamacpp_read import (
    read_completion,
    read_detokenize,
    read_embedding,
    read_infill,
    read_tokenize,
    response_fields,
)
from snugly.server.dialects.sending import SSE, event
from snugly.server.dialects.types import Body, ModelCard, Reply

__all__ = [
    "RawWriter", "raw_error", "read_completion", "read_detokenize", "read_embedding",
    "read_infill", "read_tokenize", "response_fields", "write", "write_detokenize",
    "write_embeddings", "write_props", "write_tokenize", "write_tokenizer_info",
]  # fmt: skip


def write_tokenize(tokens: Sequence[int], pieces: Sequence[str] | None = None) -> Body:
    """The ids, with their texts where those are wanted; vLLM tells the count too."""
    if pieces is None:
        return {"tokens": list(tokens), "count": len(tokens)}
    both = zip(tokens, pieces, strict=True)
    return {"tokens": [{"id": token, "piece": piece} for token, piece in both]}


def write_detokenize(text: str) -> Body:
    """The text, by llama.cpp's name and by vLLM's."""
    return {"content": text, "prompt": text}


def write_embeddings(found: Embeddings) -> list[Body]:
    """`/embeddings`, as llama.cpp tells it since b4357."""
    return [
        {"index": index, "embedding": [list(vector)]} for index, vector in enumerate(found.vectors)
    ]


def write_tokenizer_info(card: ModelCard) -> Body:
    """`/tokenizer_info`, for lm-evaluation-harness."""
    special = card.special_tokens
    return {
        "tokenizer_class": "GGUF",
        "chat_template": card.chat_template or None,
        "bos_token": special.get("bos"),
        "eos_token": special.get("eos"),
        "pad_token": special.get("padding"),
        "unk_token": special.get("unknown"),
        "model_max_length": card.context_train,
    }


def write_props(card: ModelCard) -> Body:
    """`/props`, without the path of the model, which is nobody's business."""
    loaded = card.loaded
    return {
        "default_generation_settings": {
            "n_ctx": loaded.context if loaded else card.context_train,
            "params": {},
        },
        "total_slots": loaded.slots if loaded else 1,
        "model_alias": card.name,
        "model_path": card.name,
        "chat_template": card.chat_template,
        "bos_token": card.special_tokens.get("bos", ""),
        "eos_token": card.special_tokens.get("eos", ""),
        "modalities": {"vision": "vision" in card.capabilities, "audio": False},
        "is_sleeping": loaded is None,
    }


def timings_of(usage: Usage) -> Body:
    """llama.cpp's `timings`."""
    read = usage.prompt_tokens - usage.cached_tokens
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": read,
        "prompt_ms": usage.prefill_ms,
        "prompt_per_token_ms": usage.prefill_ms / read if read else 0.0,
        "prompt_per_second": usage.prefill_tps,
        "predicted_n": usage.completion_tokens,
        "predicted_ms": usage.decode_ms,
        "predicted_per_token_ms": usage.decode_ms / max(1, usage.completion_tokens),
        "predicted_per_second": usage.decode_tps,
    }


def _logprobs(tokens: Sequence[TokenLogprob]) -> Body:
    if not tokens:
        return {}
    return {
        "completion_probabilities": [
            _entry(token) | {"top_logprobs": [_entry(other) for other in token.top]}
            for token in tokens
        ]
    }


def _entry(token: TokenLogprob) -> Body:
    return {
        "id": token.id,
        "token": token.token,
        "bytes": list(token.raw),
        "logprob": token.logprob,
    }


def _last(reply: Reply, answer: Answer | Gathering, index: int) -> Body:
    """What the last object says beside its text."""
    usage = answer.usage or Usage(0, 0, 0, 0.0, 0.0, 0.0, 0.0)
    kind = "word" if answer.stop_word else "limit" if answer.finish_reason == "length" else "eos"
    return {
        "index": index,
        "stop": True,
        "model": reply.model,
        "tokens_predicted": usage.completion_tokens,
        "tokens_evaluated": usage.prompt_tokens,
        "tokens_cached": usage.prompt_tokens + usage.completion_tokens,
        "truncated": False,
        "stop_type": kind,
        "stopping_word": answer.stop_word,
        "timings": timings_of(usage),
    }


def write(reply: Reply, answer: Answer, wanted: Sequence[str] = (), index: int = 0) -> Body:
    """A whole answer of `/completion` or `/infill`, or what of it is `wanted`."""
    body: Body = {"content": answer.text, "tokens": list(answer.tokens)}
    body |= _last(reply, answer, index) | _logprobs(answer.logprobs)
    return only(body, wanted)


def only(body: Body, wanted: Sequence[str]) -> Body:
    """The fields of `body` that `wanted` names by their paths; all of them for none."""
    if not wanted:
        return body
    found: Body = {}
    for path in wanted:
        value: Any = body
        for name in path.split("/"):
            value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is not _ABSENT:
            found[path] = value
    return found


_ABSENT = object()


class RawWriter:
    """A streamed completion, in llama.cpp's way: no [DONE], the last event says `stop: true`."""

    media_type = SSE

    def __init__(
        self, reply: Reply, wanted: Sequence[str] = (), wants_tokens: bool = False
    ) -> None:
        self._reply = reply
        self._wanted = wanted
        self._wants_tokens = wants_tokens
        self._found: dict[int, Gathering] = {}

    def start(self) -> list[bytes]:
        """Nothing: the first event comes with the first piece."""
        return []

    def feed(self, delta: Delta) -> list[bytes]:
        """One event for one piece."""
        self._found.setdefault(delta.choice, Gathering()).put(delta)
        if not delta.text and not delta.logprobs:
            return []
        body: Body = {
            "index": delta.choice,
            "content": delta.text,
            "tokens": list(delta.tokens) if self._wants_tokens else [],
            "stop": False,
            "id_slot": -1,
        }
        return [event(body | _logprobs(delta.logprobs))]

    def end(self) -> list[bytes]:
        """The last event of each answer, with the counts."""
        found = self._found or {0: Gathering()}
        return [
            event(
                only(
                    {"content": "", "tokens": []} | _last(self._reply, found[index], index),
                    self._wanted,
                )
            )
            for index in sorted(found)
        ]

    def fail(self, error: SnuglyError) -> list[bytes]:
        """An error, told as llama.cpp does."""
        return [event(raw_error(error))]

    def ping(self) -> bytes:
        """A comment, which every reader of events skips."""
        return b": ping\n\n"


def raw_error(error: SnuglyError) -> Body:
    """llama.cpp's error object: OpenAI's, with the status as its code."""
    told = openai_error(error)["error"]
    return {"error": {"code": status_of(error), "message": told["message"], "type": told["type"]}}
