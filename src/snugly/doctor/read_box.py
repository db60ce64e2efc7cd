"""Reading the box. Each returns facts; what they mean is said in `box`."""

import os
import re
import time
from contextlib import suppress

import psutil

from snugly.doctor.box import (
    MAKERS,
    Card,
    CoreFacts,
    GpuFacts,
    MemoryFacts,
    largest,
)
from snugly.doctor.types import Patient
from snugly.machine.host import Host
from snugly.units import MiB

_PCI = "/sys/bus/pci/devices"
_LOOK_SECONDS = 0.4  # four ticks of the kernel's clock are a tenth of a core


def read_gpus(patient: Patient, computes_on: str) -> GpuFacts:
    """GPUs on the bus, beside those that answered."""
    host, machine = patient.host, patient.machine
    told: dict[str, int] = {}
    for gpu in machine.gpus:
        told[gpu.vendor] = told.get(gpu.vendor, 0) + 1
    cards = read_cards(host)
    return GpuFacts(
        cards,
        told,
        tuple(fact.how for fact in machine.missing if "NVML" in fact.how or "nvidia" in fact.how),
        _closed(host, cards),
        any(name.startswith("nvidia") for name in host.names("/dev")),
        machine.platform.container.or_else(""),
        computes_on,
    )


def read_cards(host: Host) -> tuple[Card, ...]:
    """Display controllers (PCI class 03) of makers whose GPUs compute."""
    found = []
    for address in host.names(_PCI):
        kind = (host.read(f"{_PCI}/{address}/class") or "").strip()
        vendor = (host.read(f"{_PCI}/{address}/vendor") or "").strip()
        if kind.startswith("0x03") and vendor in MAKERS:
            driver = ""
            with suppress(OSError):
                driver = os.path.basename(os.readlink(host.path(f"{_PCI}/{address}/driver")))
            found.append(Card(address, vendor, driver))
    return tuple(found)


def _closed(host: Host, cards: tuple[Card, ...]) -> tuple[str, ...]:
    """Device files of GPUs that are there and may not be opened by us."""
    makers = {MAKERS[card.vendor] for card in cards}
    paths = ["/dev/kfd"] if "amd" in makers else []
    if makers & {"amd", "intel"}:
        names = host.names("/dev/dri")
        paths += [f"/dev/dri/{name}" for name in names if name.startswith("renderD")]
    there = [path for path in paths if host.path(path).exists()]
    return tuple(path for path in there if not os.access(host.path(path), os.R_OK | os.W_OK))


def read_cores(patient: Patient) -> CoreFacts:
    """Busy cores, and the programs that keep them so."""
    cpu = patient.machine.cpu
    usable = cpu.usable_cores.or_else(cpu.logical_cores.or_else(1))
    busy = cpu.load.value
    if busy is None or busy <= usable / 2:
        return CoreFacts(busy, usable)
    return CoreFacts(busy, usable, busy_programs())


def busy_programs(count: int = 3) -> tuple[tuple[str, int, float], ...]:
    """The programs that keep the most cores busy: name, process, cores."""
    before = _cpu_seconds()
    began = time.monotonic()
    time.sleep(_LOOK_SECONDS)
    span = time.monotonic() - began
    programs = [
        (name, pid, (seconds - before[pid][1]) / span)
        for pid, (name, seconds) in _cpu_seconds().items()
        if pid in before and pid != os.getpid()
    ]
    return largest(programs, 0.1, count)


def _cpu_seconds() -> dict[int, tuple[str, float]]:
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = (process.name(), times.user + times.system)
    return found


def read_memory(patient: Patient, smallest: int | None) -> MemoryFacts:
    """RAM, what limits it, and who has the most of it."""
    memory = patient.machine.memory
    programs: list[tuple[str, int, float]] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            programs.append((process.name(), process.pid, float(process.memory_info().rss)))
    most = largest(programs, 100 * MiB)
    return MemoryFacts(
        memory.available_bytes.value,
        memory.total_bytes.value,
        psutil.virtual_memory().total,
        smallest,
        address_limit(),
        stalled(patient.host.read("/proc/pressure/memory") or ""),
        tuple((name, pid, int(size)) for name, pid, size in most),
    )


def address_limit() -> int | None:
    """Bytes of address space that each process may have; None: any."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def stalled(text: str) -> float | None:
    """Share of the last 10 s in which some task waited for memory (kernel: psi.rst)."""
    match = re.search(r"^some avg10=(\d+\.\d+)", text, re.MULTILINE)
    return float(match[1]) / 100 if match else None
