import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, apple_gpu, hub_config, machine, machines

from snugly.errors import UserError
from snugly.machine.types import Machine
from snugly.model.config import spec_of_config
from snugly.model.types import ModelSpec
from snugly.plan.sizes import in_type, option, options, with_ram
from snugly.plan.types import Need, Plan, Rejected
from snugly.units import GiB

LLAMA_8B = spec_of_config(hub_config("meta-llama__Llama-3.1-8B-Instruct"), "Llama 3.1 8B")


def test_a_file_is_as_large_as_the_published_one() -> None:
    # lmstudio-community/Meta-Llama-3.1-8B-Instruct-GGUF, Q4_K_M: 4,920,739,168 bytes
    assert in_type(LLAMA_8B, "Q4_K_M").file_bytes == pytest.approx(4_920_739_168, rel=0.0005)
    # bartowski/Meta-Llama-3.1-8B-Instruct-GGUF, Q8_0: 8,540,775,840 bytes
    assert in_type(LLAMA_8B, "Q8_0").file_bytes == pytest.approx(8_540_775_840, rel=0.0005)


def test_8_gib_runs_an_8b_in_4_bits_and_not_in_16() -> None:
    found = {o.type_name: o for o in options(machine(8 * GiB), LLAMA_8B, Need(4096), CPU_ENGINE)}
    assert isinstance(found["Q4_K_M"].choice, Plan)
    assert isinstance(found["F16"].choice, Rejected)
    assert found["F16"].longest_context == 0
    sizes = [item.file_bytes for item in found.values()]
    assert sizes == sorted(sizes)


@given(machines(), st.sampled_from(("Q2_K", "Q4_K_M", "Q8_0")))
def test_the_longest_context_fits_and_more_does_not(box: Machine, kind: str) -> None:
    model: ModelSpec = in_type(LLAMA_8B, kind)
    longest = option(box, model, Need(), CPU_ENGINE).longest_context
    if longest:
        assert isinstance(option(box, model, Need(longest), CPU_ENGINE).choice, Plan)
    if longest and longest < model.context_train - 512:
        assert isinstance(option(box, model, Need(longest + 512), CPU_ENGINE).choice, Rejected)


def test_another_box_is_its_ram_alone() -> None:
    other = with_ram(machine(64 * GiB, gpus=(apple_gpu(48 * GiB),)), 8 * GiB)
    assert [(pool.name, pool.free_bytes) for pool in other.pools] == [("RAM", 8 * GiB)]


def test_a_name_that_is_no_quantization_is_refused() -> None:
    with pytest.raises(UserError, match="Q9_Z"):
        in_type(LLAMA_8B, "Q9_Z")
