"""Machines out of `inxi`, alone or inside the system_info JSON of benchmark collections."""

import re
from dataclasses import replace
from typing import Any

from snugly.machine.amd import is_apu, read_rocm_smi
from snugly.machine.facts import better, blank, guessed, known, said, size
from snugly.machine.jsontext import read_json
from snugly.machine.nvtop import kind_by_name, maker
from snugly.machine.types import Cpu, Gpu, GpuKind, Memory, Platform, Reading, probed

_HOW = "inxi"


def read_inxi(text: str) -> Reading:
    """CPU, memory and graphics of inxi's text."""
    cpu = re.search(
        r"Info:\s+(?:(\d+)x )?(\d+)-core\s+(?:model:\s+)?(.+?)(?: +bits:| +\[|$)", text, re.M
    )
    count = int(cpu[1] or 1) * int(cpu[2]) if cpu else None
    amounts = dict(re.findall(r"\b(total|available|used): ([\d.]+ [KMGT]iB)", _memory_part(text)))
    distro = re.search(r"Distro:[ ]+(\S.*)", text, re.MULTILINE)
    board = re.search(r"System:\s+(\S+)\s+product:\s+(.+?)\s+v:", text)
    return Reading(
        "inxi",
        cpu=replace(
            blank(Cpu, f"{_HOW} does not tell"),
            model=known(cpu[3].strip() if cpu else None, _HOW),
            physical_cores=known(count, _HOW),
        ),
        memory=_memory(amounts),
        gpus=_graphics(text),
        platform=replace(
            blank(Platform, f"{_HOW} does not tell"),
            release=known(distro[1].strip() if distro else None, _HOW),
            board=known(f"{board[1]} {board[2]}" if board else None, _HOW),
        ),
    )


def _memory_part(text: str) -> str:
    return next(iter(re.findall(r"Memory:(.*(?:\n\s+(?:used|System).*)?)", text)), "")


def _memory(amounts: dict[str, str]) -> Memory:
    """inxi: "total" is what is installed, "available" what the system has got of it."""
    installed, total = size(amounts.get("total")), size(amounts.get("available"))
    used = size(amounts.get("used"))
    if total is None:
        installed, total = None, installed  # inxi before 3.3.17 had no "available"
    left = None if total is None or used is None else max(total - used, 0)
    return replace(
        blank(Memory, f"{_HOW} does not tell"),
        installed_bytes=known(installed, _HOW),
        total_bytes=known(total, f"{_HOW}: available to the system"),
        available_bytes=guessed(left, f"{_HOW}: total less used", f"{_HOW} does not tell"),
    )


def _graphics(text: str) -> tuple[Gpu, ...]:
    part = re.search(r"^Graphics:(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    gpus: list[Gpu] = []
    for name in re.findall(r"Device-\d+:\s+(.+?)\s+driver:", part[1] if part else "", re.DOTALL):
        words = " ".join(name.split())
        vendor = maker(words)
        index = sum(gpu.vendor == vendor for gpu in gpus)
        gpu = blank(Gpu, f"{_HOW} does not tell", vendor=vendor, index=index)
        gpus.append(kind_by_name(replace(gpu, name=known(words, _HOW))))
    return tuple(gpus)


def read_system_info(text: str) -> Reading:
    """The system_info.json of lhl/strix-halo-testing: inxi, rocm-smi and amdgpu_top in one.

    Raises: ValueError for JSON of which nothing can be read.
    """
    how = "system_info.json"
    data, _ = read_json(text, how)
    if not isinstance(data, dict):
        raise ValueError(f"{how} is no object")
    told = read_inxi(str(data.get("inxi", "")))
    cpu = told.cpu or blank(Cpu, f"{how} does not tell")
    platform = told.platform or blank(Platform, f"{how} does not tell")
    kernel = said(data.get("os")) or said(data.get("kernel"))
    system = kernel.split("-", 1)[0] if kernel else None
    return replace(
        told,
        tool="system_info.json",
        cpu=replace(cpu, model=better(known(said(data.get("cpu")), how), cpu.model)),
        gpus=_embedded_gpus(data) or told.gpus,
        platform=replace(platform, system=known(system, how)),
    )


def _embedded_gpus(data: dict[str, Any]) -> tuple[Gpu, ...]:
    """rocm-smi's card 0 with what amdgpu_top says of the same device."""
    try:
        cards = read_rocm_smi(str(data.get("gpu", "")))
    except ValueError:
        cards = ()
    details = data.get("gpu_details")
    if not cards or not isinstance(details, dict):
        return cards
    how = "amdgpu_top"
    name = said(details.get("device_name"))
    first = replace(cards[0], name=better(known(name, how), cards[0].name))
    kind = said(details.get("gpu_type"))
    shared = is_apu(name) if kind is None else kind == "APU"
    if shared is not None:
        place = GpuKind.INTEGRATED if shared else GpuKind.DISCRETE
        first = replace(first, kind=probed(place, how), unified=probed(shared, how))
    version = str(data.get("hip_version", "")).removeprefix("HIP version:")
    first = replace(first, runtime=known(said(version), "hip_version"))
    return (first, *cards[1:])
