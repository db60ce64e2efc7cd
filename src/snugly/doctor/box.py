"""Judging the box: GPUs and their drivers, busy cores, memory. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from snugly.doctor.types import Finding, bad, ok, warn
from snugly.units import GiB, format_bytes


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU on the PCI bus. `vendor` is its PCI number; `driver` empty where none is bound."""

    address: str
    vendor: str
    driver: str


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """GPUs as the bus has them and as their drivers tell them.

    `told` counts the GPUs of each maker that answered. `no_answer` are the reasons of tools
    that did not. `closed` are device files that exist and that we may not open.
    """

    cards: tuple[Card, ...]
    told: dict[str, int]
    no_answer: tuple[str, ...]
    closed: tuple[str, ...] = ()
    device_files: bool = True  # those that the NVIDIA driver makes
    container: str = ""
    computes_on: str = ""  # what the engine offloads to; empty: the CPU alone


# PCI numbers of makers: https://pci-ids.ucw.cz/
MAKERS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
_RIGHT = {"nvidia": ("nvidia",), "amd": ("amdgpu",), "intel": ("i915", "xe")}
_DRIVERS = {
    "nvidia": "Install NVIDIA's driver (Debian: nvidia-driver, Ubuntu: `ubuntu-drivers install`) "
    "and start the machine again.",
    "amd": "Load it with `modprobe amdgpu`; a kernel of 6.1 or newer knows current cards.",
    "intel": "Load it with `modprobe i915` (or xe); a newer kernel knows newer cards.",
}


def judge_gpus(facts: GpuFacts) -> list[Finding]:
    """Whether every GPU can be computed on, and is."""
    found = [finding for card in facts.cards if (finding := _judge_card(card, facts))]
    if facts.closed:
        found.append(
            bad(
                "gpu", f"You may not use the GPU: {', '.join(facts.closed)} cannot be opened.",
                "The device files belong to groups that you are not in.",
                "`sudo usermod -aG render,video $USER`, then log in again.",
            )
        )  # fmt: skip
    if found:
        return found
    count = sum(facts.told.values())
    if not count:
        return [ok("gpu", "There is no GPU: models run on the processor.")]
    # Integrated Intel GPUs read the same memory as the cores: nothing is lost without them.
    makers = sorted(_NAMES.get(name, name) for name in facts.told if name != "intel")
    if makers and not facts.computes_on:
        return [
            warn(
                "gpu", f"The {' and '.join(makers)} GPU works, but the engine does not use it.",
                "The engine in use computes on the processor alone.",
                "`snugly engine build` makes one for this GPU (docs/engines.md).",
            )
        ]  # fmt: skip
    return [ok("gpu", f"{count} GPU{'s' if count > 1 else ''} answer.")]


def _judge_card(card: Card, facts: GpuFacts) -> Finding | None:
    maker = MAKERS.get(card.vendor, "")
    if not maker or facts.told.get(maker):
        return None
    name = f"the {_NAMES[maker]} GPU at {card.address}"
    if maker == "nvidia" and facts.container and not facts.device_files:
        return bad(
            "gpu", f"This container ({facts.container}) was not given {name}.",
            "It is on the bus, but /dev has no files of it.",
            "Start the container with `--gpus all` (Docker) or "
            "`--device nvidia.com/gpu=all` (Podman).",
        )  # fmt: skip
    if not card.driver:
        return bad("gpu", f"No driver runs {name}.", "None is bound to it.", _DRIVERS[maker])
    if card.driver == "vfio-pci":
        return warn(
            "gpu", f"{name[0].upper()}{name[1:]} is set aside for virtual machines.",
            "Its driver is vfio-pci.", "Give it back to its own driver to compute on it.",
        )  # fmt: skip
    if card.driver not in _RIGHT[maker]:
        why = f"{card.driver} draws pictures but cannot compute for models."
        return bad("gpu", f"{name[0].upper()}{name[1:]} has the wrong driver.", why,
                   _DRIVERS[maker])  # fmt: skip
    if maker == "nvidia":
        return _silent_nvidia(name, facts)
    return None


