"""What engines there are on this machine, for people."""

from dataclasses import dataclass
from importlib import metadata

from snugly.engine.conformance import lacks
from snugly.engine.native_found import find
from snugly.engine.registry import AUTO, ENGINES, NATIVE, chosen
from snugly.errors import EngineError
from snugly.machine.types import Machine
from snugly.settings import Settings

_DISTRIBUTIONS = {"xllamacpp": "xllamacpp", "openvino": "openvino-genai"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One engine. `unusable` is empty when it can run here; `lacks` are (ability, why not)."""

    name: str
    used: bool
    version: str
    origin: str
    path: str
    computes_on: str
    repacks: tuple[str, ...]
    lacks: tuple[tuple[str, str], ...]
    unusable: str


def listed(settings: Settings, machine: Machine) -> list[Listed]:
    """Every engine, with the one that runs models marked."""
    used = _chosen(settings)
    return [_one(name, name == used, settings, machine) for name in ENGINES if name != AUTO]


def _chosen(settings: Settings) -> str:
    try:
        return chosen(settings)
    except EngineError:
        return ""


def _one(name: str, used: bool, settings: Settings, machine: Machine) -> Listed:
    about_facts, make = ENGINES[name]
    cpu = machine.cpu
    version, origin, path = _version(name), "", ""
    try:
        if name == NATIVE and (native := find(settings)) is not None:
            version, origin, path = native.version, native.origin, native.path
        facts = about_facts(machine)
        why = make(settings).unusable(cpu.architecture.or_else(""), cpu.instructions.or_else(()))
    except EngineError as error:
        return Listed(name, used, "", "", "", "", (), (), f"{error.problem} {error.because}")
    return Listed(
        name, used, version, origin or ("package" if version else ""), path,
        facts.offloads_to or "CPU", tuple(sorted(facts.repacks)), lacks(name), why,
    )  # fmt: skip


def _version(name: str) -> str:
    try:
        return metadata.version(_DISTRIBUTIONS.get(name, name))
    except metadata.PackageNotFoundError:
        return ""
