"""The sizing sentences that people know, held against real models.

Those of the design notes ("Sizing tables people know") that speak of bytes, for every dense chat
model of the catalogue in Q4_K_M. People mean 10^9 or 2^30 bytes by GB, so a lower end is taken in
GB and an upper in GiB. What does not come out is at the end. Left out is what keeps more than
1 GiB of snapshots of its sliding caches (Gemma 2 9B, OLMo 3 7B): more than people expect.
"""

from statistics import median

import pytest
from tests.making import CPU_ENGINE, machine

from snugly.model.build import weight_bytes
from snugly.model.catalog import entries
from snugly.model.catalog_builds import builds
from snugly.model.types import Build
from snugly.plan.memory import checkpoint_bytes, pool_uses
from snugly.plan.types import Placement, Setup
from snugly.units import GiB

GB = 10**9
CONTEXT = 4096  # what people mean by "with context"


def dense(low: float, high: float) -> list[Build]:
    """Dense chat models of the catalogue between so many billion parameters, in Q4_K_M."""
    found = [
        build
        for entry in entries()
        if low * 1e9 <= entry.n_params <= high * 1e9 and entry.n_active == entry.n_params
        for build in builds(entry)
        if build.file_type == "Q4_K_M" and not {"embed", "rerank"} & set(entry.tasks)
        if checkpoint_bytes(build, CONTEXT, 512) <= GiB
    ]
    # Models that share a shape (Qwen2.5 and its coder, ...) count once.
    return list({(b.n_params, b.file_bytes, b.context_train): b for b in found}.values())


def running(build: Build, context: int, kv_type: str = "F16", repack: bool = False) -> int:
    setup = Setup(min(context, build.context_train), kv_type=kv_type, repack=repack)
    pools = machine(1024 * GiB).pools
    return pool_uses(build, setup, Placement(), pools, CPU_ENGINE)[0].total_bytes


def test_weights_in_4_bits_take_about_half_a_byte_per_parameter() -> None:
    """About: Q4_K_M takes 0.6, for scales and for what is kept in 6 bits; never below a half."""
    large = [weight_bytes(build) / build.n_params for build in dense(6, 80)]
    assert min(large) >= 0.5
    assert median(large) == pytest.approx(0.6, abs=0.03)


def test_a_quantized_7b_takes_4_to_5_gb_of_disk() -> None:
    assert all(4 * GB <= build.file_bytes <= 5 * GiB for build in dense(6.5, 7.7))


def test_a_7b_in_4_bits_takes_4_to_6_gb() -> None:
    assert all(4 * GB <= running(build, 2048) <= 6 * GiB for build in dense(6.5, 7.7))


def test_a_34b_in_4_bits_takes_20_to_24_gb() -> None:
    assert all(20 * GB <= running(build, CONTEXT) <= 24 * GiB for build in dense(32, 36.5))


def test_a_3b_takes_about_3_to_4_gb_with_the_faster_copy_and_2_to_3_without() -> None:
    for build in dense(2.9, 3.5):
        assert 3 * GB <= running(build, CONTEXT, repack=True) <= 4 * GiB, build.name
        assert 2 * GB <= running(build, CONTEXT) <= 3 * GiB, build.name


def test_the_7b_class_takes_5_to_8_gb_with_context() -> None:
    for build in dense(6.5, 8.6):
        assert 4.5 * GB <= running(build, CONTEXT) <= 8 * GiB, build.name


def test_a_9b_takes_8_to_10_gb_with_the_faster_copy_and_6_to_7_without() -> None:
    for build in dense(8.7, 9.5):
        assert 8 * GB <= running(build, CONTEXT, repack=True) <= 10 * GiB, build.name
        assert 5.5 * GB <= running(build, CONTEXT) <= 7 * GiB, build.name


@pytest.mark.parametrize(
    ("ram_gib", "low", "high"),
    # "16 GB of RAM: 3-7B in 4 bits; 32 GB: 7-9B with ease", half of it free beside a desktop;
    # with ease: with the faster copy.
    [(16, 2.9, 7.7), (32, 6.5, 9.5)],
)
def test_so_much_ram_runs_models_of_this_size(ram_gib: int, low: float, high: float) -> None:
    for build in dense(low, high):
        needed = running(build, CONTEXT, repack=ram_gib == 32)
        assert needed <= ram_gib * GiB // 2, build.name


@pytest.mark.parametrize(
    ("vram_gib", "low", "high"),
    # "4-8 GB VRAM: 7B", "to 24-48 GB: 70B", "24 GB: 34B"; the cache in q8_0
    [(8, 6.5, 8.6), (24, 32, 34.5), (48, 68, 73)],
)
def test_so_much_vram_holds_models_of_this_size(vram_gib: int, low: float, high: float) -> None:
    assert dense(low, high)
    for build in dense(low, high):
        assert running(build, CONTEXT, "Q8_0") <= vram_gib * GiB, build.name


@pytest.mark.parametrize(
    ("vram_gib", "low", "high"),
    # "4-8 GB VRAM: 7B-13B" and "8-16 GB: 7B-30B", "12-16 GB: to 30B+": not in Q4_K_M.
    [(8, 12.9, 13.1), (16, 26, 36.5)],
)
def test_what_does_not_come_out(vram_gib: int, low: float, high: float) -> None:
    assert dense(low, high)
    for build in dense(low, high):
        assert running(build, 2048, "Q8_0") > vram_gib * GiB, build.name
