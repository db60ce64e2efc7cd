"""What the benches share: a plan for a file, timing of a command, medians with spread."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from snugly.engine.llama_cpp import facts
from snugly.machine.detect import detect
from snugly.model.lookup import find
from snugly.model.refs import DEFAULT_REF
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.plan.choose import choose, or_refuse
from snugly.plan.types import Need, Plan
from snugly.settings import settings


def default_model() -> str:
    """The embedded default, which has to be installed (`snugly pull smollm2`)."""
    return find(Store(settings().store), DEFAULT_REF).path


def plan_for(path: str, context: int | None = None) -> Plan:
    """The plan that `snugly run` would make."""
    machine = detect(settings().store)
    return or_refuse(
        choose(
            machine,
            read_spec(path),
            Need(context),
            facts(sys.platform, machine.cpu.architecture.or_else("")),
        )
    )


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`median (min .. max)`."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def seconds(words: Sequence[str], until_first_byte: bool = False) -> float:
    """Wall time of a command in a process of its own, to its end or its first output."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    taken = 0.0
    if until_first_byte and process.stdout.read(1):
        taken = time.perf_counter() - begun
    process.stdout.read()
    process.wait()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return taken or time.perf_counter() - begun


def snugly(*words: str) -> list[str]:
    """The command line of the `snugly` beside this Python."""
    return [str(Path(sys.executable).with_name("snugly")), *words]


def header(title: str) -> None:
    """Name the run and the load it was taken under."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"# {title} ({os.cpu_count()} logical cores, load average {load:.2f})")
