"""Guessing ahead: its bytes, what it brings, and when it is given up."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, machine, spec

from snugly.model.build import build_of
from snugly.plan.choose import choose, or_refuse
from snugly.plan.seeing import seeing
from snugly.plan.speculation import (
    LOOKUP,
    SHORT_LOOKUP,
    Smaller,
    Tally,
    best_drafter,
    drafting_gain,
    gained,
    lookup_bytes,
    pays,
    speculating,
)
from snugly.plan.speculation_types import NO_SPECULATION, Drafter, Speculation
from snugly.plan.types import Interval, Need, Plan, Speed
from snugly.units import GiB, MiB

MODEL = spec()


def plan() -> Plan:
    return or_refuse(choose(machine(), MODEL, Need(4096), CPU_ENGINE))


def speed(decode: float, prefill: float) -> Speed:
    def sure(value: float) -> Interval:
        return Interval(value, value, value)

    return Speed(sure(decode), sure(prefill), sure(decode), sure(1.0), 512, sure(1.0), "")


def test_a_model_that_sees_does_not_guess() -> None:
    build = build_of(MODEL)
    sees = seeing(plan(), "/m/mmproj.gguf", MiB)
    assert speculating(plan(), build, LOOKUP).speculation == LOOKUP
    assert speculating(sees, build, LOOKUP) is sees


def test_a_guess_of_31_tokens_takes_two_rows_of_logits_each_and_the_pool() -> None:
    build = build_of(MODEL)
    at_head, in_ram = lookup_bytes(build, 4, LOOKUP)
    assert at_head == 4 * build.vocab_size * 4 * 31
    assert in_ram == at_head + 16 * MiB


def test_the_plan_counts_the_bytes_and_says_why() -> None:
    before = plan()
    after = speculating(before, build_of(MODEL), LOOKUP)
    at_head, in_ram = lookup_bytes(build_of(MODEL), before.setup.n_seq, LOOKUP)
    assert after.speculation == LOOKUP
    more = after.estimate.total_bytes - before.estimate.total_bytes
    assert more == in_ram + max(0, at_head - before.estimate.compute_bytes)
    assert len(after.why) == len(before.why) + 1


def test_without_room_nothing_is_guessed() -> None:
    before = plan()
    taken = before.estimate.uses[0].total_bytes
    tight = replace(before.pools[0], free_bytes=taken + before.reserves[0] + 1)
    before = replace(before, pools=(tight, *before.pools[1:]))
    assert speculating(before, build_of(MODEL), LOOKUP) == before


def test_where_a_guess_is_a_tenth_of_the_model_it_is_half_as_long() -> None:
    before = plan()
    small = replace(before.estimate.uses[0], weights_bytes=64 * MiB, kv_bytes=0, repack_bytes=0)
    before = replace(before, estimate=replace(before.estimate, uses=(small,)))
    assert speculating(before, build_of(MODEL), LOOKUP).speculation == SHORT_LOOKUP


def test_nothing_to_guess_with_changes_nothing() -> None:
    assert speculating(plan(), build_of(MODEL), NO_SPECULATION) == plan()


def test_a_model_with_states_is_left_alone() -> None:
    build = build_of(MODEL)
    first = replace(build.layers[0], state_bytes=1024)
    assert speculating(plan(), replace(build, layers=(first, *build.layers[1:])), LOOKUP) == plan()


def test_an_accepted_token_saves_a_step_and_each_check_costs() -> None:
    # 100 tokens in 50 plain steps of 10 ms and 60 checks of 2 ms: 620 ms instead of 1,000.
    assert gained(100, 60, 50, 620.0, 2.0) == pytest.approx(380.0)
    # The same with nothing accepted: 100 steps and 60 checks.
    assert gained(100, 60, 0, 1120.0, 2.0) == pytest.approx(-120.0)


def test_it_pays_until_enough_was_seen_and_as_long_as_it_does() -> None:
    bad = Tally().plus(500, 300, 0, 5_600.0, 2.0)
    assert pays({"chat": bad})  # five hundred tokens are too few
    bad = bad.plus(1500, 900, 0, 16_800.0, 2.0)
    assert not pays({"chat": bad})
    good = Tally().plus(1000, 800, 750, 4_100.0, 2.0)
    assert pays({"chat": bad, "edit": good})


def test_a_loss_is_stopped_before_it_has_cost_two_percent() -> None:
    """Answers of 200 tokens that lose 3% each: off after the third, having lost 3% of these."""
    tally, answers = Tally(), 0
    while pays({"chat": tally}):
        tally = tally.plus(200, 30, 0, 2060.0, 2.0)
        answers += 1
    assert answers == 3
    assert answers * 60 <= 0.02 * 100 * 200 * 10  # of a hundred such answers' time


@given(
    tokens=st.integers(1, 4096), drafted=st.integers(0, 4096), right=st.floats(0, 1),
    decode=st.floats(1, 1e6), check=st.floats(0, 100),
)  # fmt: skip
def test_a_gain_is_never_more_than_writing_every_token_alone(
    tokens: int, drafted: int, right: float, decode: float, check: float
) -> None:
    accepted = min(tokens - 1, int(drafted * right))
    saved = gained(tokens, drafted, accepted, decode, check)
    assert saved >= -decode - 1e-6
    steps = tokens - accepted
    assert saved <= accepted * decode / steps + 1e-6


def test_drafting_gains_what_leviathan_et_al_say() -> None:
    # Free checks, a free drafter, right 8 times of 10, 4 guesses: 3.36 tokens a step.
    assert drafting_gain(0.8, 4, 0.0, 0.0) == pytest.approx(3.3616)


def test_a_small_drafter_is_taken_on_a_fast_gpu_and_left_on_a_slow_cpu() -> None:
    draft = Smaller("/m/small.gguf", "small", 600 * MiB, 300.0)
    gpu = replace(plan(), speed=speed(30.0, 1500.0))
    found = best_drafter(gpu, (draft,))
    assert found is not None
    assert found.drafter is not None
    assert found.drafter.path == "/m/small.gguf"
    # Two cores: 44 tokens/s one by one, 190 at once, and a drafter of 110.
    cpu = replace(plan(), speed=speed(44.0, 190.0))
    assert best_drafter(cpu, (replace(draft, decode_tps=110.0),)) is None
    assert best_drafter(gpu, ()) is None


def test_a_drafter_counts_with_all_its_bytes() -> None:
    drafter = Speculation(drafter=Drafter("/m/small.gguf", "small", 1 * GiB, 4))
    after = speculating(plan(), build_of(MODEL), drafter)
    more = after.estimate.total_bytes - plan().estimate.total_bytes
    at_head, in_ram = lookup_bytes(build_of(MODEL), plan().setup.n_seq, drafter)
    assert more == in_ram + 1 * GiB + max(0, at_head - plan().estimate.compute_bytes)
    assert "small guesses ahead" in after.why[-1]
