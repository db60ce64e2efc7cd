"""A machine as rows for people: fact, value, where from. Pure, so that it can be tested."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from snugly.machine.types import Cpu, Fact, Gpu, Machine, Memory, Origin, Rates
from snugly.units import format_bytes, format_count


class Row(NamedTuple):
    """One line of the table."""

    section: str
    fact: str
    value: str
    origin: str


def rows(machine: Machine) -> Iterator[Row]:
    """Every fact worth a line. Facts that do not apply (no WSL) have none."""
    yield from _cpu(machine.cpu)
    yield from _memory(machine.memory)
    for gpu in machine.gpus:
        yield from _gpu(gpu)
    if not machine.gpus:
        yield Row("GPU", "none", "no GPU was found", "")
    for npu in machine.npus:
        yield _row("NPU", "name", npu.name)
        if npu.driver.value:
            yield _row("NPU", "driver", npu.driver)
    if machine.disk.path:
        yield Row("Disk of the models", "folder", machine.disk.path, "settings")
    yield from _known("Disk of the models", "free", machine.disk.free_bytes, format_bytes)
    yield from _known("Disk of the models", "spins", machine.disk.spins, _yes_no)
    place = machine.platform
    for name in ("system", "release", "wsl", "container", "notebook", "board"):
        yield from _known("System", name, getattr(place, name), str)
    if machine.rates:
        yield from _rates(machine.rates)


def _row(section: str, name: str, fact: Fact[Any], show: Callable[[Any], str] = str) -> Row:
    if fact.value is None:
        return Row(section, name, "unknown", fact.how)
    return Row(section, name, show(fact.value), _origin(fact))


def _origin(fact: Fact[Any]) -> str:
    # Probed is the rule and goes without saying.
    return fact.how if fact.origin is Origin.PROBED else f"{fact.origin.value}: {fact.how}"


def _known(section: str, name: str, fact: Fact[Any], show: Callable[[Any], str]) -> Iterator[Row]:
    if fact.value is not None:
        yield _row(section, name, fact, show)


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _cores(value: float) -> str:
    return f"{value:g}"


def _cpu(cpu: Cpu) -> Iterator[Row]:
    yield _row("CPU", "model", cpu.model)
    yield _row("CPU", "architecture", cpu.architecture)
    yield from _known("CPU", "sockets", cpu.sockets, str)
    yield _row("CPU", "cores", cpu.physical_cores)
    yield _row("CPU", "threads", cpu.logical_cores)
    if cpu.efficiency_cores.value:
        yield _row("CPU", "fast cores", cpu.performance_cores)
        yield _row("CPU", "saving cores", cpu.efficiency_cores)
    yield from _known("CPU", "usable cores", cpu.usable_cores, _cores)
    yield from _known("CPU", "busy now", cpu.load, lambda load: f"{load:g} cores")
    yield _row("CPU", "instructions", cpu.instructions, lambda names: " ".join(names) or "none")
    for name, fact in (("L1 data", cpu.l1d_bytes), ("L2", cpu.l2_bytes), ("L3", cpu.l3_bytes)):
        yield from _known("CPU", name, fact, format_bytes)
    if (cpu.numa_nodes.value or 0) > 1:
        yield _row("CPU", "NUMA nodes", cpu.numa_nodes)
    yield from _known("CPU", "memory bandwidth", cpu.bandwidth_bytes_per_s, _bandwidth)
    yield from _known("CPU", "f32", cpu.f32_flops, _operations)
    yield from _known("CPU", "8-bit", cpu.int8_ops, _operations)


def _bandwidth(rate: float) -> str:
    return f"{rate / 1e9:.4g} GB/s"


def _operations(rate: float) -> str:
    return f"{format_count(round(rate))} operations/s"


def _memory(memory: Memory) -> Iterator[Row]:
    yield _row("RAM", "total", memory.total_bytes, format_bytes)
    yield _row("RAM", "available", memory.available_bytes, format_bytes)
    yield from _known("RAM", "cgroup limit", memory.cgroup_limit_bytes, format_bytes)
    yield from _known("RAM", "installed", memory.installed_bytes, format_bytes)
    if memory.swap_total_bytes.value:
        yield _row("RAM", "swap", memory.swap_total_bytes, format_bytes)
        yield _row("RAM", "swap free", memory.swap_free_bytes, format_bytes)


def _gpu(gpu: Gpu) -> Iterator[Row]:
    section = f"{gpu.label} ({gpu.vendor})"
    yield _row(section, "name", gpu.name)
    yield from _known(section, "kind", gpu.kind, str)
    if gpu.unified.value:
        yield _row(section, "shares the RAM", gpu.unified, _yes_no)
    if gpu.partitioned.value:
        yield _row(section, "cut into MIG parts", gpu.partitioned, _yes_no)
    yield _row(section, "memory", gpu.total_bytes, format_bytes)
    yield _row(section, "free", gpu.free_bytes, format_bytes)
    yield from _known(section, "busy", gpu.utilization, lambda share: f"{share:.0%}")
    yield from _known(section, "compute capability", gpu.compute_capability, str)
    yield from _known(section, "architecture", gpu.architecture, str)
    yield from _known(section, "cores", gpu.cores, str)
    yield _row(section, "memory bandwidth", gpu.bandwidth_bytes_per_s, _bandwidth)
    yield from _known(section, "f16", gpu.f16_flops, _operations)
    yield from _known(section, "8-bit", gpu.int8_ops, _operations)
    yield from _known(section, "driver", gpu.driver, str)
    yield from _known(section, "runtime", gpu.runtime, str)


def _rates(rates: Rates) -> Iterator[Row]:
    for threads, fact in rates.bandwidth_bytes_per_s:
        yield _row(
            "Rates",
            f"memory, {threads} thread{'s' * (threads > 1)}",
            fact,
            lambda r: f"{r / 1e9:.1f} GB/s",
        )
    for name, fact in (("f32 product", rates.f32_flops), ("8-bit product", rates.int8_ops)):
        yield _row("Rates", name, fact, lambda r: f"{format_count(round(r))} operations/s")
    yield _row("Rates", "disk read", rates.disk_read_bytes_per_s, lambda r: f"{r / 1e6:.0f} MB/s")
    when = f"{rates.load_then:g} cores were busy then; taken in {rates.seconds:g} s"
    yield Row("Rates", "taken", rates.taken_at, when)
