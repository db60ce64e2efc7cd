"""Half of the threads, low priority, and the reason."""

from typing import Any

import psutil
import pytest
from tests import making

from snugly.engine.address import Address
from snugly.engine.llama_cpp import worker_config
from snugly.machine.power import strained
from snugly.plan.polite import politely


@pytest.mark.parametrize(("threads", "left"), [(1, 1), (2, 1), (8, 4)])
def test_half_of_the_threads_and_one_at_least(threads: int, left: int) -> None:
    plan = politely(making.plan(threads=threads, threads_batch=threads), "it is hot")
    assert (plan.threads, plan.threads_batch, plan.polite) == (left, left, True)
    assert "it is hot" in plan.why[-1]
    assert worker_config(plan, Address("/s", 0, ""))["polite"]


class Sensor:
    def __init__(self, **told: Any) -> None:
        self.__dict__.update(told)


def test_a_battery_and_heat_strain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    monkeypatch.setattr(
        psutil, "sensors_battery", lambda: Sensor(power_plugged=False), raising=False
    )
    assert "battery" in strained()
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert strained() == ""
    for current, hot in ((94.0, False), (95.5, True)):
        sensor = Sensor(current=current, high=100.0)
        monkeypatch.setattr(
            psutil, "sensors_temperatures", lambda s=sensor: {"coretemp": [s]}, raising=False
        )
        assert bool(strained()) is hot
