"""What lies where, as each engine is told."""

from dataclasses import replace

import pytest
from tests.making import CPU_ENGINE, plan

from snugly.engine.address import new_address
from snugly.engine.llama_cpp import on_gpus, worker_config
from snugly.engine.native import arguments
from snugly.plan.types import Placement
from snugly.units import MiB

# 10 of 33 layers on the GPU, of which the first four leave their experts in RAM: llama.cpp
# counts from the model's first layer, so the experts of layers 0..26 are named.
PLAN = plan(placement=Placement((10,), cpu_experts=4), gpu_layers=10, experts_until=27)


def test_both_engines_count_experts_in_ram_from_the_first_layer() -> None:
    assert worker_config(PLAN, new_address())["cpu_experts"] == 27
    words = arguments(PLAN, new_address())
    assert words[words.index("--n-cpu-moe") + 1] == "27"


def test_no_experts_in_ram_are_not_spoken_of() -> None:
    without = replace(PLAN, placement=Placement((10,)), experts_until=0)
    assert worker_config(without, new_address())["cpu_experts"] == 0
    assert "--n-cpu-moe" not in arguments(without, new_address())


@pytest.mark.parametrize(
    ("backend", "taken"),
    [("cuda", 500 * MiB), ("rocm", 500 * MiB), ("vulkan", 500 * MiB), ("sycl", 500 * MiB),
     ("metal", 0), ("", 0)],
)  # fmt: skip
def test_a_gpu_with_memory_of_its_own_costs_its_context(backend: str, taken: int) -> None:
    engine = on_gpus(CPU_ENGINE, backend)
    assert (engine.offloads_to, engine.device_bytes) == (backend, taken)
    assert engine.device_ram_bytes == taken * 3 // 10
