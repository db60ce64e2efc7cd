"""NVIDIA GPUs through the driver's own library, NVML (nvidia-ml-py)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from snugly.machine.facts import blank, known
from snugly.machine.host import NoAnswer
from snugly.machine.nvidia import instance_of, pci_address, with_kind
from snugly.machine.types import Fact, Gpu, probed

_HOW = "NVML"


def read_nvml(library: Any) -> tuple[Gpu, ...]:
    """GPUs and MIG instances that NVML knows; `library` is the module pynvml.

    Raises: NoAnswer when the driver is not there or refuses.
    """
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise NoAnswer(f"NVML: {error}") from None
    try:
        count = _ask(library, library.nvmlDeviceGetCount) or 0
        gpus: list[Gpu] = []
        for index in range(count):
            gpus += _device(library, index)
        return tuple(gpus)
    finally:
        _ask(library, library.nvmlShutdown)


def _ask(library: Any, question: Callable[..., Any], *args: Any) -> Any:
    """The answer, or None where this GPU or driver has none (old drivers lack functions)."""
    try:
        answer = question(*args)
    except (library.NVMLError, AttributeError):
        return None
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer


def _memory(library: Any, handle: Any) -> tuple[Fact[int], Fact[int], Fact[int]]:
    """Total, used and free. The second version leaves what the driver keeps out of `used`."""
    version = getattr(library, "nvmlMemory_v2", None)
    told = _ask(library, library.nvmlDeviceGetMemoryInfo, handle, version) if version else None
    told = told or _ask(library, library.nvmlDeviceGetMemoryInfo, handle)
    amounts = [None if told is None else int(getattr(told, k)) for k in ("total", "used", "free")]
    total, used, free = (known(amount, _HOW) for amount in amounts)
    return total, used, free


def _device(library: Any, index: int) -> list[Gpu]:
    handle = _ask(library, library.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return []
    total, used, free = _memory(library, handle)
    busy = _ask(library, library.nvmlDeviceGetUtilizationRates, handle)
    pci = _ask(library, library.nvmlDeviceGetPciInfo, handle)
    address = getattr(pci, "busId", None)
    text = address.decode("ascii", "replace") if isinstance(address, bytes) else address
    capability = _ask(library, library.nvmlDeviceGetCudaComputeCapability, handle)
    cuda = _ask(library, library.nvmlSystemGetCudaDriverVersion_v2)
    mig = _ask(library, library.nvmlDeviceGetMigMode, handle)
    gpu = with_kind(
        replace(
            blank(Gpu, f"{_HOW} does not tell", vendor="nvidia", index=index),
            name=known(_ask(library, library.nvmlDeviceGetName, handle), _HOW),
            total_bytes=total,
            used_bytes=used,
            free_bytes=free,
            driver=known(_ask(library, library.nvmlSystemGetDriverVersion), _HOW),
            runtime=known(f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None, _HOW),
            compute_capability=known(".".join(map(str, capability)) if capability else None, _HOW),
            utilization=known(None if busy is None else busy.gpu / 100, _HOW),
            bus=known(pci_address(text), _HOW),
            partitioned=probed(bool(mig and mig[0]), _HOW),
        )
    )
    return [gpu, *_instances(library, handle, gpu)] if gpu.partitioned.value else [gpu]


def _instances(library: Any, handle: Any, parent: Gpu) -> list[Gpu]:
    """MIG instances; each calls itself "NVIDIA H100 80GB HBM3 MIG 1g.10gb"."""
    found: list[Gpu] = []
    most = _ask(library, library.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    for index in range(most):
        part = _ask(library, library.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if part is None:
            continue
        total, used, free = _memory(library, part)
        profile = str(_ask(library, library.nvmlDeviceGetName, part) or "").partition(" MIG ")[2]
        traits = _ask(library, library.nvmlDeviceGetAttributes_v2, part)
        cores = known(getattr(traits, "multiprocessorCount", None), f"{_HOW}: multiprocessors")
        found.append(instance_of(parent, index, total, used, free, cores, profile))
    return found
