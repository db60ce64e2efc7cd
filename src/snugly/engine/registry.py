"""The engines there are. A plug point of the house: a new engine is one more entry.

Engines are imported when one is made: planning needs their facts alone.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from snugly.engine import facts
from snugly.engine.facts import NATIVE as NATIVE
from snugly.engine.facts import OPENVINO
from snugly.engine.facts import WHEEL as WHEEL
from snugly.engine.native_found import find
from snugly.machine.types import Machine
from snugly.plan.types import EngineFacts
from snugly.settings import Settings, settings

if TYPE_CHECKING:
    from snugly.engine.types import Engine

AUTO = "auto"


def _xllamacpp_facts(machine: Machine) -> EngineFacts:
    return facts.facts(sys.platform, machine.cpu.architecture.or_else(""))


def _xllamacpp(settings: Settings) -> "Engine":
    from snugly.engine import llama_cpp
    from snugly.engine.prefix_keeper import memory_of

    command = settings.engine_command or llama_cpp.WORKER
    build = " ".join(settings.engine_command) or f"{WHEEL} {llama_cpp.version()}"
    return llama_cpp.LlamaCpp(
        settings.engine_start_seconds, settings.engine_silence_seconds, command,
        memory=memory_of(settings, build),
    )  # fmt: skip


def _native_facts(machine: Machine) -> EngineFacts:
    found = find(settings())
    return facts.native_facts(machine, found.backend if found else "")


def _native(settings: Settings) -> "Engine":
    from snugly.engine import native

    return native.make(settings)


def _openvino(settings: Settings) -> "Engine":
    from snugly.engine import openvino

    return openvino.make(settings)


def chosen(settings: Settings) -> str:
    """Which engine runs: the one that was chosen, else llama-server where one is, else the wheel.

    Raises: EngineError when a llama-server was named that is none.
    """
    if settings.engine_command:  # another program in the wheel's place
        return WHEEL
    if settings.engine != AUTO:
        return settings.engine
    there = sys.platform != "win32" and find(settings) is not None
    return NATIVE if there else WHEEL


def _chosen_facts(machine: Machine) -> EngineFacts:
    return ENGINES[chosen(settings())][0](machine)


def _chosen(settings: Settings) -> "Engine":
    return ENGINES[chosen(settings)][1](settings)


# name -> (what the planner must know, how to make one)
ENGINES: dict[str, tuple[Callable[[Machine], EngineFacts], Callable[[Settings], "Engine"]]] = {
    WHEEL: (_xllamacpp_facts, _xllamacpp),
    NATIVE: (_native_facts, _native),
    OPENVINO: (lambda _: facts.openvino_facts(), _openvino),
    AUTO: (_chosen_facts, _chosen),
}
DEFAULT = AUTO
