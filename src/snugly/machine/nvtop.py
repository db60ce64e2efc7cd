"""GPUs of any maker out of `nvtop -s` (a JSON snapshot)."""

import re
from dataclasses import replace

from snugly.machine import amd, intel, nvidia
from snugly.machine.facts import blank, known, said, share, whole
from snugly.machine.jsontext import read_json
from snugly.machine.types import Gpu, GpuKind, assumed

_HOW = "nvtop"
MAX_GPUS = 256  # more is no machine


def read_nvtop(text: str) -> tuple[Gpu, ...]:
    """GPUs in nvtop's order, counted per maker. Amounts are bytes written as text.

    Raises: ValueError for JSON of which nothing can be read.
    """
    data, _ = read_json(text, "nvtop")
    gpus: list[Gpu] = []
    for entry in data[:MAX_GPUS] if isinstance(data, list) else []:
        if isinstance(entry, dict) and "device_name" in entry:
            vendor = maker(str(entry["device_name"]))
            gpus.append(_gpu(entry, vendor, sum(gpu.vendor == vendor for gpu in gpus)))
    return tuple(gpus)


def maker(name: str) -> str:
    """Who makes a GPU of that name: "nvidia", "amd", "intel", "apple" or "unknown"."""
    signs = {
        "nvidia": r"nvidia|geforce|quadro|tesla|\brtx\b|\bgtx\b",
        "amd": r"\bamd\b|radeon|instinct|\bgfx\d|advanced micro",
        "intel": r"intel|\barc\b|iris|\buhd\b",
        "apple": r"apple",
    }
    return next((v for v, sign in signs.items() if re.search(sign, name, re.I)), "unknown")


def _gpu(entry: dict[str, object], vendor: str, index: int) -> Gpu:
    name = said(entry.get("device_name"))
    gpu = replace(
        blank(Gpu, f"{_HOW} does not tell", vendor=vendor, index=index),
        name=known(name, _HOW),
        # Of an APU nvtop adds up VRAM and GTT, which is what it may allocate.
        total_bytes=known(whole(entry.get("mem_total")), _HOW),
        used_bytes=known(whole(entry.get("mem_used")), _HOW),
        free_bytes=known(whole(entry.get("mem_free")), _HOW),
        utilization=known(share(entry.get("gpu_util")), _HOW),
    )
    return kind_by_name(gpu)


def kind_by_name(gpu: Gpu) -> Gpu:
    """`gpu` with kind and unified from its maker's rule about names."""
    if gpu.vendor == "nvidia":
        return nvidia.with_kind(gpu)
    if gpu.vendor == "intel":
        return intel.with_kind(gpu)
    shared = amd.is_apu(gpu.name.value) if gpu.vendor == "amd" else None
    if shared is None:
        return gpu
    kind = GpuKind.INTEGRATED if shared else GpuKind.DISCRETE
    return replace(
        gpu, kind=assumed(kind, "from the name"), unified=assumed(shared, "from the name")
    )
