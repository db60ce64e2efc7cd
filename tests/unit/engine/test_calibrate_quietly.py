"""Calibration by itself: only when idle, only so long, and out of the way at once."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import making

from snugly.engine import calibrate_quietly
from snugly.engine.calibrate_quietly import Quietly
from snugly.engine.seat import Resident
from snugly.engine.steering import Load, Steering
from snugly.model.types import Installed, Provenance
from snugly.settings import Settings

SPEC = making.spec()
FOUND = Installed("p/m", SPEC.path, (), Provenance("", "", "", "", 0, ""), False)


def resident(in_use: int = 0, **plan: Any) -> Resident:
    made = making.plan(**plan)
    return Resident("m", "p/m", "generate", made, SPEC, FOUND, os.getppid(), in_use, None, False,
                    0.0, None)  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A `Quietly` whose measurements are only counted."""

    def make(residents: list[Resident], seconds: float = 0.0) -> tuple[Quietly, list[float]]:
        begun: list[float] = []

        async def calibrate(bench: Any, *rest: Any) -> None:
            begun.append(bench.seconds)
            await asyncio.sleep(seconds)

        monkeypatch.setattr(calibrate_quietly, "calibrate", calibrate)
        monkeypatch.setattr(calibrate_quietly, "_LOOK_SECONDS", 0.01)
        config = Settings(cache=tmp_path, engine="xllamacpp")
        return Quietly(config, making.machine, lambda: residents), begun

    return make


async def test_a_minute_in_all_for_a_class(made: Callable[..., Any]) -> None:
    quiet, begun = made([resident()], 0.05)
    await quiet._once()
    await quiet._once()
    assert begun[0] == 60.0
    assert 59.0 < begun[1] < 59.96
    quiet._left = dict.fromkeys(quiet._left, 0.5)
    await quiet._once()
    assert len(begun) == 2


async def test_steering_is_left_alone_meanwhile(made: Callable[..., Any]) -> None:
    quiet, begun = made([resident()], 0.05)
    steering = Steering(Load(lambda _: (0.0, 0.0)))
    quiet.alone = steering.left_alone
    measuring = asyncio.create_task(quiet._once())
    while not begun:
        await asyncio.sleep(0.001)
    assert steering.paused
    await measuring
    assert not steering.paused


async def test_a_request_ends_it_at_once(made: Callable[..., Any]) -> None:
    loaded = [resident()]
    quiet, begun = made(loaded, 30.0)
    work = asyncio.create_task(quiet._once())
    await asyncio.sleep(0.3)
    assert begun
    loaded[0] = replace(loaded[0], in_use=1)
    before = time.monotonic()
    await work
    assert time.monotonic() - before < 5.0


async def test_not_without_room_and_not_on_a_gpu(made: Callable[..., Any]) -> None:
    for loaded in ([resident(gpu_layers=33)], []):
        quiet, begun = made(loaded)
        await quiet._once()
        assert begun == []
    quiet, begun = made([resident()])
    quiet.look = lambda: making.machine(free=1)
    await quiet._once()
    assert begun == []


def test_an_engine_that_computed_between_two_looks_was_not_idle(
    made: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    class Process:
        worked = 1.0

        def __init__(self, pid: int) -> None:
            pass

        def cpu_times(self) -> Any:
            return type("Times", (), {"user": Process.worked, "system": 0.0})()

    monkeypatch.setattr(psutil, "Process", Process)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    quiet, _ = made([resident()])
    assert quiet._idle_for() == 0.0
    clock[0] = 140.0
    assert quiet._idle_for() == 40.0
    Process.worked = 1.5
    assert quiet._idle_for() == 0.0
