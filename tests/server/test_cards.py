"""What is told of each model, and what its makers recommend."""

from typing import Any

import pytest

from snugly.chat.types import ChatRequest, Message
from snugly.engine.launch import Sampling
from snugly.model.types import Installed
from snugly.server.service import advise
from snugly.server.shelf import Volume
from snugly.settings import settings
from tests.making import LLAMA_PAIRS, gguf_bytes, spec, words_pair
from tests.server.making import served, stock


async def test_a_vocabulary_with_the_markers_fills_in_the_middle() -> None:
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"]
    pairs = tuple(p for p in LLAMA_PAIRS if b"tokenizer.ggml.tokens" not in p)
    words = [*map(str, range(5000)), *marks]
    data = gguf_bytes((*pairs, words_pair("tokenizer.ggml.tokens", words)))
    stock(settings().store, "coder", data=data)
    stock(settings().store, "tiny")
    async with served() as it:
        for name, fills_in in (("coder", True), ("tiny", False)):
            shown = (await it.client.post("/api/show", json={"model": name})).json()
            assert (".Suffix" in shown["template"]) is fills_in
            assert ("insert" in shown["capabilities"]) is fills_in


async def test_every_model_has_a_digest_to_cut() -> None:
    async with served() as it:
        (model,) = (await it.client.get("/api/tags")).json()["models"]
        assert len(model["digest"]) == 64


@pytest.mark.parametrize(("temperature", "penalty"), [(None, 1.1), (0.7, 1.1), (0.0, None)])
def test_the_most_probable_words_are_not_penalised(
    temperature: float | None, penalty: float | None
) -> None:
    installed: Any = Installed
    volume = Volume("m", installed, spec(), Sampling(0.3, 1.1), "")
    asked = ChatRequest((Message("user", "hi"),), temperature=temperature)
    assert advise(asked, volume).repeat_penalty == penalty
