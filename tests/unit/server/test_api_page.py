"""docs/api.md names every field that a reader asks for, in the row of its endpoint."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snugly.server.dialects import (
    anthropic,
    fim,
    llamacpp,
    ollama,
    ollama_models,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    rerank,
)

PAGE = (Path(__file__).parents[3] / "docs/api.md").read_text(encoding="utf-8")
SHARED = set(re.findall(r"`(\w+)`", PAGE.partition("Sampling, in every")[2].partition("##")[0]))
HI = [{"role": "user", "content": "hi"}]
READERS: list[tuple[str, Any, dict[str, Any]]] = [
    ("/v1/chat/completions", openai_chat.read, {"messages": HI}),
    ("/v1/completions", openai_completions.read, {"prompt": "a"}),
    ("/v1/responses", openai_responses.read, {"input": "a"}),
    ("/v1/embeddings", openai_embeddings.read, {"input": "a"}),
    ("/v1/rerank", rerank.read, {"query": "q", "documents": ["a"]}),
    ("/v1/messages", anthropic.read, {"messages": HI}),
    ("/v1/fim/completions", fim.read, {"prompt": "a"}),
    ("/api/chat", ollama.read_chat, {"model": "m", "messages": HI}),
    ("/api/generate", ollama.read_generate, {"model": "m", "prompt": "a"}),
    ("/api/embed", ollama.read_embed, {"model": "m", "input": "a"}),
    ("/api/show", ollama_models.read_pull, {"name": "m"}),
    ("/api/show", ollama_models.read_copy, {"source": "a", "destination": "b"}),
    ("/completion", llamacpp.read_completion, {"prompt": "a"}),
    ("/infill", llamacpp.read_infill, {}),
    ("/tokenize", llamacpp.read_tokenize, {"content": "a"}),
    ("/tokenize", llamacpp.read_detokenize, {"tokens": [1]}),
    ("/embedding", llamacpp.read_embedding, {"content": "a"}),
]


class Spied(dict[str, Any]):
    """A body that remembers which names were asked for."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(body)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def row(endpoint: str) -> set[str]:
    """The names in an endpoint's row."""
    line = next(x for x in PAGE.splitlines() if x.startswith(f"| `{endpoint}`"))
    names = set(re.findall(r"`(\w+)`", line))
    return names | (row("/completion") if endpoint == "/infill" else set())


@pytest.mark.parametrize(("endpoint", "read", "body"), READERS, ids=lambda value: str(value)[:24])
def test_every_field_that_is_read_is_on_the_page(
    endpoint: str, read: Any, body: dict[str, Any]
) -> None:
    spied = Spied(body)
    read(spied)
    assert spied.asked - SHARED - row(endpoint) == set()
