"""The machine we run on. Thin readers over the parsers; slow tools are asked side by side."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from snugly.machine import apple, cgroup, cpu, platform, topology
from snugly.machine.disk import read_disk
from snugly.machine.facts import blank, known, merge
from snugly.machine.gpus import (
    Found,
    drm_files,
    read_amd,
    read_apple,
    read_intel,
    read_npus,
    read_nvidia,
)
from snugly.machine.host import TOOL_SECONDS, Host, NoAnswer, Task
from snugly.machine.load import Clock, busy_cores
from snugly.machine.memory import read_meminfo, within
from snugly.machine.sheets import with_sheets
from snugly.machine.types import (
    Cpu,
    Fact,
    Machine,
    Memory,
    Platform,
    assumed,
    probed,
    unknown,
)


def detect(store: Path, host: Host | None = None, begun: Clock | None = None) -> Machine:
    """Everything that can be known of this box without measuring, in a fraction of a second.

    `store` is the folder of models, whose disk is asked; `begun` a clock read earlier, over
    which the load is taken. Nothing missing is an error: what could not be had is a fact
    with a reason.
    """
    host = host or Host()
    begun = begun or Clock.read(host)
    sysctl = _sysctl(host) if host.system == "darwin" else {}
    files = drm_files(host) if host.system == "linux" else {}
    questions = {name: Task(name, ask) for name, ask in _gpu_questions(host, files, sysctl).items()}
    processor = _cpu(host, sysctl)
    memory = _memory(host, sysctl)
    place = _platform(host)
    disk = read_disk(store, host)
    deadline = time.monotonic() + 2 * TOOL_SECONDS
    found = [_answer(task, deadline) for task in questions.values()]
    gpus = tuple(gpu for part, _ in found for gpu in part)
    machine = Machine(
        cpu=replace(processor, load=busy_cores(host, begun)),
        memory=memory,
        gpus=tuple(
            replace(gpu, free_bytes=_shared_free(gpu.total_bytes, memory))
            if gpu.unified.or_else(False)
            else gpu
            for gpu in gpus
        ),
        npus=read_npus(host, files, processor.model.value),
        disk=disk,
        platform=place,
        missing=tuple(reason for _, reasons in found for reason in reasons),
    )
    return with_sheets(machine)


def _gpu_questions(
    host: Host, files: dict[str, str], sysctl: dict[str, str]
) -> dict[str, Callable[[], Found]]:
    questions: dict[str, Callable[[], Found]] = {}
    if host.system == "darwin":
        questions["system_profiler"] = lambda: read_apple(host, sysctl)
        return questions
    questions["NVIDIA's driver"] = lambda: read_nvidia(host)
    if host.system == "win32":
        from snugly.machine.windows import read_adapters

        questions["the registry"] = read_adapters
        return questions
    questions["AMD's tools"] = lambda: read_amd(host, files)
    questions["Intel's tools"] = lambda: read_intel(host, files)
    return questions


def _answer(task: Task[Found], deadline: float) -> Found:
    try:
        return task.result(max(deadline - time.monotonic(), 0.1))
    except NoAnswer as error:
        return (), (unknown(str(error)),)
    except Exception as error:  # a library of a vendor may raise anything
        return (), (unknown(f"{type(error).__name__}: {error}"),)


def _shared_free(total: Fact[int], memory: Memory) -> Fact[int]:
    """What a GPU that shares the RAM may still have: never more than the RAM has free."""
    available = memory.available_bytes.value
    if available is None:
        return unknown("it shares the RAM, and how much of that is free is not known")
    if total.value is None:
        return assumed(available, "it shares the RAM; all that is free there")
    return assumed(min(available, total.value), "it shares the RAM: free there, up to its limit")


def _sysctl(host: Host) -> dict[str, str]:
    try:
        return apple.read_values(host.run("sysctl", "hw", "machdep.cpu", "iogpu", "vm.swapusage"))
    except NoAnswer:
        return {}


def _cpu(host: Host, sysctl: dict[str, str]) -> Cpu:
    if host.system == "darwin":
        found = apple.read_sysctl_cpu(sysctl)
    elif host.system == "linux":
        online = topology.read_cpu_list(host.read(f"{topology.CPUS}/online"))
        files = host.files([f"{topology.CPUS}/online", *topology.paths(online)])
        found = topology.read_topology(files)
        found = merge(found, cpu.read_cpuinfo(host.read("/proc/cpuinfo") or ""))
        nodes = [n for n in host.names("/sys/devices/system/node") if n[4:].isdigit()]
        found = replace(found, numa_nodes=known(len(nodes) or None, "sysfs"))
    else:
        from snugly.machine.windows import read_cpu

        found = read_cpu()
    if found.architecture.value is None and str(host.root) == "/":
        import platform as python_platform

        machine = cpu.architecture(python_platform.machine())
        found = replace(found, architecture=known(machine or None, "uname"))
    return replace(found, usable_cores=_usable(host, found))


def _usable(host: Host, found: Cpu) -> Fact[float]:
    """Cores that affinity and control groups leave us."""
    count, how = found.logical_cores.value, "all cores"
    if str(host.root) == "/" and hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        if count is None or allowed < count:
            count, how = allowed, "affinity of this process"
    quota = cgroup.cpu_quota(host.read)
    if quota and (count is None or quota[0] < count):
        return probed(quota[0], quota[1])
    return known(float(count) if count else None, how, "the number of cores is not known")


def _memory(host: Host, sysctl: dict[str, str]) -> Memory:
    if host.system == "linux":
        told = read_meminfo(host.read("/proc/meminfo") or "")
        groups, why_none = cgroup.memory_limits(host.read)
        return within(told, groups, why_none)
    told = apple.read_sysctl_memory(sysctl) if sysctl else blank(Memory, "not told")
    import psutil

    ram, swap = psutil.virtual_memory(), psutil.swap_memory()
    asked = replace(
        blank(Memory, "psutil does not tell"),
        total_bytes=probed(ram.total, "psutil"),
        available_bytes=probed(ram.available, "psutil"),
        swap_total_bytes=probed(swap.total, "psutil"),
        swap_free_bytes=probed(swap.free, "psutil"),
        cgroup_limit_bytes=unknown("only Linux has control groups"),
    )
    return merge(told, asked)


def _platform(host: Host) -> Platform:
    names = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
    files = host.files(
        ("/proc/1/cgroup", "/proc/self/cgroup", "/.dockerenv", "/run/.containerenv",
         "/run/systemd/container", "/run/host/container-manager", "/proc/device-tree/model",
         "/sys/firmware/devicetree/base/model", "/sys/class/dmi/id/sys_vendor",
         "/sys/class/dmi/id/product_name", "/proc/cpuinfo")
    )  # fmt: skip
    release = platform.read_os_release(host.read("/etc/os-release") or "")
    if release is None and str(host.root) == "/":
        import platform as python_platform

        release = python_platform.mac_ver()[0] or python_platform.release() or None
    return Platform(
        system=probed(names.get(host.system, host.system), "Python's sys.platform"),
        release=known(release, "/etc/os-release or uname"),
        wsl=platform.read_wsl(host.read("/proc/version") or ""),
        container=platform.read_container(files, host.env),
        notebook=platform.read_notebook(host.env),
        board=platform.read_board(files),
    )