def _silent_nvidia(name: str, facts: GpuFacts) -> Finding:
    why = "; ".join(facts.no_answer) or "It does not say why"
    # In NVML's words, and in ours for nvidia-smi's (machine/nvidia_text.py).
    mismatch = "mismatch" in why.lower() or "differ in version" in why
    return bad(
        "gpu", f"The driver of {name} does not answer.", f"{why}.",
        "The driver was updated while it ran: start the machine again." if mismatch
        else "Look at `dmesg | grep -i nvrm`; install the driver again where that says nothing.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """Busy cores, without our own work. `programs` are (name, process, cores)."""

    busy: float | None
    usable: float
    programs: tuple[tuple[str, int, float], ...] = ()


def judge_cores(facts: CoreFacts) -> Finding:
    """Whether other programs take the cores that models need.

    Half: an engine's threads wait for each other after every layer, so that one of them on a
    shared core slows all (bench/busy.py: 130 tokens/s become 33).
    """
    if facts.busy is None:
        return ok("cores", f"{facts.usable:g} cores; how busy they are is not told.")
    if facts.busy <= facts.usable / 2:
        return ok("cores", f"{facts.busy:.1f} of {facts.usable:g} cores are busy.")
    named = ", ".join(f"{name} (process {pid}): {c:.1f}" for name, pid, c in facts.programs)
    return warn(
        "cores", f"{facts.busy:.1f} of {facts.usable:g} cores are busy with other programs.",
        f"The most of it: {named}." if named else "Which programs it is is not told.",
        "Models answer several times slower beside them: end them, or wait.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """RAM in bytes. `smallest` is the size of the smallest installed model.

    `address_limit` is what `ulimit -v` allows, `stalled` the share of the last 10 s in which
    something waited for memory (/proc/pressure/memory), `programs` (name, process, bytes).
    """

    available: int | None
    total: int | None
    machine_total: int
    smallest: int | None = None
    address_limit: int | None = None
    stalled: float | None = None
    programs: tuple[tuple[str, int, int], ...] = ()


# Below this, small models have the shortest contexts only: an engine with a model of 135M
# parameters and 2,048 tokens takes some 0.3 GiB (docs/memory.md).
_SCARCE = 1 * GiB
_STALLED = 0.10


def judge_memory(facts: MemoryFacts) -> list[Finding]:
    """Whether there is memory for models, and what takes or limits it."""
    found = [finding for finding in (_short(facts), _limited(facts), _stalls(facts)) if finding]
    if found or facts.available is None:
        return found or [ok("memory", "How much memory is free is not told.")]
    total = "" if facts.total is None else f" of {format_bytes(facts.total)}"
    return [ok("memory", f"{format_bytes(facts.available)}{total} are free.")]


def _short(facts: MemoryFacts) -> Finding | None:
    if facts.available is None:
        return None
    named = ", ".join(f"{n} (process {p}): {format_bytes(b)}" for n, p, b in facts.programs)
    why = f"The most is taken by {named}." if named else ""
    free = format_bytes(facts.available)
    if facts.smallest is not None and facts.available < facts.smallest:
        what = f"Not even the smallest model here fits: {free} are free, it has "
        what += f"{format_bytes(facts.smallest)}."
        return bad("memory", what, why, "Close other programs; `snugly stop` unloads models.")
    if facts.available < _SCARCE:
        return warn("memory", f"Only {free} of memory are free.", why,
                    "Close other programs; `snugly stop` unloads models.")  # fmt: skip
    return None


def _limited(facts: MemoryFacts) -> Finding | None:
    if facts.address_limit is not None:
        return warn(
            "memory", f"A limit leaves each program {format_bytes(facts.address_limit)}.",
            "`ulimit -v` is set; model files are mapped, which counts in full.",
            "Lift it: `ulimit -v unlimited`.",
        )  # fmt: skip
    if facts.total is not None and facts.total < facts.machine_total / 2:
        return warn(
            "memory",
            f"A control group leaves us {format_bytes(facts.total)} of the machine's "
            f"{format_bytes(facts.machine_total)}.",
            "A container or a service was started with this limit.",
            "Plans respect it; raise it where it was set (`docker run --memory`, MemoryMax=).",
        )
    return None


def _stalls(facts: MemoryFacts) -> Finding | None:
    if facts.stalled is None or facts.stalled < _STALLED:
        return None
    return warn(
        "memory", f"Programs wait for memory {facts.stalled:.0%} of the time.",
        "The system is short of memory and pages are read again and again.",
        "Close other programs, or take smaller models.",
    )  # fmt: skip


def largest(
    programs: Sequence[tuple[str, int, float]], least: float, count: int = 3
) -> tuple[tuple[str, int, float], ...]:
    """The few that take the most, of those that take at least `least`."""
    ordered = sorted(programs, key=lambda program: -program[2])
    return tuple(program for program in ordered if program[2] >= least)[:count]
