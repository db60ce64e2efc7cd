"""What is taken of measurements, and what never is."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.making import plan, spec

from snugly.plan.calibration import (
    HOUSE_SPIN,
    MOST_SPIN,
    STOCK_SPIN,
    Calibration,
    Sample,
    Tuning,
    also_of,
    best,
    class_of,
    combined,
    survivors,
    tuned,
    variations,
    verdicts,
    work_of,
)
from snugly.units import GiB

DEFAULT = Tuning("native", 2, 2, STOCK_SPIN)
HOUSE = replace(DEFAULT, spin_rounds=HOUSE_SPIN)
PLAIN = replace(HOUSE, repack=False)
CHAT = work_of("chat")  # 512 in, 256 out


def calibration(*rounds: dict[Tuning, tuple[float, float]]) -> Calibration:
    samples = [
        Sample(number, tuning, *rates)
        for number, told in enumerate(rounds)
        for tuning, rates in told.items()
    ]
    return Calibration("Q4_K medium", DEFAULT, tuple(samples))


def test_work_is_prompt_over_prefill_plus_answer_over_decode() -> None:
    known = calibration({DEFAULT: (128.0, 32.0), PLAIN: (256.0, 16.0)})
    # 512/128 + 256/32 = 12 s against 512/256 + 256/16 = 18 s
    told = {v.tuning: v for v in verdicts(known, CHAT)}
    assert told[PLAIN].work == 12 / 18
    assert (told[PLAIN].prefill, told[PLAIN].decode) == (2.0, 0.5)


def test_each_kind_of_work_gets_its_own_setting() -> None:
    rates = {DEFAULT: (190.0, 44.0), PLAIN: (267.0, 30.0)}
    known = calibration(rates, rates)
    assert best(known, CHAT) is None
    summary = best(known, work_of("summarize"))  # 16k in
    assert summary is not None
    assert summary.tuning == PLAIN


def test_one_round_is_luck() -> None:
    rates = {DEFAULT: (100.0, 10.0), HOUSE: (200.0, 20.0)}
    assert best(calibration(rates), CHAT) is None
    assert best(calibration(rates, rates), CHAT) is not None


def test_what_lost_in_one_round_is_not_taken() -> None:
    good = {DEFAULT: (100.0, 10.0), HOUSE: (200.0, 20.0)}
    bad = {DEFAULT: (100.0, 10.0), HOUSE: (90.0, 9.0)}
    assert best(calibration(good, good, bad), CHAT) is None


def test_rates_are_compared_within_a_round_only() -> None:
    """A machine that was three times as slow in one round changes nothing."""
    quiet = {DEFAULT: (300.0, 30.0), HOUSE: (330.0, 33.0)}
    loaded = {DEFAULT: (100.0, 10.0), HOUSE: (110.0, 11.0)}
    verdict = best(calibration(quiet, loaded), CHAT)
    assert verdict is not None
    assert abs(verdict.work - 1.1) < 1e-9


def test_a_sample_without_its_rounds_default_does_not_count() -> None:
    known = calibration({HOUSE: (900.0, 90.0)}, {DEFAULT: (100.0, 10.0)})
    assert [v.tuning for v in verdicts(known, CHAT)] == [DEFAULT]


def test_long_waiting_is_not_taken_however_fast_it_was() -> None:
    spinning = replace(HOUSE, spin_rounds=MOST_SPIN + 1)
    rates = {DEFAULT: (100.0, 10.0), spinning: (200.0, 20.0), HOUSE: (150.0, 15.0)}
    verdict = best(calibration(rates, rates), CHAT)
    assert verdict is not None
    assert verdict.tuning == HOUSE


RATES = st.floats(0.01, 10_000)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from((DEFAULT, HOUSE, PLAIN, replace(HOUSE, threads=1))),
            st.tuples(RATES, RATES),
        ),
        max_size=5,
    ),
    st.sampled_from(("chat", "code", "complete", "summarize", "reason")),
)
def test_never_slower_than_the_engines_own_settings(
    rounds: list[dict[Tuning, tuple[float, float]]], task: str
) -> None:
    verdict = best(calibration(*rounds), work_of(task))
    assert verdict is None or (verdict.work > 1.0 and verdict.least_work >= 1.0)


def test_a_plan_takes_what_was_measured_and_says_so() -> None:
    rates = {DEFAULT: (100.0, 10.0), PLAIN: (300.0, 10.5)}
    base = plan()
    made = tuned(base, calibration(rates, rates), "chat", "native")
    assert not made.setup.repack
    assert made.spin_rounds == HOUSE_SPIN
    assert "no repack" in made.why[-1]
    assert "Q4_K medium" in made.why[-1]
    assert tuned(base, calibration(rates, rates), "chat", "xllamacpp") == base


def test_a_server_takes_nothing_that_harms_another_kind_of_work() -> None:
    # 1.17 times as quick for 512 in and 256 out, but 0.9 for one more turn of 128.
    rates = {DEFAULT: (100.0, 35.0), PLAIN: (200.0, 27.0)}
    known = calibration(rates, rates)
    assert best(known, CHAT) is not None
    assert best(known, CHAT, also=also_of("chat")) is None
    assert tuned(plan(), known, "chat", "native") == plan()
    assert not tuned(plan(), known, "summarize", "native").setup.repack


@given(
    st.lists(
        st.dictionaries(st.sampled_from((DEFAULT, HOUSE, PLAIN)), st.tuples(RATES, RATES)),
        max_size=4,
    )
)
def test_what_talk_takes_is_never_much_slower_for_anything(
    rounds: list[dict[Tuning, tuple[float, float]]],
) -> None:
    known = calibration(*rounds)
    verdict = best(known, CHAT, also=also_of("chat"))
    for work in also_of("chat"):
        told = {v.tuning: v.work for v in verdicts(known, work)}
        assert verdict is None or told[verdict.tuning] >= 0.98


def test_a_plan_takes_no_more_memory_than_was_planned() -> None:
    big = replace(HOUSE, ubatch=1024)
    rates = {DEFAULT: (100.0, 10.0), big: (300.0, 30.0)}
    known, base = calibration(rates, rates), plan()
    assert tuned(base, known, "chat", "native") == base
    assert tuned(base, known, "chat", "native", lambda setup: False) == base
    assert tuned(base, known, "chat", "native", lambda setup: True).setup.ubatch == 1024


def test_threads_that_are_busy_now_stay_free() -> None:
    rates = {DEFAULT: (100.0, 10.0), PLAIN: (300.0, 30.0)}
    busy = plan(threads=1, threads_batch=1)
    assert tuned(busy, calibration(rates, rates), "chat", "native") == busy


def test_the_cache_keeps_its_type() -> None:
    other = replace(HOUSE, kv_type="Q8_0")
    rates = {DEFAULT: (100.0, 10.0), other: (300.0, 30.0)}
    base = plan()
    assert tuned(base, calibration(rates, rates), "chat", "native") == base


def test_what_helped_alone_is_tried_together() -> None:
    one, two = replace(HOUSE, repack=False), replace(HOUSE, ubatch=256)
    rates = {DEFAULT: (100.0, 10.0), HOUSE: (100.0, 10.0), one: (150.0, 11.0), two: (120.0, 11.0)}
    assert combined(calibration(rates), CHAT, HOUSE) == replace(HOUSE, repack=False, ubatch=256)
    assert combined(calibration({DEFAULT: (1.0, 1.0), HOUSE: (1.0, 1.0)}), CHAT, HOUSE) is None


def test_only_what_could_win_is_measured_again() -> None:
    slow = replace(HOUSE, threads=1)
    known = calibration({DEFAULT: (100.0, 10.0), HOUSE: (98.0, 10.0), slow: (50.0, 5.0)})
    assert survivors(known, [CHAT]) == [DEFAULT, HOUSE]


def test_variations_change_one_thing_and_are_all_different() -> None:
    made = list(variations(HOUSE, 4))
    assert made[0] == HOUSE
    assert len(set(made)) == len(made)
    names = HOUSE.__slots__
    for tuning in made[1:]:
        assert sum(getattr(tuning, name) != getattr(HOUSE, name) for name in names) == 1


def test_classes_go_by_type_size_and_experts() -> None:
    assert class_of(spec(weight_bytes=4 * GiB - 1, kept_as="Q4_K")) == "Q4_K medium"
    assert class_of(spec(weight_bytes=4 * GiB, kept_as="Q4_K")) == "Q4_K large"
    assert class_of(spec(kept_as="Q4_K", experts=8)).endswith("experts")
