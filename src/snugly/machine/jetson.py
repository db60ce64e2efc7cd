"""Jetson boards out of `tegrastats`: one memory for CPU and GPU, and how busy both are."""

import re
from dataclasses import replace

from snugly.machine.facts import blank, known, share
from snugly.machine.types import Cpu, Gpu, GpuKind, Memory, probed
from snugly.units import MiB

_HOW = "tegrastats"
_RAM = re.compile(r"\bRAM (\d{1,9})/(\d{1,9})MB")


def read_tegrastats(text: str) -> tuple[Cpu, Memory, Gpu] | None:
    """The last line of a tegrastats log, which is the present; None when no line is whole."""
    line = next((line for line in reversed(text.splitlines()) if _RAM.search(line)), None)
    return None if line is None else read_line(line)


def read_line(line: str) -> tuple[Cpu, Memory, Gpu]:
    """One line of tegrastats. Its "MB" are MiB; "off" in the list of cores is a core offline."""
    ram = _RAM.search(line)
    swap = re.search(r"\bSWAP (\d{1,9})/(\d{1,9})MB", line)
    cores = re.search(r"\bCPU \[([^\]]*)\]", line)
    listed = cores[1].split(",") if cores else []
    busy = [value for core in listed if (value := share(core)) is not None]
    gpu_busy = re.search(r"\bGR3D_FREQ (\d{1,3}%)", line)
    used = int(ram[1]) * MiB if ram else None
    total = int(ram[2]) * MiB if ram else None
    free = None if used is None or total is None else max(total - used, 0)
    memory = replace(
        blank(Memory, f"{_HOW} does not tell"),
        total_bytes=known(total, _HOW),
        available_bytes=known(free, f"{_HOW}: total less used"),
        swap_total_bytes=known(int(swap[2]) * MiB if swap else None, _HOW),
        swap_free_bytes=known((int(swap[2]) - int(swap[1])) * MiB if swap else None, _HOW),
    )
    cpu = replace(
        blank(Cpu, f"{_HOW} does not tell"),
        logical_cores=known(len(busy) or None, f"{_HOW}: cores online"),
        load=known(round(sum(busy), 4) if busy else None, _HOW),
    )
    gpu = replace(
        blank(Gpu, f"{_HOW} does not tell", vendor="nvidia", index=0),
        name=probed("NVIDIA Jetson", f"{_HOW} runs on Jetson alone"),
        kind=probed(GpuKind.INTEGRATED, f"{_HOW} runs on Jetson alone"),
        unified=probed(True, f"{_HOW} runs on Jetson alone"),
        total_bytes=memory.total_bytes,
        used_bytes=known(used, _HOW),
        free_bytes=memory.available_bytes,
        utilization=known(share(gpu_busy[1]) if gpu_busy else None, f"{_HOW}: GR3D_FREQ"),
    )
    return cpu, memory, gpu
