"""Which GPUs this box has: each maker is asked by its quickest way first."""

import ctypes
import re
import sys
from collections.abc import Callable
from dataclasses import replace

from snugly.machine import amd, amd_smi, apple, intel, npu, nvidia, nvtop
from snugly.machine.facts import known
from snugly.machine.host import Host, NoAnswer
from snugly.machine.types import Fact, Gpu, Npu, unknown

Found = tuple[tuple[Gpu, ...], tuple[Fact[str], ...]]  # GPUs, and the tools that were missing

_PCI_IDS = ("/usr/share/hwdata/pci.ids", "/usr/share/misc/pci.ids", "/usr/share/pci.ids")


def read_nvidia(host: Host) -> Found:
    """NVIDIA GPUs through NVML, else through nvidia-smi."""
    try:
        return _nvml(host), ()
    except NoAnswer as first:
        try:
            text = host.run("nvidia-smi", "-q", "-x")
        except NoAnswer as second:
            return (), (unknown(f"{first}; {second}"),)
    gpus, remarks = nvidia.read_smi_xml(text)
    try:
        caps = host.run("nvidia-smi", "--query-gpu=index,pci.bus_id,compute_cap", "--format=csv")
    except NoAnswer:
        caps = ""
    from snugly.machine.captures import join_gpus
    from snugly.machine.nvidia_text import failure, read_smi_csv

    if reason := failure(text):
        return (), (unknown(f"nvidia-smi: {reason}"),)
    more = [gpu for gpu in read_smi_csv(caps)]
    return tuple(join_gpus(list(gpus), more)), tuple(unknown(remark) for remark in remarks)


def _nvml(host: Host) -> tuple[Gpu, ...]:
    if str(host.root) != "/":
        raise NoAnswer("NVML: only the machine itself can be asked")
    if sys.platform == "linux" and not _driver_is_there():
        raise NoAnswer("NVML: the driver's library is not there")
    try:
        import pynvml
    except ImportError:
        raise NoAnswer("NVML: nvidia-ml-py is not installed") from None
    from snugly.machine.nvml import read_nvml

    return read_nvml(pynvml)


def _driver_is_there() -> bool:
    """Whether NVIDIA's library can be loaded: asked first, for its binding takes long to import."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")  # the name that pynvml loads on Linux
    except OSError:
        return False
    return True


def drm_files(host: Host) -> dict[str, str]:
    """What amdgpu, i915 and xe tell of their cards, and accel drivers of NPUs."""
    wanted = (
        "vendor", "device", "uevent", "product_name", "gpu_busy_percent",
        "mem_info_vram_total", "mem_info_vram_used", "mem_info_gtt_total", "mem_info_gtt_used",
        "vbnv",
    )  # fmt: skip
    folders = [
        f"/sys/class/{kind}/{name}/device"
        for kind, sign in (("drm", r"card\d+"), ("accel", r"accel\d+"))
        for name in host.names(f"/sys/class/{kind}")
        if re.fullmatch(sign, name)
    ]
    files = host.files(f"{folder}/{name}" for folder in folders for name in wanted)
    for folder in folders:
        # Bytes 0-1 the size, byte 2 the format (kgd_pp_interface.h, metrics_table_header).
        if (metrics := host.read_bytes(f"{folder}/gpu_metrics")) and len(metrics) >= 4:
            files[f"{folder}/gpu_metrics_format"] = str(metrics[2])
    return files


def read_amd(host: Host, files: dict[str, str]) -> Found:
    """AMD GPUs out of /sys, which needs no tool; where /sys has none, out of AMD's tools."""
    gpus = amd.read_amdgpu_sysfs(files)
    if gpus:
        return tuple(_with_name(gpu, host, files) for gpu in gpus), ()
    return _by_tools(
        host,
        (("amd-smi", ("static", "--json"), amd_smi.read_amd_smi),
         ("rocm-smi", ("--showproductname", "--showmeminfo", "vram", "gtt", "--showuse",
                       "--showdriverversion", "--json"), amd.read_rocm_smi)),
    )  # fmt: skip


def read_intel(host: Host, files: dict[str, str]) -> Found:
    """Intel GPUs out of /sys, with the memory that only xpu-smi tells."""
    gpus = [_with_name(gpu, host, files) for gpu in intel.read_intel_sysfs(files)]
    if gpus and all(gpu.unified.or_else(False) for gpu in gpus):
        return tuple(gpus), ()
    told, missing = _by_tools(host, (("xpu-smi", ("discovery", "-j"), intel.read_xpu_smi),))
    if not gpus:
        return told, missing
    from snugly.machine.captures import join_gpus

    return tuple(join_gpus(gpus, told)), missing


def _by_tools(
    host: Host, tools: tuple[tuple[str, tuple[str, ...], Callable[[str], tuple[Gpu, ...]]], ...]
) -> Found:
    missing: list[Fact[str]] = []
    for tool, args, parse in tools:
        try:
            gpus = parse(host.run(tool, *args))
        except (NoAnswer, ValueError) as error:
            missing.append(unknown(str(error)))
            continue
        if gpus:
            return gpus, tuple(missing)
        missing.append(unknown(f"{tool} names no GPU"))
    return (), tuple(missing)


def _with_name(gpu: Gpu, host: Host, files: dict[str, str]) -> Gpu:
    """`gpu` with its name out of the PCI database, which most systems have."""
    name = gpu.name.value or ""
    match = re.fullmatch(r"(AMD|Intel) GPU 0x([0-9a-f]{4})", name)
    ids = next((text for path in _PCI_IDS if (text := host.read(path))), None)
    if match is None or ids is None:
        return gpu
    title = pci_name(ids, "1002" if match[1] == "AMD" else "8086", match[2])
    if title is None:
        return gpu
    return (
        nvtop.kind_by_name(replace(gpu, name=known(title, "pci.ids")))
        if (gpu.kind.value is None)
        else replace(gpu, name=known(title, "pci.ids"))
    )


def pci_name(ids: str, vendor: str, device: str) -> str | None:
    """A device's name in the text of pci.ids (format: its own header)."""
    section = re.search(rf"^{vendor} .*\n((?:[\t#].*\n|\n)*)", ids, re.MULTILINE)
    line = re.search(rf"^\t{device} +(.*)$", section[1], re.MULTILINE) if section else None
    return line[1].strip() if line else None


def read_apple(host: Host, sysctl: dict[str, str]) -> Found:
    """GPUs of a Mac: system_profiler for the names, sysctl for what Metal may use."""
    try:
        gpus = apple.read_displays(host.run("system_profiler", "SPDisplaysDataType", "-json"))
    except (NoAnswer, ValueError) as error:
        return (), (unknown(str(error)),)
    limit = apple.gpu_limit(sysctl)
    return tuple(
        replace(gpu, total_bytes=limit) if gpu.vendor == "apple" else gpu for gpu in gpus
    ), ()


def read_npus(host: Host, files: dict[str, str], chip: str | None) -> tuple[Npu, ...]:
    """NPUs of this box."""
    return apple.neural_engine(chip) if host.system == "darwin" else npu.read_accel(files)
