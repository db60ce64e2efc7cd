"""NVIDIA GPUs out of `nvidia-smi -q -x` and `nvidia-smi -q`, of every version of both.

The XML and the text tell the same tree under nearly the same names, so one reader does for
both. The table, the list and the CSV are in `nvidia_text.py`, NVML in `nvml.py`.
"""

import math
import re
from dataclasses import replace

from snugly.machine.facts import blank, guessed, known, share, size, whole
from snugly.machine.tree import Node, read_indented, read_xml
from snugly.machine.types import Fact, Gpu, GpuKind, assumed, probed, unknown
from snugly.units import GiB

# NVIDIA parts that have no memory of their own: Jetson (Orin, Xavier, Thor, Tegra, Nano) and
# the Grace-Blackwell desktop chip GB10 (DGX Spark).
_SHARES_RAM = re.compile(r"\b(orin|xavier|thor|tegra|jetson|gb10|nvgpu)\b", re.IGNORECASE)
_PCI = re.compile(r"(?:[0-9a-f]{4})?([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2}\.[0-9a-f])", re.I)


def pci_address(text: str | None) -> str | None:
    """A PCI address in the kernel's form, so that two tools can mean the same GPU.

    nvidia-smi writes an eight-digit domain, "00000000:0C:00.0"; the kernel "0000:0c:00.0".
    """
    match = _PCI.search(text or "")
    return f"{match[1]}:{match[2]}:{match[3]}".lower() if match else None


def shares_ram(name: str | None) -> bool:
    """Whether an NVIDIA GPU of that name uses the system's memory as its own."""
    return bool(name and _SHARES_RAM.search(name))


def with_kind(gpu: Gpu) -> Gpu:
    """`gpu` with `kind` and `unified` taken from its name: no NVIDIA tool tells them."""
    name = gpu.name.value
    if name is None:
        return gpu
    if shares_ram(name):
        why = "from the name: Jetson and GB10 share the system's memory"
        return replace(gpu, kind=assumed(GpuKind.INTEGRATED, why), unified=assumed(True, why))
    why = "from the name: NVIDIA GPUs other than Jetson and GB10 have memory of their own"
    return replace(gpu, kind=assumed(GpuKind.DISCRETE, why), unified=assumed(False, why))


def mig_memory_gb(gpu_bytes: int, instance_bytes: int) -> int:
    """The gigabytes in a MIG profile's name: 10 for "1g.10gb".

    An instance's share of the GPU is rounded up to eighths, then applied to the GPU's size.
    Source: the rule of NVIDIA/go-nvlib for profile names; checked on the H100 capture.
    """
    eighths = math.ceil(instance_bytes / gpu_bytes * 8) / 8
    return round(eighths * math.ceil(gpu_bytes / GiB))


def read_smi_xml(text: str) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """GPUs, then remarks, out of `nvidia-smi -q -x`; a log cut short gives what it holds."""
    start = text.find("<?xml")
    tree, complete = read_xml(text[start if start >= 0 else max(text.find("<nvidia_smi_log"), 0) :])
    gpus, remarks = _read_log(tree, "nvidia-smi -q -x")
    return gpus, remarks if complete else (*remarks, "The XML is cut short or damaged.")


def read_smi_query(text: str) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """GPUs, then remarks, out of the text form `nvidia-smi -q`."""
    return _read_log(read_indented(text.partition("NVSMI LOG")[2], " : "), "nvidia-smi -q")


def _read_log(log: Node, how: str) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    entries = log.all("gpu")
    gpus: list[Gpu] = []
    for position, entry in enumerate(entries):
        gpu = _whole_gpu(entry, position, log, how)
        gpus += [gpu, *_instances(entry, gpu, how)]
    attached = whole(log.told("attached_gpus"))
    remarks = []
    if attached is not None and attached != len(entries):
        remarks.append(
            f"{attached} GPUs are attached, {len(entries)} told of; indexes count those told of."
        )
    return tuple(gpus), tuple(remarks)


def _driver(log: Node) -> str | None:
    """The driver's version. Releases from 610 on call it KMD version."""
    text = log.first(("kmd_version",), ("driver_version",))
    return text.split(" [", 1)[0] if text else None


def _memory(node: Node | None, how: str) -> tuple[Fact[int], Fact[int], Fact[int]]:
    """Total, used and free bytes; free is worked out where it is not told."""
    total, used, free, kept = (
        size(node.told(key), "mib") if node else None
        for key in ("total", "used", "free", "reserved")
    )
    if free is None and total is not None and used is not None:
        left = max(total - used - (kept or 0), 0)
        return known(total, how), known(used, how), assumed(left, f"{how}: total less used")
    return known(total, how), known(used, how), known(free, how)


def _whole_gpu(entry: Node, position: int, log: Node, how: str) -> Gpu:
    total, used, free = _memory(entry.at("fb_memory_usage"), how)
    busy = entry.first(("utilization", "gpu_util"), ("utilization", "gpu"))
    mig = entry.first(("mig_mode", "current_mig"), ("mig_mode", "current"))
    runtime = log.first(("cuda_umd_version",), ("cuda_version",))
    return with_kind(
        replace(
            blank(Gpu, f"{how} does not tell", vendor="nvidia", index=position),
            name=known(entry.told("product_name"), how),
            total_bytes=total,
            used_bytes=used,
            free_bytes=free,
            driver=known(_driver(log), how),
            runtime=known(runtime.split(" [", 1)[0] if runtime else None, how),
            utilization=known(share(busy), how),
            bus=known(pci_address(entry.text) or pci_address(entry.told("pci", "bus_id")), how),
            architecture=known(entry.told("product_architecture"), how),
            partitioned=known(None if mig is None else mig.lower() == "enabled", how),
        )
    )


def _instances(entry: Node, parent: Gpu, how: str) -> list[Gpu]:
    """The MIG instances of one GPU: `mig_devices/mig_device` in XML, `MIG Device` in text."""
    devices = [*entry.all("mig_device"), *(entry.at("mig_devices") or Node("")).all("mig_device")]
    return [_instance(node, place, parent, how) for place, node in enumerate(devices)]


def _instance(node: Node, place: int, parent: Gpu, how: str) -> Gpu:
    total, used, free = _memory(
        node.at("fb_memory_usage") or node.at("shared_fb_memory_usage"), how
    )
    processors = whole(node.told("device_attributes", "shared", "multiprocessor_count"))
    index = whole(node.told("index"))
    return instance_of(
        parent,
        place if index is None else index,
        total=total,
        used=used,
        free=free,
        cores=known(processors, f"{how}: multiprocessors"),
    )


def instance_of(
    parent: Gpu,
    index: int,
    total: Fact[int],
    used: Fact[int],
    free: Fact[int],
    cores: Fact[int],
    profile: str = "",
) -> Gpu:
    """MIG instance `index` of `parent`. Without a profile it is named by its memory alone."""
    if not profile and parent.total_bytes.value and total.value is not None:
        profile = f"{mig_memory_gb(parent.total_bytes.value, total.value)}gb"
    return replace(
        parent,
        mig=profile or "MIG",
        mig_index=index,
        total_bytes=total,
        used_bytes=used,
        free_bytes=free,
        cores=cores,
        partitioned=probed(False, "a MIG instance"),
        utilization=unknown("not told per MIG instance"),
    )


def free_by_table(total: int | None, used: int | None, how: str) -> Fact[int]:
    """Free bytes where only total and used are told: an upper bound, so an assumption."""
    left = None if total is None or used is None else max(total - used, 0)
    why = f"{how}: total less used, which leaves out what the driver reserves"
    return guessed(left, why, f"{how} does not tell")
