"""The engines there are. A plug point of the house: a new engine is one more entry."""

import sys
from collections.abc import Callable

from snugly.engine import llama_cpp
from snugly.engine.types import Engine
from snugly.machine.types import Machine
from snugly.plan.types import EngineFacts
from snugly.settings import Settings


def _xllamacpp_facts(machine: Machine) -> EngineFacts:
    return llama_cpp.facts(sys.platform, machine.cpu.architecture.or_else(""))


def _xllamacpp(settings: Settings) -> Engine:
    return llama_cpp.LlamaCpp(
        settings.engine_start_seconds,
        settings.engine_silence_seconds,
        settings.engine_command or llama_cpp.WORKER,
    )


# name -> (what the planner must know, how to make one)
ENGINES: dict[str, tuple[Callable[[Machine], EngineFacts], Callable[[Settings], Engine]]] = {
    "xllamacpp": (_xllamacpp_facts, _xllamacpp),
}
DEFAULT = "xllamacpp"
