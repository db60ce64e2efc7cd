"""The allocator replayed: holes as ggml leaves them, and whole models as the library has them."""

import csv
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plan.test_pools import _bench

from snugly.plan.batch import batch_of, spread
from snugly.plan.profile import profile_of
from snugly.plan.replay import replayed
from snugly.plan.room import Room
from snugly.plan.types import Placement, Setup

DEVICES = Path(__file__).parents[2] / "golden/pools/devices.csv"
SIZES = {"a": 1024, "b": 512, "c": 1024, "d": 512, "e": 256, "f": 2048}


def _run(steps: str) -> Room:
    room = Room()
    room.run(steps, SIZES)
    return room


def test_the_smallest_hole_that_fits_is_used_and_of_two_alike_the_later() -> None:
    assert _run("+a +b +c -a -b +d").used["d"] == (0, 512)  # both are one hole again
    assert _run("+a +b +c +d +f -a -d +e").used["e"] == (3072 - 512, 256)
    assert _run("+a +b +c +d +f -b -d +e").used["e"] == (2560, 256)


def test_what_fits_nowhere_goes_to_the_end_and_the_end_moves_back() -> None:
    room = _run("+a +b -a +f")
    assert room.used["f"] == (1536, 2048)
    room.run("-f", SIZES)
    assert (room.end, room.top) == (1536, 3584)


def test_what_is_taken_once_stays_and_a_row_becomes_the_next_layers() -> None:
    room = _run("!a !a +b b>x -x")
    assert room.used == {"a": (0, 1024)}


@pytest.mark.parametrize(
    "name",
    ["meta-llama__Llama-3.1-8B-Instruct", "meta-llama__Llama-3.2-1B-Instruct", "ernie4_5",
     "Qwen__Qwen2.5-0.5B-Instruct", "seed_oss", "gpt2", "gpt_bigcode", "gpt_neox",
     "Qwen__Qwen3-0.6B", "google__gemma-2-9b-it", "google__gemma-3-1b-it",
     "LiquidAI__LFM2.5-VL-1.6B", "smollm3", "granite", "bigcode__starcoder2-7b",
     "allenai__OLMo-2-1124-7B-Instruct", "microsoft__Phi-4-mini-instruct"],
)  # fmt: skip
def test_what_the_first_gpu_takes_over_is_what_llama_cpp_allocates(name: str) -> None:
    device_memory, seen = _bench(), 0
    build = device_memory.model(name)[1]
    profile = profile_of(build)
    with DEVICES.open(newline="") as file:
        rows: list[dict[str, Any]] = [row for row in csv.DictReader(file) if row["model"] == name]
    for row in rows:
        over = spread(Placement(device_memory.counts(row)), profile.n_layers)
        if row["kind"] != "cuda" or row["flash"] != "1" or not 0 < over.starts[0]:
            continue
        setup = Setup(int(row["context"]), int(row["n_seq"]), row["k_type"].upper(),
                      ubatch=int(row["ubatch"]))  # fmt: skip
        batch = batch_of(profile, setup, profile.remembered(setup))
        layers, end = over.starts[:2]
        found = replayed(profile, batch, setup.n_seq, layers, end)
        assert found == pytest.approx(int(row["bytes"].split()[6]), rel=0.005), row
        seen += 1
    assert seen >= 6


def test_a_mask_comes_in_for_the_gpus_own_layers_where_none_was_needed_before() -> None:
    """LFM2's first two layers are convolutions; all its attention is on the GPU."""
    profile = profile_of(_bench().model("LiquidAI__LFM2.5-VL-1.6B")[1])
    short, long = (Setup(context, 1, "Q8_0") for context in (4096, 32768))
    found = [
        replayed(profile, batch_of(profile, setup, profile.remembered(setup)), 1, 2, 16)
        for setup in (short, long)
    ]
    # MiB as llama.cpp counts (bench/device_memory_wide.py): 32 of mask, 64 of the cache in f16
    # and a row, behind what the last layer in RAM took; in a short context all fits before it.
    assert found[1] == pytest.approx(165.0 * 2**20, rel=0.002)
    assert found[0] == pytest.approx(69.1 * 2**20, rel=0.02)


def test_attention_stays_in_ram_before_a_state_there() -> None:
    """All of LFM2 in RAM: its last layer is a convolution, and no attention is taken over."""
    profile = profile_of(_bench().model("LiquidAI__LFM2.5-VL-1.6B")[1])
    found = {
        replayed(profile, batch_of(profile, setup, profile.remembered(setup)), 1, 16, 16)
        for setup in (Setup(4096, 1, "F16"), Setup(65536, 1, "F16"))
    }
    assert len(found) == 1
    assert found.pop() == pytest.approx(65.0 * 2**20, rel=0.002)


def test_layers_without_a_cache_of_their_own_borrow_the_last_of_their_kind() -> None:
    profile = profile_of(_bench().model("gemma4_shared")[1])
    layers = profile.build.layers
    owners = sum(layer.cached for layer in layers)
    assert 0 < owners < len(layers)
    for index, source in enumerate(profile.lends):
        assert source == index or source < owners
        assert bool(layers[source].window) == bool(layers[index].window)
        assert layers[source].cached
    one_each = tuple(1 for _ in profile.kinds)
    assert profile.borrowed(one_each, owners, len(layers), owners) == len(layers) - owners
    assert profile.borrowed(one_each, 0, len(layers), 0) == 0
