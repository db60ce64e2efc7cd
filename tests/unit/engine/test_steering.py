"""A loaded model is started anew when cores are taken or left, between its answers."""

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests import making

from snugly.engine import pool as pool_module
from snugly.engine import steering as steering_module
from snugly.engine.pool import Pool
from snugly.engine.space import Limits
from snugly.engine.steering import Load, Steering, urgent, work
from snugly.machine.types import Machine
from snugly.model.types import Installed, ModelSpec, Provenance
from snugly.plan.threads import threads
from snugly.plan.types import Need, Plan
from snugly.units import GiB


@dataclass(eq=False)
class Runs:
    """A running engine that only is."""

    plan: Plan
    pid: int = 1
    alive: bool = True
    last_words: str = ""
    guessed: Any = None

    async def stop(self) -> None:
        self.alive = False

    def held_bytes(self) -> int:
        return 0

    def peak_bytes(self) -> int:
        return 0


@dataclass
class Starts:
    """An engine that starts at once, and remembers with how many threads."""

    name: str = "made up"
    threads: list[int] = field(default_factory=list)

    def unusable(self, architecture: str, instructions: Any) -> str:
        return ""

    async def start(self, plan: Plan, mode: str = "generate") -> Any:
        self.threads.append(plan.threads)
        return Runs(plan)


def steering(cores: float, box: Machine | None = None) -> Steering:
    return Steering(Load(lambda pids: (0.0, 0.0), cores), box or making.machine(cores=4))


def plan_of(box: Machine, cores: float) -> Plan:
    made = steering(cores, box)
    return making.plan(threads=made._threads(cores), free_cores=made._threads(cores))


def begun(cores: float) -> tuple[Any, Plan, Machine]:
    """A model that was started under a load of so many cores, its plan, and the box."""
    box = making.machine(cores=4)
    plan = plan_of(box, cores)
    return Runs(plan), plan, box


def test_the_load_is_what_others_do() -> None:
    """Two of four cores work, one of them for us: a load of one core."""
    seen = iter([(100.0, 50.0), (120.0, 60.0), (140.0, 70.0)])
    load = Load(lambda pids: next(seen))
    for now in (0.0, 10.0, 20.0):
        load.look(now, [7])
    assert load.cores == pytest.approx(1.0)


def test_an_engine_that_came_or_went_is_no_load() -> None:
    seen = iter([(100.0, 50.0), (200.0, 5.0)])
    load = Load(lambda pids: next(seen))
    load.look(0.0, [7])
    load.look(1.0, [8])
    assert load.cores == 0.0


def test_a_core_that_is_taken_counts_after_five_seconds() -> None:
    runs, quiet, box = begun(0.0)
    made = steering(1.0, box)
    assert made.due("m", runs, quiet, 100.0) is None
    assert made.due("m", runs, quiet, 104.9) is None
    due = made.due("m", runs, quiet, 105.0)
    assert due == 0.0
    assert not urgent(due)
    late = made.due("m", runs, quiet, 135.0)
    assert late is not None
    assert urgent(late)


def test_a_pause_in_between_begins_again() -> None:
    runs, quiet, box = begun(0.0)
    made = steering(1.0, box)
    assert made.due("m", runs, quiet, 100.0) is None
    made.load.cores = 0.0
    assert made.due("m", runs, quiet, 104.0) is None
    made.load.cores = 1.0
    assert made.due("m", runs, quiet, 105.0) is None
    assert made.due("m", runs, quiet, 109.0) is None
    assert made.due("m", runs, quiet, 110.0) is not None


def test_cores_that_come_back_count_after_twenty() -> None:
    runs, busy, box = begun(1.0)
    made = steering(0.0, box)
    assert made.due("m", runs, busy, 0.0) is None
    assert made.due("m", runs, busy, 19.0) is None
    assert made.due("m", runs, busy, 20.0) is not None


