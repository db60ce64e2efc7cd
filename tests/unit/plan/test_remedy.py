"""What does not fit is refused with changes that are true, the least felt first."""

import pytest
from hypothesis import given, settings
from tests.making import CPU_ENGINE, hub_config, layer, machine, machines, spec, specs

from snugly.errors import DoesNotFit
from snugly.machine.types import Machine
from snugly.model.build import build_of
from snugly.model.config import spec_of_config
from snugly.model.quant_size import in_type
from snugly.model.types import ModelSpec
from snugly.plan.box import box_of
from snugly.plan.candidates import candidate_of
from snugly.plan.choose import choose, or_refuse
from snugly.plan.remedy import longest_context, rejected
from snugly.plan.search import best_way
from snugly.plan.types import Need, Plan, Rejected
from snugly.units import GiB

LLAMA = spec_of_config(hub_config("meta-llama__Llama-3.1-8B"), "Llama 3.1 8B")


def _in(kind: str):  # type: ignore[no-untyped-def]
    return candidate_of(build_of(in_type(LLAMA, kind)), kind)


@settings(max_examples=60, deadline=None)
@given(machines(), specs())
def test_a_change_that_is_named_makes_it_fit(box: Machine, model: ModelSpec) -> None:
    choice = choose(box, model, Need(model.context_train), CPU_ENGINE)
    if not isinstance(choice, Rejected):
        return
    for change in choice.changes:
        if change.flags.startswith("--context"):
            context = int(change.flags.split()[1])
            assert isinstance(choose(box, model, Need(context), CPU_ENGINE), Plan)
        if change.flags == "--kv q8_0":
            need = Need(model.context_train, kv_type="Q8_0")
            assert isinstance(choose(box, model, need, CPU_ENGINE), Plan)


def test_q6_k_fits_if_the_context_is_shorter_or_the_cache_smaller() -> None:
    # 6.14 GiB of weights; 131,072 tokens of cache in f16 take 16 GiB more, in q8_0 8.5
    box = box_of(machine(18 * GiB), CPU_ENGINE)
    no = rejected(box, _in("Q6_K"), Need(131072, kv_type="F16"), (_in("Q4_K_M"), _in("Q2_K")))
    flags = [change.flags for change in no.changes]
    assert flags[0] == "--kv q8_0"
    assert any(flag.startswith("--context ") for flag in flags)


def test_a_smaller_type_is_proposed_when_it_fits() -> None:
    box = box_of(machine(8 * GiB), CPU_ENGINE)
    no = rejected(box, _in("F16"), Need(4096), (_in("Q8_0"), _in("Q4_K_M"), _in("Q2_K")))
    assert "--type Q4_K_M" in [change.flags for change in no.changes]


def test_the_missing_bytes_are_enough() -> None:
    model = spec(weight_bytes=20 * GiB)
    choice = choose(machine(8 * GiB), model, Need(), CPU_ENGINE)
    assert isinstance(choice, Rejected)
    assert choice.changes[-1].words.endswith("more free memory")
    with pytest.raises(DoesNotFit) as caught:
        or_refuse(choice)
    assert "GiB of RAM" in caught.value.because
    assert "more free memory" in caught.value.remedy


@pytest.mark.parametrize("kind", ["Q2_K", "Q4_K_M", "Q8_0"])
def test_the_longest_context_fits_and_more_does_not(kind: str) -> None:
    box, candidate = box_of(machine(16 * GiB), CPU_ENGINE), _in(kind)
    longest = longest_context(box, candidate, Need())
    assert best_way(box, candidate, Need(longest)) is not None
    if longest < 131072:
        assert best_way(box, candidate, Need(longest + 256, kv_type="F16")) is None


def test_a_cache_type_that_heads_do_not_divide_is_answered_with_one_that_they_do() -> None:
    odd = candidate_of(build_of(spec((layer(8, 80),) * 4, 1 * GiB)), "odd")
    no = rejected(box_of(machine(16 * GiB), CPU_ENGINE), odd, Need(4096, kv_type="Q8_0"))
    assert no.changes[0].flags == "--kv f16"
