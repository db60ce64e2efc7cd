"""Predictions from kernels that were timed: rows, caches that lie in memory, cells dealt out."""

from dataclasses import replace

import pytest
from tests.making import hub_config

from snugly.machine.types import Kernel, assumed
from snugly.model.build import build_of
from snugly.model.config import spec_of_config
from snugly.model.quant_size import in_type
from snugly.plan.speed import run_times
from snugly.plan.speed_cost import looked_back
from snugly.plan.speed_lanes import Back, looks_back, mean_row
from snugly.plan.speed_prices import Looking
from snugly.plan.types import Placement, Processor, Setup

SPEC = spec_of_config(hub_config("Qwen__Qwen2-0.5B-Instruct"), "Qwen2.5-0.5B")
SMALL = build_of(in_type(SPEC, "Q8_0"))  # rows of 896, of 4864 where it leads back
RATE = 30e9


def cpu(threads: int = 2, **more: float) -> Processor:
    kernels = [
        Kernel(threads, "Q8_0", False, RATE, 200e9),
        Kernel(threads, "F16", False, RATE, 1e11),
    ]
    kernels += [Kernel(threads, name, False, rate, rate) for name, rate in more.items()]
    rate = assumed(RATE, "test")
    return Processor("RAM", "cpu", "a CPU", rate, rate, rate, rate, tuple(kernels), 20e-6)


def decode(place: Processor, tokens: int = 1) -> float:
    return run_times(SMALL, Setup(4096), Placement(), (place,), tokens, 0)[0]


def test_a_row_is_as_long_as_the_mean_row_of_a_layer() -> None:
    into, out = 896 * 2 + 128 * 2 + 4864 * 2, 896  # rows of 896 weights, rows of 4864
    assert mean_row(SMALL) == pytest.approx((into * 896 + out * 4864) / (into + out))
    assert mean_row(replace(SMALL, widths=())) == 896


def test_rows_shorter_than_those_timed_cost_more_than_their_bytes() -> None:
    rows = 50e6  # per second: 20 ns each
    slower = 1 / decode(cpu(ROWS=rows)) - 1 / decode(cpu())
    weights = sum(n for w in SMALL.weights for _, n in w.dense) / 1.0625  # bytes of a Q8_0 weight
    head = sum(n for _, n in SMALL.output) / 1.0625
    more = weights / mean_row(SMALL) + head / 896 - (weights + head) / 2048
    assert slower == pytest.approx(more / rows / 0.95, rel=0.02)


def test_rows_of_a_repacked_type_cost_nothing() -> None:
    plain, other = cpu(), cpu(ROWS=20e6)
    four = build_of(in_type(SPEC, "Q4_0"))
    repacked = Kernel(2, "Q4_0", True, RATE, 2e11)
    times = [
        1
        / run_times(
            four, Setup(64), Placement(), (replace(p, kernels=(*p.kernels, repacked)),), 1, 0
        )[0]
        for p in (plain, other)
    ]
    head = sum(n for _, n in four.output) / 1.0625
    assert times[1] - times[0] < 1.1 * head / 896 / 20e6 / 0.95


def test_threads_have_as_many_cells_each_whether_filled_or_not() -> None:
    """At 522 positions there are 768 cells, 384 for each of two threads: one has 138 to do."""
    back = (Back(0, 0.0, 0.0, 0.0, 1.0),)
    one = Looking(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1)
    two = one._replace(workers=2)
    assert looked_back(back, one, 522, 2.0) == 522
    assert looked_back(back, two, 522, 2.0) == 768
    assert looked_back(back, two, 1024, 2.0) == 1024
    assert looked_back(back, two, 300, 2.0) == 512  # nobody does more than all there is
    assert looked_back(back, two, 200, 2.0) == 200  # below 512 cells heads are dealt instead
    assert looked_back(back, two, 522, 1.0625) == 522  # and so they are of a quantized cache
    assert looked_back(back, one._replace(workers=16), 600, 2.0) == 768


def test_heads_of_64_read_their_cache_at_the_rate_of_heads_of_64() -> None:
    """Two caches of 24 layers, 2 heads of 64 each, for keys and values, in f16."""
    (back,) = looks_back(SMALL, ((SMALL.layers[0], 24),))
    assert (back.narrow, back.wide) == (24 * 2 * 128, 0)
    near, far = cpu(CACHE64=RATE, CACHE128=RATE), cpu(CACHE64=RATE / 10, CACHE128=RATE)
    more = 1 / decode(far, 1024) - 1 / decode(near, 1024)
    assert more == pytest.approx(9 * 1024 * 24 * 2 * 128 * 2 / RATE, rel=0.01)


def test_what_was_not_timed_costs_what_it_did() -> None:
    assert decode(cpu(), 1000) == pytest.approx(decode(cpu(CACHE64=RATE, CACHE128=RATE), 1000))
