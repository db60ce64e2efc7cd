"""Mistral's fill-in-the-middle: `/v1/fim/completions`, with answers in the shape of a chat.

Source: https://docs.mistral.ai/api (FIM); Continue and Tabby read
`choices[0].delta.content`.
"""

from collections.abc import Mapping
from typing import Any

from snugly.chat.requests import InfillRequest
from snugly.server.dialects import sampling
from snugly.server.dialects.openai_chat import ChatWriter, write
from snugly.server.dialects.reading import Fields

__all__ = ["FimWriter", "read", "write"]


def read(body: Mapping[str, Any]) -> InfillRequest:
    """A body with `prompt` and, if there is anything after the cursor, `suffix`.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    prompt, suffix = fields.text("prompt"), fields.text("suffix")
    if not prompt and not suffix:
        raise fields.wrong("prompt", "given")
    common: dict[str, Any] = sampling.sampling(fields) | sampling.options(fields)
    return InfillRequest(
        prompt,
        suffix,
        model=fields.text("model"),
        max_tokens=sampling.most_tokens(fields, "max_tokens"),
        stream=fields.flag("stream"),
        **common,
        ignored=fields.unread(),
    )


class FimWriter(ChatWriter):
    """A streamed answer. Every chunk has text: Tabby ends its process over one without."""

    last_delta: Mapping[str, Any] = {"content": ""}
