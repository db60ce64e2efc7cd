"""Processors of the machines named in bench/data/speeds.csv, as the planner would see them."""

import re
from dataclasses import replace
from functools import cache
from typing import Any

from snugly.machine.sheets import with_sheets
from snugly.machine.types import (
    Cpu,
    Disk,
    Gpu,
    GpuKind,
    Machine,
    Memory,
    Platform,
    assumed,
    unknown,
)  # fmt: skip
from snugly.plan.speed_processors import processors_of
from snugly.plan.types import EngineFacts, Processor

GIB = 1 << 30
_NO: Any = unknown("not told by the benchmark")
_NONE = Platform(_NO, _NO, _NO, _NO, _NO, _NO)
# Phones are not in our sheets. Qualcomm's product brief: LPDDR5X-4200, 64 bits; 1 X3 at 3.2, 2+2
# A715/A710 at 2.8 and 3 A510 at 2.0 GHz; 6 threads ran (notes), with i8mm, which is 8 times f32.
PHONES = {"Snapdragon 8 Gen 2": (67.2e9, 2.4e11, 1.92e12)}
# Where the label says the processor and its GPU at once.
GPU_INSIDE = re.compile(r"\((?:[^()]*, )?((?:Radeon|Arc)[^,()]*)")


@cache
def processor(label: str, kind: str, vram_gib: float, bandwidth_gbs: float) -> Processor | None:
    """What computed, None where its rates are not known."""
    machine = with_sheets(_machine(label, kind, vram_gib))
    place = processors_of(
        machine, EngineFacts("bench", 0, offloads_to="" if kind == "cpu" else kind)
    )
    found = place[0] if kind == "cpu" or len(place) == 1 else place[1]
    phone = next((rates for name, rates in PHONES.items() if name in label), None)
    if kind == "cpu" and phone:
        told = [assumed(rate, "product brief") for rate in phone]
        return replace(
            found, bandwidth_bytes_per_s=told[0], vector_flops=told[1], f16_flops=told[2]
        )
    if kind == "cpu" and machine.cpu.bandwidth_bytes_per_s.value is None:
        return None
    if kind != "cpu" and found.bandwidth_bytes_per_s.value is None and bandwidth_gbs:
        found = replace(
            found, bandwidth_bytes_per_s=assumed(bandwidth_gbs * 1e9, "the data's column")
        )
    if (
        not found.bandwidth_bytes_per_s.value
        or not found.vector_flops.value
        or not found.f16_flops.value
    ):
        return None
    return found


def _machine(label: str, kind: str, vram_gib: float) -> Machine:
    ram = round((_size(label) or vram_gib or 16) * GIB)
    name = re.sub(r"\s*\d+ ?GB\b", "", label)
    inside = GPU_INSIDE.search(label)
    model = name if kind == "cpu" or inside else ""
    cpu = Cpu(*[_NO] * 14)
    if model:
        cpu = replace(cpu, model=assumed(model.split(" (")[0], label))
        cores = _cores(cpu.model.or_else(""))
        if cores:
            cpu = replace(cpu, physical_cores=assumed(cores, "data sheet"))
    memory = Memory(assumed(ram, label), assumed(ram, label), _NO, _NO, _NO)
    gpus = (
        ()
        if kind == "cpu"
        else (_gpu(inside[1] if inside else name, kind, vram_gib, bool(inside)),)
    )
    return Machine(cpu, memory, gpus, (), Disk("", _NO, _NO, _NO), _NONE, ())


def _size(label: str) -> float:
    told = re.search(r"(\d+) ?GB\b", label)
    return float(told[1]) if told else 0.0


def _cores(model: str) -> int:
    from snugly.machine.sheets_cpus import model_of

    found = model_of(model)
    return found.cores if found else 0


def _gpu(name: str, kind: str, vram_gib: float, inside: bool) -> Gpu:
    maker = next((m for m in ("nvidia", "apple", "amd", "intel") if m in name.lower()), "")
    maker = maker or (
        "amd" if "radeon" in name.lower() else "intel" if "arc" in name.lower() else "nvidia"
    )
    cores = re.search(r"(\d+)-Core GPU", name)
    short = re.sub(r"\s*\d+-Core GPU|\s*\(integrated\)", "", name)
    short = short.replace("130V/140V", "140V")
    shared = inside or maker == "apple" or "integrated" in name
    gpu = Gpu(
        maker, 0, assumed(short, name),
        assumed(GpuKind.INTEGRATED if shared else GpuKind.DISCRETE, name),
        _NO, _NO, assumed(shared, name), _NO, _NO, _NO,
    )  # fmt: skip
    if vram_gib and not shared:
        gpu = replace(gpu, total_bytes=assumed(round(vram_gib * GIB), name))
    return replace(gpu, cores=assumed(int(cores[1]), name)) if cores else gpu
