from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, apple_gpu, layer, machine, machines, spec, specs

from snugly.errors import UserError
from snugly.machine.types import Kernel, Machine
from snugly.model.build import build_of
from snugly.model.types import ModelSpec
from snugly.plan.box import Box, box_of, reserve_bytes
from snugly.plan.candidates import candidate_of
from snugly.plan.choose import choose, reasons
from snugly.plan.search import best_way
from snugly.plan.threads import threads
from snugly.plan.types import EngineFacts, Need, Plan, Rejected
from snugly.units import GiB, MiB

METAL = EngineFacts("xllamacpp", 32 * MiB, frozenset(), "metal")


@given(machines(), specs(), st.one_of(st.none(), st.integers(512, 1 << 20)))
def test_no_plan_ever_exceeds_what_is_free(
    box: Machine, model: ModelSpec, context: int | None
) -> None:
    if context is not None and context > model.context_train:
        return
    choice = choose(box, model, Need(context), CPU_ENGINE)
    if isinstance(choice, Plan):
        assert choice.estimate.total_bytes + reserve_bytes(box.ram) <= box.ram.free_bytes
        assert 1 <= choice.threads <= (box.cpu.logical_cores.value or 1)
        assert context is None or choice.context == context
    else:
        assert choice.needed_bytes > choice.budgets[0]


def test_without_room_for_the_faster_copy_the_weights_stay_as_they_are() -> None:
    model = spec(weight_bytes=5 * GiB, kept_as="Q4_K")
    roomy = choose(machine(16 * GiB), model, Need(4096), CPU_ENGINE)
    tight = choose(machine(8 * GiB), model, Need(4096), CPU_ENGINE)
    assert isinstance(roomy, Plan)
    assert roomy.setup.repack
    assert isinstance(tight, Plan)
    assert not tight.setup.repack
    assert any("laid out for speed would not fit" in reason for reason in tight.why)


def timed_box(engine: EngineFacts) -> Box:
    """16 GiB, on which the copy writes faster and reads prompts at a third of the speed."""
    names = ("F16", "Q8_0", "Q4_K", "Q6_K", "ATTENTION64", "ATTENTION128")
    kernels = [Kernel(2, name, False, 20e9, 3e11) for name in names]
    kernels.append(Kernel(2, "Q4_K", True, 21e9, 1e11))
    box = box_of(machine(16 * GiB), engine)
    here = replace(box.processors[0], kernels=tuple(kernels), layer_seconds=20e-6)
    return replace(box, processors=(here,))


def test_kernels_that_were_timed_speak_for_the_engine_that_has_them_alone() -> None:
    candidate = candidate_of(build_of(spec(weight_bytes=5 * GiB, kept_as="Q4_K")), "x", 50.0)
    theirs = best_way(timed_box(CPU_ENGINE), candidate, Need(4096))
    assert theirs is not None
    assert not theirs.setup.repack

    def why(need: Need) -> str:
        (told,) = [one for one in reasons(timed_box(CPU_ENGINE), theirs, need) if "copy" in one]
        return told

    assert why(Need(4096)).endswith("is predicted to be slower here.")
    assert why(Need(4096, budget_bytes=6 * GiB)).endswith("would not fit.")
    other = replace(CPU_ENGINE, is_timed=False)
    ours = best_way(timed_box(other), candidate, Need(4096))
    assert ours is not None
    assert ours.setup.repack


def test_the_context_is_as_long_as_memory_allows_up_to_32k() -> None:
    model = spec(context=131072)
    assert choose(machine(64 * GiB), model, Need(), CPU_ENGINE).context == 32768  # type: ignore[union-attr]
    # 4 GiB of weights, 2.7 GiB left: 16k would take 2 GiB of cache, over a quarter of what is free
    assert choose(machine(8 * GiB), model, Need(), CPU_ENGINE).context == 8192  # type: ignore[union-attr]


def test_a_context_beyond_training_is_refused() -> None:
    with pytest.raises(UserError, match="cannot use a context of 65,536"):
        choose(machine(), spec(context=32768), Need(65536), CPU_ENGINE)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (machine(cores=8), 8),
        (machine(cores=2, busy=1.0), 1),
        (machine(cores=2, busy=2.0), 1),
        (machine(cores=14, performance=6), 6),
        (machine(cores=8, usable=2.5), 2),
        (machine(cores=8, usable=0.5), 1),
    ],
)
def test_one_thread_per_free_fast_core(box: Machine, expected: int) -> None:
    assert threads(box)[0] == expected


def test_apples_gpu_takes_all_layers_within_its_wired_limit() -> None:
    box = machine(16 * GiB, gpus=(apple_gpu(11 * GiB),))
    plan = choose(box, spec(), Need(), METAL)
    assert isinstance(plan, Plan)
    assert (plan.pools[0].name, plan.gpu_layers) == ("unified", 33)
    big = choose(box, spec(weight_bytes=11 * GiB), Need(), METAL)
    assert isinstance(big, Rejected)
    assert big.pools[0].name == "unified"


def test_budget_caps_the_plan() -> None:
    model = spec((layer(),) * 32)
    assert isinstance(choose(machine(), model, Need(budget_bytes=2 * GiB), CPU_ENGINE), Rejected)