def test_near_the_middle_between_two_nothing_changes() -> None:
    box = making.machine(cores=4)
    for load in (0.4, 0.5, 0.6):
        for then in (0.0, 1.0):
            made = steering(load, box)
            assert made.free(made._threads(then)) == made._threads(then)


def test_there_is_a_minute_between_two() -> None:
    runs, quiet, box = begun(0.0)
    made = steering(1.0, box)
    made.began("m", 100.0)
    for now in (101.0, 120.0, 159.0):
        assert made.due("m", runs, quiet, now) is None


def test_what_lies_on_a_gpu_is_left_alone() -> None:
    _, quiet, box = begun(0.0)
    use = quiet.estimate.uses[0]
    uses = (replace(use, weights_bytes=1), replace(use, pool="GPU"))
    on_gpu = replace(quiet, gpu_layers=33, estimate=replace(quiet.estimate, uses=uses))
    runs: Any = Runs(on_gpu)
    made = steering(1.0, box)
    assert [made.due("m", runs, on_gpu, now) for now in (0.0, 50.0)] == [None, None]


def test_guessing_that_costs_is_ended_at_once() -> None:
    @dataclass
    class Costs:
        pays: bool = False

    made = steering(0.0)
    runs: Any = Runs(making.plan(), guessed=Costs())
    assert urgent(made.due("m", runs, runs.plan, 0.0) or 0.0)
    made.began("m", 1.0)
    assert made.due("m", runs, runs.plan, 60.0) is None  # not again and again
    assert made.due("m", runs, runs.plan, 61.0)


async def test_an_answer_longer_than_the_wait_for_a_renewal_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "_REAP_SECONDS", 0.01)
    monkeypatch.setattr(pool_module, "_DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(Steering, "due", lambda *_: steering_module._PATIENCE_SECONDS)
    made = steering(0.0)
    engine, spec = Starts(), making.spec(path="/m.gguf", weight_bytes=GiB)
    installed = Installed("p/m", spec.path, (), Provenance("", "", "", "", 0, ""), False)

    def planner(machine: Machine, spec: ModelSpec, need: Need) -> Plan:
        return making.plan(spec.path, 4096)

    async with Pool(engine, making.machine, planner, Limits(), steering=made) as pool:
        async with pool.lease(installed, spec) as first:
            await asyncio.sleep(0.03)  # a renewal waits for this answer, and nobody new gets in
            async with asyncio.timeout(20), pool.lease(installed, spec) as second:
                assert second.running is first.running
            assert len(engine.threads) == 1


async def test_requests_beside_a_busy_loop_are_all_answered_and_the_model_gets_fewer_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steering_module, "_FEWER_SECONDS", 0.2)
    monkeypatch.setattr(steering_module, "_MEMORY_SECONDS", 0.2)
    monkeypatch.setattr(pool_module, "_REAP_SECONDS", 0.1)
    box = making.machine(cores=2)
    made = Steering(Load(work), box)

    def planner(machine: Machine, spec: ModelSpec, need: Need) -> Plan:
        # Quiet at first, whatever else this machine does; then as it was seen.
        count = threads(making.machine(cores=2, busy=float(len(engine.threads))))[0]
        return making.plan(spec.path, 4096, threads=count, free_cores=count)

    engine = Starts()
    spec = making.spec(path="/m.gguf", weight_bytes=GiB)
    installed = Installed("p/m", spec.path, (), Provenance("", "", "", "", 0, ""), False)
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        async with Pool(engine, lambda: box, planner, Limits(), steering=made) as pool:
            answered, deadline = 0, time.monotonic() + 20
            while len(engine.threads) < 2 and time.monotonic() < deadline:
                async with pool.lease(installed, spec) as lease:
                    await asyncio.sleep(0.05)
                    assert lease.running.alive  # never stopped under an answer
                    answered += 1
                await asyncio.sleep(0.02)
            async with pool.lease(installed, spec) as lease:
                assert lease.running.alive
    finally:
        loop.kill()
        loop.wait()
    assert engine.threads == [2, 1]
    assert answered > 3
