"""Bytes per pool: figures as llama.cpp logs them, and what must hold for any placement."""

import csv
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, layer

from snugly.machine.types import Pool
from snugly.model.types import Attention, AttentionKind, Build, LayerWeights
from snugly.plan.batch import spread
from snugly.plan.memory import pool_uses
from snugly.plan.placement import best_placement, placements
from snugly.plan.profile import profile_of
from snugly.plan.types import EngineFacts, Extras, Placement, PoolUse, Setup
from snugly.units import GiB, MiB

RAM = (Pool("RAM", 0, 0),)
POOLS = (*RAM, Pool("GPU 0", 0, 0), Pool("GPU 1", 0, 0))
CUDA = EngineFacts("llama.cpp", 32 * MiB, frozenset({"Q4_K"}), "cuda", 457 * MiB, 64 * MiB)
METAL = EngineFacts("xllamacpp", 32 * MiB, frozenset(), "metal")


def build(
    layers: tuple[Attention, ...] | None = None,
    dense: int = 138_936_320,
    experts: int = 0,
    embedding: int = 4096,
    inner: int = 14336,
    vocab: int = 128256,
    used: int = 0,
    **changes: Any,
) -> Build:
    """Llama 3.1 8B in Q4_K_M, unless told otherwise."""
    layers = layers or (layer(),) * 32
    names = [("attn_output", embedding, embedding)]
    if inner:
        names += [("ffn_down", inner, embedding), ("ffn_gate", embedding, inner),
                  ("ffn_up", embedding, inner)]  # fmt: skip
    if experts:
        names += [("ffn_down_exps", 768, embedding), ("ffn_gate_exps", embedding, 768),
                  ("ffn_up_exps", embedding, 768)]  # fmt: skip
    each = LayerWeights((("Q4_K", dense),), (("Q4_K", experts),) if experts else ())
    values: dict[str, Any] = {
        "name": "Test", "architecture": "llama", "file_type": "Q4_K_M", "file_bytes": 0,
        "n_params": 8_030_261_248, "layers": layers, "weights": (each,) * len(layers),
        "embedding": (("Q4_K", 295_501_824),), "output": (("Q6_K", 430_940_160),),
        "tied_embeddings": False, "context_train": 131072, "embedding_length": embedding,
        "feed_forward_length": inner, "n_heads": embedding // 128, "vocab_size": vocab,
        "n_merges": 0, "experts": 128 if experts else 0, "experts_used": used,
        "is_causal": True, "widths": tuple(sorted(names)),
    }  # fmt: skip
    return Build(**(values | changes))


LLAMA = build()
MIXTURE = build((layer(4),) * 48, 12 * MiB, 360 * MiB, 2048, 0, 151936, 8, architecture="qwen3moe")


def uses(model: Build, setup: Setup, placement: Placement, engine: EngineFacts = CUDA,
         extras: Extras | None = None) -> tuple[PoolUse, ...]:  # fmt: skip
    return pool_uses(model, setup, placement, POOLS, engine, extras or Extras())


def test_llama_8b_on_the_cpu_as_logged() -> None:
    """`KV buffer size = 512.00 MiB`, `compute buffer size = 128.02 MiB`, `output 0.49 MiB`."""
    (ram,) = pool_uses(LLAMA, Setup(4096), Placement(), RAM, CPU_ENGINE)
    assert ram.kv_bytes == 512 * MiB
    assert ram.compute_bytes / MiB == pytest.approx(128.02 + 0.49, abs=0.02)
    assert ram.weights_bytes == 32 * 138_936_320 + 295_501_824 + 430_940_160
    assert ram.repack_bytes == 32 * 138_936_320


def test_smollm2_on_the_cpu_as_logged() -> None:
    """`CPU compute buffer size = 16.64 MiB`, output 0.19 MiB (xllamacpp, context 2048)."""
    smol = build((layer(3, 64),) * 30, embedding=576, inner=1536, vocab=49152)
    (ram,) = pool_uses(smol, Setup(2048), Placement(), RAM, CPU_ENGINE)
    assert ram.kv_bytes == 45 * MiB
    assert ram.compute_bytes / MiB == pytest.approx(16.64 + 0.19, abs=0.02)


def test_layers_go_to_gpus_from_the_last_one_on() -> None:
    ram, first, second = uses(LLAMA, Setup(4096), Placement((10, 7)))
    # 17 of 33: 16 layers and the head, so layers 16..25 and 26..31.
    assert first.weights_bytes == 10 * 138_936_320
    assert second.weights_bytes == 6 * 138_936_320 + 430_940_160
    assert ram.weights_bytes == 16 * 138_936_320 + 295_501_824
    assert (ram.kv_bytes, first.kv_bytes, second.kv_bytes) == (256 * MiB, 160 * MiB, 96 * MiB)
    assert ram.repack_bytes == 0  # a GPU's host memory comes before other layouts


