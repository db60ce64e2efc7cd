"""Figures that a reader can check by hand, or against llama.cpp's own log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, layer, spec, specs

from snugly.model.types import Attention, AttentionKind, Tensor
from snugly.plan.memory import cells, compute_bytes, estimate, kv_bytes, repack_bytes
from snugly.units import GiB, MiB

LLAMA_8B = spec()
GEMMA_3_12B = spec(tuple(layer(8, 256, 1024 if (i + 1) % 6 else None) for i in range(48)))


def test_llama_8b_needs_one_gib_of_f16_cache_for_8k_tokens() -> None:
    # 32 layers x 8192 tokens x 8 heads x 128 x (K + V) x 2 bytes
    assert kv_bytes(LLAMA_8B, 8192, 512) == 1 * GiB


def test_qwen_7b_at_32k_takes_1792_mib() -> None:
    qwen = spec((layer(4, 128),) * 28)
    assert kv_bytes(qwen, 32768, 512) == 1792 * MiB


@pytest.mark.parametrize(("context", "mib"), [(4096, 736), (8192, 992), (32768, 2528)])
def test_gemma_3_12b_slides_as_llama_cpp_says(context: int, mib: int) -> None:
    assert kv_bytes(GEMMA_3_12B, context, 512) == mib * MiB


def test_a_larger_micro_batch_widens_the_window() -> None:
    assert kv_bytes(GEMMA_3_12B, 32768, 2048) == 3008 * MiB


def test_deepseek_v2_lite_keeps_576_values_per_token_and_layer() -> None:
    latent = spec((Attention(AttentionKind.LATENT, 1, 576, 0),) * 27)
    assert kv_bytes(latent, 32768, 512) == 972 * MiB


def test_smollm2_as_logged_by_the_engine() -> None:
    """`KV buffer size = 45.00 MiB`, `compute buffer size = 16.64 MiB` (xllamacpp, context 2048)."""
    smol = spec(
        (layer(3, 64),) * 30, embedding_length=576, feed_forward_length=1536, vocab_size=49152
    )
    assert kv_bytes(smol, 2048, 512) == 45 * MiB
    assert compute_bytes(smol, 2048, 512) == pytest.approx(16.64 * MiB, rel=0.02)
    assert compute_bytes(smol, 8192, 512) == pytest.approx(22.64 * MiB, rel=0.02)


def test_gemma_3_270m_compute_buffer_as_logged() -> None:
    layers = tuple(layer(1, 256, 512 if (i + 1) % 6 else None) for i in range(18))
    gemma = spec(layers, embedding_length=640, feed_forward_length=2048, vocab_size=262144)
    assert compute_bytes(gemma, 2048, 512) == pytest.approx(21.28 * MiB, rel=0.05)


def test_repacked_are_matrices_of_the_engines_types_but_not_the_embedding() -> None:
    def tensor(name: str, kind: str, *shape: int) -> Tensor:
        return Tensor(name, shape, kind, 0, 100)

    model = spec(
        tensors=(
            tensor("blk.0.ffn_up.weight", "Q4_K", 256, 8),
            tensor("blk.0.ffn_down.weight", "Q6_K", 256, 8),
            tensor("token_embd.weight", "Q4_K", 256, 8),
            tensor("blk.0.bias", "Q4_K", 256),
        )
    )
    assert repack_bytes(model, CPU_ENGINE) == 100


def test_cells_come_in_steps_of_256_and_never_exceed_the_context() -> None:
    assert cells(layer(), 2000, 512) == 2048
    assert cells(layer(window=1024), 512, 512) == 512
    assert cells(layer(window=1000), 32768, 512) == 1536


@given(specs(), st.integers(512, 1 << 18), st.integers(512, 1 << 18))
def test_more_context_never_takes_less(model, a, b) -> None:  # type: ignore[no-untyped-def]
    low, high = sorted((a, b))
    assert (
        estimate(model, low, 512, CPU_ENGINE).total_bytes
        <= estimate(model, high, 512, CPU_ENGINE).total_bytes
    )
