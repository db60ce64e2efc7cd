"""How measuring goes: rounds, a time limit, going on, a busy machine. Nothing is started."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.making import machine, plan

from snugly.engine import calibrate as calibrating
from snugly.engine import calibrate_store
from snugly.engine.calibrate import Bench, calibrate, default_tuning, plan_with
from snugly.errors import EngineError, UserError
from snugly.plan.calibration import HOUSE_SPIN, STOCK_SPIN, Calibration, Sample, Tuning
from snugly.settings import settings

Rates = Callable[[Tuning], tuple[float, float]]


class Clock:
    """Time that passes only by measuring."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(calibrating, "time", made)
    monkeypatch.setattr(calibrating, "usable_engines", lambda *_: ["xllamacpp"])
    return made


def measuring(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, rates: Rates, seconds: float = 2.0
) -> list[Tuning]:
    """Every measurement takes `seconds` and tells `rates`; the list grows with each."""
    done: list[Tuning] = []

    async def measure(bench: Bench, tuning: Tuning, number: int) -> Sample:
        clock.now += seconds
        done.append(tuning)
        return Sample(number, tuning, *rates(tuning))

    monkeypatch.setattr(calibrating, "measure", measure)
    return done


def bench(seconds: float = 60.0, busy: float = 0.0) -> Bench:
    return Bench(plan(), settings(), machine(cores=2), 1000, (), seconds, lambda: busy)


async def run(
    given: Bench, known: Calibration | None = None, kept: list[Calibration] | None = None
) -> Calibration:
    states = [] if kept is None else kept
    return await calibrate(given, known, "Q4_K tiny", lambda *_: None, states.append)


def even(_: Tuning) -> tuple[float, float]:
    return 100.0, 10.0


async def test_every_round_begins_with_the_engines_own_settings(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    done = measuring(monkeypatch, clock, even)
    found = await run(bench(seconds=200.0))
    assert found.default == default_tuning(machine(cores=2), "xllamacpp")
    assert found.default.spin_rounds == STOCK_SPIN
    for number in range(found.rounds):
        first = next(s for s in found.samples if s.round == number)
        assert first.tuning == found.default
    assert done[1] == replace(found.default, spin_rounds=HOUSE_SPIN)


async def test_it_ends_in_time(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    done = measuring(monkeypatch, clock, even, seconds=7.0)
    await run(bench(seconds=60.0))
    assert clock.now <= 60.0
    assert len(done) == 8  # 8 * 7 s; the ninth would not be done in time


async def test_every_sample_is_kept_at_once_and_the_next_time_goes_on(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    measuring(monkeypatch, clock, even)
    kept: list[Calibration] = []
    first = await run(bench(seconds=9.0), kept=kept)
    assert [len(state.samples) for state in kept] == [1, 2, 3, 4]
    calibrate_store.save(settings().cache, "mark", first)
    again = calibrate_store.load(settings().cache, "mark", "Q4_K tiny")
    assert again == first
    assert calibrate_store.load(settings().cache, "other machine", "Q4_K tiny") is None
    second = await run(bench(seconds=60.0), again)
    assert second.samples[:4] == first.samples
    assert second.rounds > first.rounds
    assert len({s.tuning for s in second.samples}) > len({s.tuning for s in first.samples})


async def test_what_is_clearly_slower_is_measured_once(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    done = measuring(
        monkeypatch, clock, lambda t: (30.0, 3.0) if t.threads == 1 else (100.0, 10.0), 1.0
    )
    await run(bench(seconds=100.0))
    slow = [t for t in done if t.threads == 1]
    assert slow
    assert len(slow) == len(set(slow))
    assert done.count(replace(done[0], spin_rounds=HOUSE_SPIN)) > 1


async def test_a_busy_machine_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    done = measuring(monkeypatch, clock, even)
    with pytest.raises(UserError, match="busy"):
        await run(bench(busy=0.8))
    assert done == []


async def test_a_setting_that_does_not_run_is_no_candidate(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    def picky(tuning: Tuning) -> tuple[float, float]:
        if not tuning.flash_attention:
            raise EngineError("The engine could not load the model.")
        return 100.0, 10.0

    measuring(monkeypatch, clock, picky, 0.5)
    found = await run(bench(seconds=60.0))
    assert found.rounds > 1
    assert all(s.tuning.flash_attention for s in found.samples)


async def test_where_not_even_the_defaults_run_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    def broken(_: Tuning) -> tuple[float, float]:
        raise EngineError("It is broken.")

    measuring(monkeypatch, clock, broken)
    with pytest.raises(EngineError):
        await run(bench())


async def test_another_default_starts_anew(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """More cores than then, or another engine: what was measured says nothing."""
    measuring(monkeypatch, clock, even)
    other = Tuning("xllamacpp", 64, 64, STOCK_SPIN)
    known = Calibration("Q4_K tiny", other, (Sample(0, other, 1.0, 1.0),))
    found = await run(bench(seconds=9.0), known)
    assert all(sample.tuning.threads <= 2 for sample in found.samples)


def test_a_damaged_file_is_no_calibration() -> None:
    path = calibrate_store.path_of(settings().cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    for text in ("", "{", "[]", '{"version": 1, "entries": {"m Q": {"samples": [{}]}}}'):
        path.write_text(text)
        assert calibrate_store.load(settings().cache, "m", "Q") is None


def test_a_measurement_asks_for_room_enough_and_nothing_else() -> None:
    made = plan_with(plan(context=32768), Tuning("native", 3, 4, 500, False, False, 1024))
    assert (made.threads, made.threads_batch, made.spin_rounds) == (3, 4, 500)
    assert (made.setup.context, made.setup.ubatch, made.setup.repack) == (1024, 1024, False)
    assert made.setup.batch >= made.setup.ubatch