def test_experts_and_caches_may_stay_in_ram() -> None:
    setup = Setup(4096)
    ram, gpu, _ = uses(MIXTURE, setup, Placement((49,), cpu_experts=20, kv_on_gpu=False))
    assert gpu.weights_bytes == 48 * 12 * MiB + 28 * 360 * MiB + 430_940_160
    assert ram.weights_bytes == 20 * 360 * MiB + 295_501_824
    assert gpu.kv_bytes == 0
    assert ram.kv_bytes == 48 * 4096 * 4 * 2 * 128 * 2


def test_a_tied_head_stands_twice_only_where_it_is_apart_from_the_embedding() -> None:
    tied = build(tied_embeddings=True, output=(("Q4_K", 295_501_824),), tied_bytes=295_501_824)
    here = uses(tied, Setup(4096), Placement())
    apart = uses(tied, Setup(4096), Placement((33,)))
    layers = 32 * 138_936_320
    assert sum(use.weights_bytes for use in here) == layers + 295_501_824
    assert sum(use.weights_bytes for use in apart) == layers + 2 * 295_501_824


def test_layers_that_only_draft_are_not_loaded() -> None:
    drafting = replace(layer(), cached=False)
    model = build((*(layer(),) * 31, drafting))
    usual = uses(model, Setup(4096), Placement())[0].weights_bytes
    names = (*model.widths, ("nextn.eh_proj", 8192, 4096))
    (ram, *_) = uses(replace(model, widths=names), Setup(4096), Placement())
    assert usual - ram.weights_bytes == 138_936_320


def test_a_single_pool_holds_everything_of_a_unified_machine() -> None:
    shared = (Pool("unified", 0, 0),)
    (one,) = pool_uses(LLAMA, Setup(4096), Placement((33,)), shared, METAL)
    assert one.kv_bytes == 512 * MiB
    assert one.weights_bytes == 32 * 138_936_320 + 295_501_824 + 430_940_160


def test_extras_go_where_llama_cpp_puts_them() -> None:
    small = build((layer(),) * 8, dense=10 * MiB)
    more = Extras(100 * MiB, 33 * MiB, small, Setup(4096))
    setup, placement = Setup(4096), Placement((17, 16))
    without = uses(LLAMA, setup, placement)
    beside = uses(LLAMA, setup, placement, extras=more)
    grown = [b.total_bytes - w.total_bytes for w, b in zip(without, beside, strict=True)]
    assert [b.extras_bytes for b in beside] == grown
    assert grown[1] > 100 * MiB + 17 * MiB  # the projector, and the adapters of its layers
    assert grown[2] > 8 * 10 * MiB + 8 * 16 * MiB  # the drafter, and its cache


def test_each_gpu_that_is_used_costs_its_context() -> None:
    ram, first, second = uses(LLAMA, Setup(4096), Placement((33, 0)))
    assert (first.overhead_bytes, second.overhead_bytes) == (457 * MiB, 0)
    assert second.total_bytes == 0
    alone = uses(LLAMA, Setup(4096), Placement())[0]
    assert ram.overhead_bytes - alone.overhead_bytes == 64 * MiB


def test_more_layers_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="34 layers are placed on GPUs; there are 33"):
        spread(Placement((34,)), 32)


@st.composite
def builds(draw: st.DrawFn) -> Build:
    """Dense models and mixtures of many sizes."""
    kinds = st.builds(
        layer, st.integers(1, 16), st.sampled_from((64, 128)), st.sampled_from((None, 512))
    )
    layers = tuple(draw(st.lists(kinds, min_size=1, max_size=3))) * draw(st.integers(1, 20))
    return build(
        layers,
        dense=draw(st.integers(1 * MiB, 1 * GiB)),
        experts=draw(st.sampled_from((0, 50 * MiB, 2 * GiB))),
        embedding=draw(st.sampled_from((512, 2048, 8192))),
        inner=draw(st.sampled_from((1024, 14336))),
        used=draw(st.integers(1, 8)),
    )


SETUPS = st.builds(
    Setup,
    st.integers(512, 1 << 17),
    st.integers(1, 8),
    st.sampled_from(("F16", "Q8_0", "Q4_0")),
    ubatch=st.sampled_from((128, 512, 2048)),
    flash_attention=st.booleans(),
)
ENGINES = st.sampled_from((CPU_ENGINE, CUDA, METAL))


