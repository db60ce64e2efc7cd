"""llama.cpp's own dialect, read: `/completion`, `/infill`, `/tokenize`, `/embedding`.

Source: llama.cpp tools/server/README.md; what llama.vim, Tabby and lm-evaluation-harness
send (tests/golden/clients).
"""

from collections.abc import Mapping
from typing import Any

from snugly.chat.requests import (
    CompletionRequest,
    DetokenizeRequest,
    EmbedRequest,
    ExtraFile,
    InfillRequest,
    TokenizeRequest,
)
from snugly.server.dialects import sampling
from snugly.server.dialects.openai_completions import MAX_LOGPROBS, prompts_of
from snugly.server.dialects.reading import MAX_INT, Fields, schema_of

SAMPLERS = (
    "penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature",
    "infill",
)  # fmt: skip
MAX_EXTRA = 1000
# Wishes that the server fulfils anyway, or that concern nobody but the engine.
_UNDERSTOOD = ("cache_prompt", "response_fields", "return_tokens", "timings_per_token")


def _common(fields: Fields) -> dict[str, Any]:
    given = fields.raw("json_schema")
    for name in _UNDERSTOOD:
        fields.raw(name)
    return (
        sampling.sampling(fields)
        | sampling.options(fields)
        | {
            "model": fields.text("model"),
            "max_tokens": sampling.most_tokens(fields, "n_predict", "max_tokens", low=0),
            "logit_bias": sampling.logit_bias(fields),
            "logprobs": fields.integer("n_probs", low=0, high=MAX_LOGPROBS) or None,
            "schema": None if given is None else schema_of(given, fields.at("json_schema")),
            "grammar": sampling.grammar(fields),
            "stream": fields.flag("stream"),
            "include_usage": True,
        }
    )


def read_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """A body of `/completion`: one prompt, or several.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    prompts = prompts_of(fields, "prompt")
    if not prompts:
        raise fields.wrong("prompt", "given")
    wants_tokens = fields.flag("return_tokens")
    common = _common(fields)
    return CompletionRequest(prompts, wants_tokens=wants_tokens, **common, ignored=fields.unread())


def read_infill(body: Mapping[str, Any]) -> InfillRequest:
    """A body of `/infill`; its `prompt` is what stands between the prefix and the cursor.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    extra = tuple(
        ExtraFile(chunk.text("filename"), chunk.text("text"))
        for chunk in fields.objects("input_extra", MAX_EXTRA)
    )
    common = _common(fields)
    return InfillRequest(
        fields.text("input_prefix") + fields.text("prompt"),
        fields.text("input_suffix"),
        extra=extra,
        predict_ms=_limit(fields, "t_max_predict_ms"),
        prompt_ms=_limit(fields, "t_max_prompt_ms"),
        indent=fields.integer("n_indent", low=0, high=1000),
        samplers=_samplers(fields),
        slot=_slot(fields),
        **common,
        ignored=fields.unread(),
    )


def _limit(fields: Fields, name: str) -> int | None:
    value = fields.integer(name, low=-1)
    return value if value is not None and value > 0 else None


def _slot(fields: Fields) -> int | None:
    value = fields.integer("id_slot", low=-1, high=1000)
    return value if value is not None and value >= 0 else None


def _samplers(fields: Fields) -> tuple[str, ...]:
    """An order of samplers; an unknown one is refused, where llama.cpp would pass over it."""
    names = fields.texts("samplers", 32)
    if not all(name in SAMPLERS for name in names):
        raise fields.wrong("samplers", f"of {', '.join(SAMPLERS)}")
    return names


def response_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What of an answer is wanted back ("timings/prompt_n"); empty for all of it."""
    return Fields(body).texts("response_fields", 200)


def read_tokenize(body: Mapping[str, Any]) -> TokenizeRequest:
    """`/tokenize`, with llama.cpp's names or with vLLM's.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    special = "add_special_tokens" if "add_special_tokens" in fields else "add_special"
    return TokenizeRequest(
        fields.text("model"),
        fields.text("content", "prompt"),
        add_special=fields.flag(special),
        parse_special=fields.flag("parse_special", default=True),
        with_pieces=fields.flag("with_pieces"),
    )


def read_detokenize(body: Mapping[str, Any]) -> DetokenizeRequest:
    """`/detokenize`.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    tokens = fields.listed("tokens", 2**22)
    if not all(
        isinstance(t, int) and not isinstance(t, bool) and 0 <= t <= MAX_INT for t in tokens
    ):
        raise fields.wrong("tokens", "ids of tokens")
    return DetokenizeRequest(fields.text("model"), tuple(tokens))


def read_embedding(body: Mapping[str, Any]) -> EmbedRequest:
    """`/embedding` and `/embeddings`, with `content` (or `input`).

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    inputs = prompts_of(fields, "content" if "content" in fields else "input")
    if not inputs:
        raise fields.wrong("content", "given")
    return EmbedRequest(fields.text("model"), inputs, ignored=fields.unread())
