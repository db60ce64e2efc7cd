"""The nouns of an examination: who is examined, and what was found."""

from dataclasses import dataclass, field
from enum import StrEnum

from snugly.machine.host import Host
from snugly.machine.types import Machine
from snugly.model.progress import Progress, Silent
from snugly.settings import Settings


class Verdict(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARN = "warn"  # works, but worse than it could, or not for long
    BAD = "bad"  # something does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `what`, `why` and `remedy` are sentences."""

    name: str
    verdict: Verdict
    what: str
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined. `deep` reads every byte of every model and of the history."""

    config: Settings
    machine: Machine
    host: Host = field(default_factory=Host)
    deep: bool = False
    progress: Progress = field(default_factory=Silent)


def ok(name: str, what: str, why: str = "") -> Finding:
    """All is well."""
    return Finding(name, Verdict.OK, what, why)


def warn(name: str, what: str, why: str, remedy: str) -> Finding:
    """It works, but worse than it could, or not for long."""
    return Finding(name, Verdict.WARN, what, why, remedy)


def bad(name: str, what: str, why: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(name, Verdict.BAD, what, why, remedy)
