"""OpenAI's embeddings: `/v1/embeddings`.

Source: https://platform.openai.com/docs/api-reference/embeddings. The `openai` package asks
for base64 unless told otherwise.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from snugly.chat.requests import Embeddings, EmbedRequest
from snugly.server.dialects import sampling
from snugly.server.dialects.openai_completions import prompts_of
from snugly.server.dialects.reading import Fields
from snugly.server.dialects.types import Body, Reply


def read(body: Mapping[str, Any]) -> EmbedRequest:
    """An embeddings body.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    inputs = prompts_of(fields, "input")
    if not inputs:
        raise fields.wrong("input", "given")
    place: dict[str, Any] = sampling.options(fields)
    return EmbedRequest(
        fields.text("model"),
        inputs,
        dimensions=fields.integer("dimensions", low=1, high=100_000),
        truncate=fields.flag("truncate"),
        base64=fields.word("encoding_format", ("float", "base64"), default="float") == "base64",
        **place,
        ignored=fields.unread(),
    )


def base64_of(vector: Sequence[float]) -> str:
    """A vector as base64 of its little-endian float32 bytes."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def write(reply: Reply, found: Embeddings, as_base64: bool = False) -> Body:
    """The vectors as a list, or each as base64."""
    return {
        "object": "list",
        "model": reply.model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64_of(vector) if as_base64 else list(vector),
            }
            for index, vector in enumerate(found.vectors)
        ],
        "usage": {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens},
    }