@given(builds(), SETUPS, ENGINES, st.data())
@settings(max_examples=150)
def test_nothing_is_negative_and_layers_leave_the_ram(model, setup, engine, data) -> None:  # type: ignore[no-untyped-def]
    n_layers = len(model.layers)
    first = data.draw(st.integers(0, n_layers))
    second = data.draw(st.integers(0, n_layers - first))
    experts = data.draw(st.integers(0, n_layers))
    placement = Placement((first, second), experts, data.draw(st.booleans()))
    found = uses(model, setup, placement, engine)
    for use in found:
        parts = (use.weights_bytes, use.repack_bytes, use.kv_bytes, use.compute_bytes,
                 use.extras_bytes, use.overhead_bytes)  # fmt: skip
        assert min(parts) >= 0
        assert use.total_bytes == sum(parts)
    more = uses(model, setup, Placement((first, second + 1), experts, placement.kv_on_gpu), engine)
    assert more[0].weights_bytes <= found[0].weights_bytes
    assert more[0].kv_bytes <= found[0].kv_bytes
    weights = sum(use.weights_bytes for use in found)
    assert weights == profile_of(model).dense[-1] + profile_of(model).experts[-1] + (
        295_501_824 + 430_940_160
    )


@given(builds(), SETUPS, ENGINES, st.integers(0, 60))
def test_a_smaller_cache_type_never_needs_more(model, setup, engine, count) -> None:  # type: ignore[no-untyped-def]
    """On no pool; where CUDA widens a small cache to f16 it may need more on that one GPU."""
    placement = Placement((min(count, len(model.layers) + 1),))
    if engine is CUDA:
        engine = METAL
    sizes = [
        uses(model, replace(setup, kv_type=kind), placement, engine)
        for kind in ("Q4_0", "Q8_0", "F16", "F32")
    ]
    for smaller, larger in zip(sizes, sizes[1:], strict=False):
        for a, b in zip(smaller, larger, strict=True):
            assert a.total_bytes <= b.total_bytes


@given(builds(), SETUPS, st.lists(st.integers(0, 80 * GiB), min_size=2, max_size=3), ENGINES)
@settings(max_examples=100)
def test_no_placement_exceeds_a_budget(model, setup, budgets, engine) -> None:  # type: ignore[no-untyped-def]
    found = list(placements(model, setup, budgets, engine))
    for placement, uses in found:
        taken = pool_uses(model, setup, placement, POOLS[: len(budgets)], engine)
        assert all(use.total_bytes <= most for use, most in zip(taken, budgets, strict=True))
        assert [use.total_bytes for use in uses] == [use.total_bytes for use in taken]
    assert best_placement(model, setup, budgets, engine) == (found[0][0] if found else None)


def test_the_fullest_placement_cannot_take_one_layer_more() -> None:
    setup, budgets = Setup(8192), (64 * GiB, 4 * GiB)
    found = best_placement(LLAMA, setup, budgets, CUDA)
    assert found is not None
    (count,) = found.gpu_layers
    assert 0 < count < 33
    more = uses(LLAMA, setup, Placement((count + 1,)))
    assert more[1].total_bytes > 4 * GiB


def test_experts_stay_in_ram_before_whole_layers_do() -> None:
    (first, _), (second, _), *_ = placements(MIXTURE, Setup(8192), (64 * GiB, 8 * GiB), CUDA)
    assert (sum(first.gpu_layers), sum(second.gpu_layers) < 49) == (49, True)
    assert 0 < first.cpu_experts < 48


def test_two_gpus_are_filled_by_what_they_have_free() -> None:
    setup, budgets = Setup(8192), (64 * GiB, 12 * GiB, 8 * GiB)
    found = best_placement(MIXTURE, setup, budgets, CUDA)
    assert found is not None
    assert found.cpu_experts == 0
    assert found.gpu_layers[0] > found.gpu_layers[1] > 0


def test_nothing_fits_where_there_is_nothing() -> None:
    assert best_placement(LLAMA, Setup(4096), (1 * GiB,), CPU_ENGINE) is None
    assert best_placement(LLAMA, Setup(4096), (1 * GiB, 1 * GiB), CUDA) is None


