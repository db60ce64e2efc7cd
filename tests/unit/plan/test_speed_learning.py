import math
from dataclasses import replace
from typing import Any

import pytest
from tests.making import hub_config
from tests.unit.plan.test_speed import cpu

from snugly.history.types import Measurement
from snugly.model.build import build_of
from snugly.model.config import spec_of_config
from snugly.model.quant_size import in_type
from snugly.plan.speed import predict
from snugly.plan.speed_learning import corrections, history_rows
from snugly.plan.types import Placement, Setup, Speed

SPEC = spec_of_config(hub_config("meta-llama__Llama-3.2-1B-Instruct"), "Llama 3.2 1B")
BUILD = build_of(in_type(SPEC, "Q4_K_M"))
OTHER = replace(BUILD, name="another model")
PLACES = (cpu(),)


def run(decode: float, prefill: float, **changes: Any) -> Measurement:
    """A run that was expected to decode at 40 and to read at 100 tokens per second."""
    known = Measurement(
        "2026-11-20T10:00:00Z", "pub/model/file", "/models/m.gguf", "Q4_K_M", 4096, 4,
        1000, 900, 200, 50, prefill, decode, 100.0, "xllamacpp",
        "this box", "cpu", BUILD.name, 40.0, 100.0,
    )  # fmt: skip
    return replace(known, **changes)


def speed(*runs: Measurement, build: object = BUILD) -> Speed:
    learnt = corrections(runs, "this box")
    return predict(build, Setup(4096), Placement(), PLACES, corrections=learnt)  # type: ignore[arg-type]


def test_after_three_runs_the_prediction_is_within_noise() -> None:
    before = speed()
    after = speed(run(20.4, 60), run(19.8, 61), run(20.1, 59))
    ratio = after.decode_tps.expected / before.decode_tps.expected
    assert ratio == pytest.approx(20.1 / 40, rel=0.03)
    assert after.prefill_tps.expected / before.prefill_tps.expected == pytest.approx(0.6, rel=0.03)
    assert after.decode_tps.high / after.decode_tps.low < 1.25
    assert before.decode_tps.high / before.decode_tps.low > 1.4


def test_every_run_makes_the_interval_no_wider() -> None:
    runs = [run(20, 60)] * 4
    widths = [
        math.log(found.decode_tps.high / found.decode_tps.low)
        for found in (speed(*runs[:count]) for count in range(5))
    ]
    assert widths == sorted(widths, reverse=True)


def test_another_model_on_the_same_machine_learns_less() -> None:
    runs = (run(20, 60), run(20, 60), run(20, 60))
    before = speed(build=OTHER)
    after = speed(*runs, build=OTHER)
    ratio = after.decode_tps.expected / before.decode_tps.expected
    assert 0.5 < ratio < 0.7
    same, other = speed(*runs).decode_tps, after.decode_tps
    assert other.high / other.low > same.high / same.low


def test_runs_elsewhere_and_runs_too_short_teach_nothing() -> None:
    before = speed()
    assert speed(run(20, 60, machine="another box")) == before
    assert speed(run(20, 60, machine="", place="")) == before
    short = run(20, 60, completion_tokens=2, prompt_tokens=3)
    assert speed(short).decode_tps.expected == pytest.approx(before.decode_tps.expected)
    assert speed(run(20, 60, predicted_decode_tps=None)).decode_tps.expected == pytest.approx(
        before.decode_tps.expected
    )


def test_one_wild_run_among_many_changes_little() -> None:
    steady = speed(*[run(20, 60)] * 6).decode_tps.expected
    assert speed(run(2, 60), *[run(20, 60)] * 6).decode_tps.expected == pytest.approx(
        steady, rel=0.1
    )


def test_the_history_shows_predicted_beside_actual() -> None:
    (row,) = history_rows([run(20, 60)])
    assert (row.predicted_decode_tps, row.decode_tps) == (40.0, 20)
    assert (row.predicted_bytes, row.peak_bytes) == (1000, 900)


def test_runs_beside_a_busy_core_teach_nothing() -> None:
    # 50 runs: half of them quiet at 20 tokens/s, half at 5 beside a program that takes a core
    runs = [
        run(20 * wobble, 60, others_cores=0.05) if quiet else run(5, 15, others_cores=1.0)
        for wobble, quiet in zip([0.95, 1.0, 1.05, 1.0, 1.02] * 10, [True, False] * 25, strict=True)
    ]
    quiet = speed(*[run(20, 60, others_cores=0.05)] * 25)
    assert speed(*runs).decode_tps.expected == pytest.approx(quiet.decode_tps.expected, rel=0.1)
    assert speed(*runs).prefill_tps.expected == pytest.approx(quiet.prefill_tps.expected, rel=0.1)
    assert speed(*[run(5, 15, others_cores=1.0)] * 9) == speed()


def test_of_runs_whose_load_nobody_noted_the_quicker_half_teaches() -> None:
    mixed = [run(20, 60), run(4, 10)] * 25
    quiet = speed(*[run(20, 60)] * 25)
    assert speed(*mixed).decode_tps.expected == pytest.approx(quiet.decode_tps.expected, rel=0.1)


def test_on_a_gpu_alone_busy_cores_do_not_count() -> None:
    learnt = corrections([run(20, 60, place="cuda", others_cores=3.0)], "this box")
    assert ("cuda", "", "") in learnt.by_class


def test_the_history_says_what_was_set_aside_and_why() -> None:
    runs = [
        run(20, 60, others_cores=0.0),
        run(5, 60, others_cores=1.4),
        run(20, 60, machine="elsewhere"),
        run(20, 60),
        run(6, 60),
        run(20, 60, completion_tokens=2, prompt_tokens=3),
        run(20, 60, predicted_decode_tps=None),
    ]
    assert [row.set_aside for row in history_rows(runs, "this box")] == [
        "", "others took 1.4 cores", "on another machine", "",
        "load not noted, and slower than most", "too short to tell", "nothing was predicted",
    ]  # fmt: skip
