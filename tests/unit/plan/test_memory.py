"""Figures that a reader can check by hand, or against llama.cpp's own log."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, layer, spec, specs

from snugly.model.spec import spec_of
from snugly.model.types import Attention, AttentionKind, GgufHeader, ModelSpec, Tensor
from snugly.plan.memory import (
    CACHE_TYPES,
    CHECKPOINTS,
    cells,
    checkpoint_bytes,
    estimate,
    kv_bytes,
    repack_bytes,
)
from snugly.units import GiB, MiB

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/golden/kv"
MODELS: dict[str, Any] = json.loads((GOLDEN / "models.json").read_text())
LOGGED: dict[str, Any] = json.loads((GOLDEN / "logged.json").read_text())
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


def test_repacked_are_matrices_of_the_engines_types_but_not_the_embedding() -> None:
    def tensor(name: str, kind: str, *shape: int) -> Tensor:
        return Tensor(name, shape, kind, 0, 100)

    model = spec(
        tensors=(
            tensor("blk.0.ffn_up.weight", "Q4_K", 256, 8),
            tensor("blk.0.ffn_down.weight", "Q6_K", 256, 8),
            tensor("token_embd.weight", "Q4_K", 256, 8),
        )
    )
    assert repack_bytes(model, CPU_ENGINE) == 100
    # Tied, the embedding is the output head too, and that is multiplied. Seen on SmolLM2
    # in pure Q4_0: `CPU_REPACK model buffer size = 72.14 MiB`, 15.2 of them token_embd.
    assert repack_bytes(replace(model, tied_embeddings=True), CPU_ENGINE) == 200


def test_cells_come_in_steps_of_256_and_never_exceed_the_context() -> None:
    assert cells(layer(), 2000, 512) == 2048
    assert cells(layer(window=1024), 512, 512) == 512
    assert cells(layer(window=1000), 32768, 512) == 1536


def golden(name: str) -> ModelSpec:
    own = {f"{MODELS[name]['architecture']}.{k}": v for k, v in MODELS[name]["metadata"].items()}
    lengths = {key: len(value) for key, value in own.items() if isinstance(value, list)}
    known = {"general.architecture": MODELS[name]["architecture"]} | own
    return spec_of(GgufHeader("/m.gguf", 3, 0, 0, known, lengths, ()), [], 0)


@pytest.mark.parametrize("name", LOGGED)
def test_every_kind_of_attention_takes_what_llama_cpp_logged(name: str) -> None:
    """Exact, but for the log's rounding of each cache to 0.01 MiB."""
    for setting, caches in LOGGED[name].items():
        context, kept, n_seq, unified = setting.split("/")
        ours = kv_bytes(
            golden(name), int(context), 512, kept, n_seq=int(n_seq), unified=unified == "True"
        )
        assert ours / MiB == pytest.approx(sum(caches), abs=0.00501 * len(caches)), setting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the bench loads in forked processes")
def test_the_engine_here_still_says_so() -> None:
    bench = [sys.executable, str(ROOT / "bench/kv_accuracy.py"), "--brief"]
    done = subprocess.run([*bench, "qwen2", "mamba2", "cohere2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 exact, 0 off" in done.stdout


def test_cache_types_by_their_bits() -> None:
    one = spec((layer(8, 128),))  # 256 cells of 2 x 1024 elements
    bits = {"F32": 32, "F16": 16, "BF16": 16, "Q8_0": 8.5, "Q5_1": 6, "Q5_0": 5.5, "Q4_1": 5,
            "Q4_0": 4.5, "IQ4_NL": 4.5}  # fmt: skip
    assert set(bits) == set(CACHE_TYPES)
    for kept, each in bits.items():
        assert kv_bytes(one, 256, 512, kept) == 256 * 2048 * each / 8
    assert kv_bytes(one, 256, 512, "Q8_0", "F16") == 256 * 1024 * (8.5 + 16) / 8


def test_types_that_the_engine_refuses_are_refused() -> None:
    with pytest.raises(ValueError, match="80 elements are not whole blocks of 32"):
        kv_bytes(spec((layer(32, 80),)), 4096, 512, "Q8_0")
    with pytest.raises(ValueError, match="Q4_K"):
        kv_bytes(LLAMA_8B, 4096, 512, "Q4_K")


def test_the_full_size_option_of_sliding_layers() -> None:
    assert kv_bytes(GEMMA_3_12B, 32768, 512, swa_full=True) == 12288 * MiB


def test_sequences_share_a_cache_or_divide_the_context() -> None:
    slides = layer(window=1024)
    assert cells(slides, 32768, 512, 4) == 4 * 1024 + 512
    assert cells(slides, 32768, 512, 4, unified=False) == 4 * (1024 + 512)
    assert cells(layer(), 1000, 512, 4) == 1024
    assert cells(layer(), 1000, 512, 3, unified=False) == 3 * 512  # 1024 // 3, in steps of 256


def test_a_state_counts_once_per_sequence_and_in_each_snapshot() -> None:
    mamba = golden("mamba")
    state = mamba.layers[0].state_bytes
    assert kv_bytes(mamba, 4096, 512, n_seq=3) == 3 * 4 * state
    assert checkpoint_bytes(mamba, 4096, 512) == CHECKPOINTS * 4 * state


@given(specs(), st.integers(1, 1 << 18), st.integers(1, 64), st.booleans())
def test_a_smaller_type_never_takes_more(model, context, n_seq, unified) -> None:  # type: ignore[no-untyped-def]
    order = ("Q4_0", "Q5_0", "Q8_0", "F32")
    sizes = [kv_bytes(model, context, 512, t, n_seq=n_seq, unified=unified) for t in order]
    assert sizes == sorted(sizes)


@given(specs(), st.integers(512, 1 << 18), st.integers(512, 1 << 18))
def test_more_context_never_takes_less(model, a, b) -> None:  # type: ignore[no-untyped-def]
    low, high = sorted((a, b))
    assert (
        estimate(model, low, 512, CPU_ENGINE).total_bytes
        <= estimate(model, high, 512, CPU_ENGINE).total_bytes
    )