@pytest.mark.parametrize("kind", [AttentionKind.RECURRENT, AttentionKind.LATENT])
def test_a_cache_type_that_a_head_does_not_divide_is_refused(kind: AttentionKind) -> None:
    odd = build((layer(8, 80), Attention(kind, 1, 80, 0)))
    with pytest.raises(ValueError, match="80 elements are not whole blocks of 32"):
        uses(odd, Setup(4096, kv_type="Q8_0"), Placement())


GOLDEN = Path(__file__).parents[2] / "golden"


def _allocated() -> list[dict[str, str]]:
    with (GOLDEN / "pools/devices.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _bench() -> Any:
    bench = str(Path(__file__).parents[3] / "bench")
    sys.path.insert(0, bench)
    try:
        return importlib.import_module("device_memory")
    finally:
        sys.path.remove(bench)


@pytest.mark.parametrize(
    "name",
    ["Qwen__Qwen3-8B", "Qwen__Qwen3-30B-A3B", "openai__gpt-oss-20b",
     "microsoft__Phi-4-mini-instruct", "deepseek-ai__DeepSeek-V2-Lite", "falcon",
     "bigcode__starcoder2-7b", "gemma4_text", "google__gemma-4-26B-A4B", "qwen3_next",
     "Qwen__Qwen3-VL-8B-Instruct",
     "mamba", "mamba2", "gpt_bigcode", "ernie4_5", "MiniMaxAI__MiniMax-M3",
     "nvidia__Llama-3_3-Nemotron-Super-49B-v1", "qwen3_5_text",
     "minimax_m2", "meta-llama__Llama-4-Maverick-17B-128E-Instruct"],
)  # fmt: skip
def test_each_device_takes_what_llama_cpp_would_allocate(name: str) -> None:
    """Within 2% on the CPU and in every split; bench/device_memory.py has all models."""
    device_memory = _bench()
    rows = [row for row in _allocated() if row["model"] == name]
    assert len(rows) > 20
    for row in rows:
        for mine, true in zip(device_memory.ours(row), device_memory.theirs(row), strict=True):
            assert mine == pytest.approx(true, rel=0.02), row


def test_of_all_figures_no_more_than_one_in_two_hundred_is_off_by_over_two_percent() -> None:
    device_memory, off, count = _bench(), 0, 0
    for row in _allocated():
        for mine, true in zip(device_memory.ours(row), device_memory.theirs(row), strict=True):
            count += 1
            off += abs(mine / true - 1) > 0.02
    assert count > 2000
    assert off / count < 0.005


def test_without_flash_attention_all_values_are_as_long_as_the_longest() -> None:
    """A layer of 8 heads of 256 makes those of 2 heads of 128 keep 2,048 values a token."""
    model = build((layer(8, 256), layer(2, 128)))
    usual, plain = (
        uses(model, Setup(4096, flash_attention=flash), Placement())[0].kv_bytes
        for flash in (True, False)
    )
    assert usual == 4096 * 2 * (2 * 8 * 256 + 2 * 2 * 128)
    assert plain == 4096 * 2 * (2 * 8 * 256 + 2 * 128 + 8 * 256)


def test_without_flash_attention_a_layer_without_attention_has_a_row_of_values_too() -> None:
    """Unless layers with states stand beside it: then only those that attend are cached."""
    empty = Attention(AttentionKind.NONE, 0, 0, 0)
    state = Attention(AttentionKind.RECURRENT, 0, 0, 0, state_bytes=1024)
    setup = Setup(4096, flash_attention=False)
    found = [
        uses(build(layers), setup, Placement())[0].kv_bytes
        for layers in ((layer(8, 128),), (layer(8, 128), empty))
    ]
    assert found[1] - found[0] == 4096 * 2 * 8 * 128
    hybrid = [
        uses(build(layers), setup, Placement())[0].kv_bytes
        for layers in ((layer(8, 128), state), (layer(8, 128), state, empty))
    ]
    assert hybrid[0] == hybrid[1]


def test_a_gpu_keeps_masks_only_of_layers_that_it_holds() -> None:
    """The last quarter of these layers slides: a mask of 1,024 cells instead of 32,768."""
    model = build((*(layer(),) * 24, *(layer(window=512),) * 8))
    setup = Setup(32768)
    mixed, sliding = uses(model, setup, Placement((25, 8)))[1:]
    assert mixed.compute_bytes - sliding.compute_bytes > 512 * 32768 * 2


def test_experts_in_ram_are_counted_from_the_first_layer_of_the_model() -> None:
    assert spread(Placement((10,), cpu_experts=4), 32).experts_until == 23 + 4
    assert spread(Placement((33,), cpu_experts=4), 32).experts_until == 4
    assert spread(Placement((10,)), 32).experts_until == 0
