"""Cores, their kinds and caches out of /sys/devices."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from snugly.machine.facts import blank, known, said, size, whole
from snugly.machine.types import Cpu, assumed, probed

CPUS = "/sys/devices/system/cpu"
_HOW = "sysfs"
_MAX_CPUS = 8192  # the kernel's own limit (CONFIG_NR_CPUS); a list beyond it is damaged


def read_cpu_list(text: str | None) -> list[int]:
    """The numbers of "0-3,8": the kernel's way to write sets of processors."""
    numbers: list[int] = []
    for part in (text or "").strip().split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip())
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            numbers += range(first, min(last, first + _MAX_CPUS) + 1)
    return numbers


def paths(online: list[int]) -> Iterator[str]:
    """The files that `read_topology` wants, for the processors that are online."""
    yield from (f"{CPUS}/online", "/sys/devices/cpu_core/cpus", "/sys/devices/cpu_atom/cpus")
    for cpu in online:
        folder = f"{CPUS}/cpu{cpu}"
        yield from (f"{folder}/topology/{name}" for name in ("core_id", "physical_package_id"))
        yield f"{folder}/cpu_capacity"
        for index in range(4):  # L1 data, L1 instruction, L2, L3: no machine has more
            for name in ("level", "type", "size", "shared_cpu_list"):
                yield f"{folder}/cache/index{index}/{name}"


def read_topology(files: Mapping[str, str]) -> Cpu:
    """Cores, sockets, kinds and caches, summed over the whole machine."""
    online = read_cpu_list(files.get(f"{CPUS}/online"))
    cores = {cpu: core for cpu in online if (core := _core(cpu, files)) is not None}
    cpu = replace(
        blank(Cpu, f"{_HOW} does not tell"),
        logical_cores=known(len(online) or None, _HOW),
        physical_cores=known(len(set(cores.values())) or None, _HOW),
        sockets=known(len({package for package, _ in cores.values()}) or None, _HOW),
        l1d_bytes=known(_cache(files, online, "1", "Data"), _HOW),
        l2_bytes=known(_cache(files, online, "2", "Unified"), _HOW),
        l3_bytes=known(_cache(files, online, "3", "Unified"), _HOW),
    )
    return _kinds(cpu, cores, files)


def _core(cpu: int, files: Mapping[str, str]) -> tuple[str, str] | None:
    core = said(files.get(f"{CPUS}/cpu{cpu}/topology/core_id"))
    package = files.get(f"{CPUS}/cpu{cpu}/topology/physical_package_id", "0").strip()
    return None if core is None else (package, core)


def _cache(files: Mapping[str, str], online: list[int], level: str, kind: str) -> int | None:
    """Bytes of all caches of that level: each is counted once, whoever shares it."""
    found: dict[str, int] = {}
    for cpu in online:
        for index in range(4):
            folder = f"{CPUS}/cpu{cpu}/cache/index{index}"
            told = [files.get(f"{folder}/{name}", "").strip() for name in ("level", "type")]
            amount = size(files.get(f"{folder}/size"))
            if told == [level, kind] and amount is not None:
                found[files.get(f"{folder}/shared_cpu_list", str(cpu)).strip()] = amount
    return sum(found.values()) if found else None


def _kinds(cpu: Cpu, cores: Mapping[int, tuple[str, str]], files: Mapping[str, str]) -> Cpu:
    """Fast cores and saving ones.

    Intel's hybrid kernels list both kinds; ARM kernels give each core a capacity, 1024 for
    the fastest. Saving cores are those with less than two thirds of it.
    """
    fast, slow = (read_cpu_list(files.get(f"/sys/devices/cpu_{k}/cpus")) for k in ("core", "atom"))
    if slow:
        how = "sysfs cpu_core and cpu_atom"
        return _with_kinds(cpu, _count(fast, cores), _count(slow, cores), how)
    capacity = {c: n for c in cores if (n := whole(files.get(f"{CPUS}/cpu{c}/cpu_capacity")))}
    if not cores:
        return cpu
    if capacity and len(capacity) == len(cores):
        top = max(capacity.values())
        saving = [c for c, value in capacity.items() if value * 3 < top * 2]
        others = [c for c in capacity if c not in saving]
        return _with_kinds(cpu, _count(others, cores), _count(saving, cores), "sysfs cpu_capacity")
    why = "the kernel shows no sign of unlike cores"
    return replace(
        cpu,
        performance_cores=assumed(len(set(cores.values())), why),
        efficiency_cores=assumed(0, why),
    )


def _with_kinds(cpu: Cpu, fast: int, slow: int, how: str) -> Cpu:
    return replace(cpu, performance_cores=probed(fast, how), efficiency_cores=probed(slow, how))


def _count(cpus: list[int], cores: Mapping[int, tuple[str, str]]) -> int:
    return len({cores.get(cpu, ("", str(cpu))) for cpu in cpus})
