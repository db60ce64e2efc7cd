"""Neural processing units that a Linux kernel shows under /sys/class/accel."""

import re
from collections.abc import Mapping
from dataclasses import replace

from snugly.machine.facts import blank, known, said
from snugly.machine.types import Npu, probed

# Driver of the accel subsystem: who makes it, and what it is called in shops.
_DRIVERS = {
    "intel_vpu": ("intel", "Intel NPU (AI Boost)"),
    "amdxdna": ("amd", "AMD XDNA (Ryzen AI)"),
    "qaic": ("qualcomm", "Qualcomm Cloud AI"),
    "habanalabs": ("intel", "Intel Gaudi"),
    "rocket": ("rockchip", "Rockchip NPU"),
}


def read_accel(files: Mapping[str, str]) -> tuple[Npu, ...]:
    """NPUs out of the files /sys/class/accel/accel*/device/{uevent,vendor,device}."""
    folders = sorted(
        {
            match[0]
            for path in files
            if (match := re.match(r"/sys/class/accel/accel\d{1,4}/device(?=/)", path))
        }
    )
    return tuple(_npu(folder, files) for folder in folders)


def _npu(folder: str, files: Mapping[str, str]) -> Npu:
    how = f"sysfs, {folder.split('/')[4]}"
    event = re.search(r"^DRIVER=(\S+)", files.get(f"{folder}/uevent", ""), re.MULTILINE)
    driver = event[1] if event else None
    vendor, name = _DRIVERS.get(driver or "", ("unknown", None))
    device = said(files.get(f"{folder}/device"))
    if name is None and device:
        name = f"accelerator {device}"
    marketing = said(files.get(f"{folder}/vbnv"))  # amdxdna tells "RyzenAI-npu4"
    npu = blank(Npu, f"{how} does not tell", vendor=vendor)
    full = f"{name}, {marketing}" if name and marketing else name
    return replace(
        npu,
        name=known(full, how),
        driver=probed(driver, how) if driver else npu.driver,
    )
