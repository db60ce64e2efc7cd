"""Energy that the box counts: processors by RAPL, NVIDIA's GPUs by NVML."""

import re
from dataclasses import dataclass
from typing import Any

from snugly.machine.host import Host

_ROOT = "sys/class/powercap"
# A counter is 32 bits of microjoules at the least; where it began again is told beside it.
_MICRO = 1e-6


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter of energy: what it counts, joules so far, and where it begins again."""

    name: str
    joules: float
    wraps_at: float = 0.0


def counters(host: Host, nvml: Any = None) -> tuple[Counter, ...]:
    """What the box tells; nothing where there is no counter, or it may not be read.

    Packages of processors hold their cores: only these are taken. Linux lets only root
    read them (CVE-2020-8694). `nvml` is the module pynvml, None to leave GPUs out.
    Source: Linux Documentation/power/powercap; nvmlDeviceGetTotalEnergyConsumption.
    """
    return (*_rapl(host), *(_gpus(nvml) if nvml is not None else ()))


def _rapl(host: Host) -> list[Counter]:
    found = []
    for index in range(64):  # packages; the largest boxes have 16
        folder = f"/{_ROOT}/intel-rapl:{index}"
        name = (host.read(f"{folder}/name") or "").strip()
        if not name:
            break
        energy, most = (
            host.read(f"{folder}/{what}") or "" for what in ("energy_uj", "max_energy_range_uj")
        )
        if name.startswith("package") and re.fullmatch(r"\d+\s*", energy):
            wraps = int(most) * _MICRO if most.strip().isdigit() else 0.0
            found.append(Counter(name, int(energy) * _MICRO, wraps))
    return found


def _gpus(nvml: Any) -> list[Counter]:
    found = []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            found.append(Counter(f"GPU {index}", millijoules / 1000))
    except nvml.NVMLError:
        return found  # older than Volta: not counted
    finally:
        nvml.nvmlShutdown()
    return found


def spent(before: tuple[Counter, ...], after: tuple[Counter, ...]) -> float | None:
    """Joules between two readings of all counters; None where there is none."""
    then = {counter.name: counter for counter in before}
    pairs = [(then[now.name], now) for now in after if now.name in then]
    if not pairs:
        return None
    total = 0.0
    for old, new in pairs:
        used = new.joules - old.joules
        total += used + new.wraps_at if used < 0 else used
    return total
