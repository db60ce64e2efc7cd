"""Encoders from their config: counts as published, less the pooling layer that nobody converts."""

from typing import Any

import pytest
from scripts.catalog_make import configs

from snugly.errors import UserError
from snugly.model.config import header_of_config, spec_of_config
from snugly.model.types import AttentionKind

SHAPES = configs()


def config(repository: str, **changes: Any) -> dict[str, Any]:
    return SHAPES[repository].config | changes


@pytest.mark.parametrize(
    ("repository", "published", "pooling_width"),
    [
        # The hub's counts of safetensors; the pooler is width x width + width.
        ("BAAI/bge-small-en-v1.5", 33_360_000, 384),
        ("BAAI/bge-base-en-v1.5", 109_482_240, 768),
        ("BAAI/bge-large-en-v1.5", 335_141_888, 1024),
        ("BAAI/bge-reranker-v2-m3", 567_755_777, 0),
        ("nomic-ai/nomic-embed-text-v1.5", 136_731_648, 0),
    ],
)
def test_parameters_are_the_published_ones(
    repository: str, published: int, pooling_width: int
) -> None:
    pooler = pooling_width * (pooling_width + 1)
    spec = spec_of_config(config(repository), repository)
    # Position ids and the two rows of positions before the first are not converted.
    assert spec.n_params + pooler == pytest.approx(published, abs=3000)


def test_an_encoder_keeps_no_cache_and_cannot_chat() -> None:
    spec = spec_of_config(config("BAAI/bge-m3"), "bge-m3")
    assert not spec.is_causal
    assert {layer.kind for layer in spec.layers} == {AttentionKind.NONE}
    assert spec.context_train == 8192  # 8194 rows, of which two stand before the first


def test_a_reranker_has_a_head() -> None:
    names = {t.name for t in header_of_config(config("BAAI/bge-reranker-v2-m3"), "r").tensors}
    assert {"cls.weight", "cls.output.weight"} <= names
    embedding = {t.name for t in header_of_config(config("BAAI/bge-m3"), "m").tensors}
    assert names - embedding == {"cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"}


def test_nomic_was_trained_for_2048_tokens_and_has_no_positions() -> None:
    header = header_of_config(config("nomic-ai/nomic-embed-text-v1.5"), "nomic")
    assert header.metadata["nomic-bert.context_length"] == 2048
    assert not any(t.name == "position_embd.weight" for t in header.tensors)


def test_a_mixture_of_encoders_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        header_of_config(config("nomic-ai/nomic-embed-text-v1.5", num_experts=8), "moe")
    assert "num_experts" in caught.value.problem
