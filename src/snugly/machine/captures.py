"""Captured outputs of tools: which tool a text came from, what it tells, and a machine of it.

A bug report, or a machine that is not here, is known by such texts alone. The tool is
recognised by the content; a file may hold several outputs one after another, under
headings, shell prompts or nothing at all.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath

from snugly.machine import apple
from snugly.machine.facts import better, blank, merge
from snugly.machine.readers import read_section
from snugly.machine.sheets import with_sheets
from snugly.machine.types import (
    Capture,
    Cpu,
    Disk,
    Fact,
    Gpu,
    Machine,
    Memory,
    Npu,
    Platform,
    Reading,
    unknown,
)

# "######## idle :: query (-q)", "## CPU", "==> meminfo <==": a heading between two outputs.
_HEADING = re.compile(r"^(?:#{2,}\s*(?=\w)(?P<hash>.*?)|==> (?P<arrow>.+) <==)\s*$")
# "$ lscpu | grep Xeon", "# $ nvidia-smi -q": the command that made what follows.
_PROMPT = re.compile(
    r"^(?:# ?)?(?:[\w.@~:/-]{0,60}\$|[\w.@~:/\\ -]{1,60}>) (?P<command>[a-z/.].*)$"
)

MAX_GPUS = 256  # more is no machine
MAX_CHARACTERS = 2_000_000  # no tool prints more; a larger file is something else


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a file that came from one command."""

    heading: str
    command: str
    text: str


def split(text: str) -> list[Section]:
    """The parts of a captured text, in order; a text without marks is one part."""
    sections: list[Section] = []
    heading, command, lines = "", "", list[str]()

    def close() -> None:
        body = "\n".join(lines)
        if body.strip():
            sections.append(Section(heading, command, body))
        lines.clear()

    for line in text.splitlines():
        if match := _HEADING.match(line):
            close()
            heading, command = (match["hash"] or match["arrow"] or "").strip(), ""
        elif match := _PROMPT.match(line):
            close()
            command = match["command"].strip()
        else:
            lines.append(line)
    close()
    return sections


def read_capture(text: str, name: str = "") -> Capture:
    """Everything that a captured text tells. Never raises, whatever the text.

    A text that no reader knows gives one reading with a remark that says so. The file's
    `name` is a hint for texts too short to be sure of ("meminfo").
    """
    clean = text[:MAX_CHARACTERS].replace("\r\n", "\n").removeprefix("\ufeff")
    # What a terminal would obey must not reach one.
    clean = re.sub(r"\x1b\[[0-9;]{0,20}[A-Za-z]", "", clean)
    clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", clean)
    # No tool prints such runs, and patterns that meet them would take their time.
    clean = re.sub(r"[ \t]{300,}", " " * 300, re.sub(r"\n{4,}", "\n\n\n", clean))
    readings: list[Reading] = []
    for section in split(clean):
        found = read_section(section.text, section.command, PurePath(name).name)
        label = section.heading or section.command
        readings += [replace(reading, section=reading.section or label) for reading in found]
    if not readings:
        why = ("No tool that Snugly knows prints such a text.",)
        readings.append(Reading("unknown", remarks=why))
    return Capture(name, tuple(readings))


def machine_from(captures: Iterable[Capture]) -> Machine:
    """The machine that captured outputs tell of; everything else unknown, with the reason.

    Where two tell of the same fact the surer one counts, then the first: an idle machine
    captured again under load is shown idle.
    """
    why = "the captured outputs do not tell"
    cpu, memory, platform = blank(Cpu, why), blank(Memory, why), blank(Platform, why)
    gpus: list[Gpu] = []
    npus: list[Npu] = []
    missing: list[Fact[str]] = []
    for capture in captures:
        for reading in capture.readings:
            cpu = merge(cpu, reading.cpu) if reading.cpu else cpu
            memory = merge(memory, reading.memory) if reading.memory else memory
            platform = merge(platform, reading.platform) if reading.platform else platform
            gpus = join_gpus(gpus, reading.gpus)[:MAX_GPUS]
            npus += [npu for npu in reading.npus if npu not in npus]
            where = ": ".join(part for part in (capture.name, reading.tool) if part)
            missing += [unknown(f"{where}: {remark}") for remark in reading.remarks]
    gpus = [_apple_memory(gpu, memory) for gpu in gpus]
    disk = blank(Disk, why, path="")
    told = Machine(cpu, memory, tuple(gpus), tuple(npus), disk, platform, tuple(missing))
    return with_sheets(told)


def join_gpus(known: list[Gpu], more: Iterable[Gpu]) -> list[Gpu]:
    """`known` with `more` added: a GPU told of twice becomes one.

    Two tell of the same GPU when maker and MIG instance agree and so does the PCI address,
    or, where one has none, the index.
    """
    joined = list(known)
    for gpu in islice(more, MAX_GPUS):
        twin = next((i for i, other in enumerate(joined) if _same(other, gpu)), None)
        if twin is None:
            joined.append(gpu)
            continue
        old = joined[twin]
        # "1g.10gb" tells more than "10gb", which is worked out from the memory.
        mig = max(old.mig, gpu.mig, key=lambda profile: ("g." in profile, len(profile)))
        joined[twin] = replace(merge(old, gpu), mig=mig)
    return joined


def _same(one: Gpu, other: Gpu) -> bool:
    if one.vendor != other.vendor or one.mig_index != other.mig_index:
        return False
    if one.bus.value and other.bus.value:
        return one.bus.value == other.bus.value
    return one.index == other.index


def _apple_memory(gpu: Gpu, memory: Memory) -> Gpu:
    """An Apple GPU's limit follows from the RAM when no tool told it."""
    ram = memory.total_bytes.value
    if gpu.vendor != "apple" or ram is None:
        return gpu
    limit = apple.gpu_limit({"hw.memsize": str(ram)})
    return replace(gpu, total_bytes=better(gpu.total_bytes, limit))
