"""Intel GPUs out of `xpu-smi discovery` (table and JSON) and out of /sys."""

import re
from dataclasses import replace

from snugly.machine.amd import Files
from snugly.machine.facts import blank, known, said, size, whole
from snugly.machine.jsontext import read_json
from snugly.machine.nvidia import pci_address
from snugly.machine.tree import snake
from snugly.machine.types import Gpu, GpuKind, assumed, probed

# Cards of their own: Arc A and B series (A770, B580, Pro A60), Data Center GPU, Flex, Max,
# Iris Xe MAX. "Arc 140V", "Arc Graphics", UHD and Iris Xe are in the processor.
_CARD = re.compile(
    r"\b(arc(\s*\(tm\))?\s+(pro\s+)?[ab]\d{2,3}m?\b|data center gpu|flex|xe max|dg[12]\b)", re.I
)
_ROW = re.compile(r"^\|\s*(\d{0,4})\s*\|\s*([^:|]+):\s*(.*?)\s*\|\s*$")


def with_kind(gpu: Gpu) -> Gpu:
    """`gpu` with kind and unified taken from its name."""
    name = gpu.name.value
    if name is None:
        return gpu
    card = bool(_CARD.search(name))
    kind = GpuKind.DISCRETE if card else GpuKind.INTEGRATED
    why = "from the name"
    return replace(gpu, kind=assumed(kind, why), unified=assumed(not card, why))


def read_xpu_smi(text: str) -> tuple[Gpu, ...]:
    """GPUs of `xpu-smi discovery`, for all devices or one (-d), as table or JSON (-j).

    Raises: ValueError for JSON of which nothing can be read.
    """
    start = re.search(r"^\s*\{", text, re.MULTILINE)
    if start and not re.search(r"^\|", text, re.MULTILINE):
        return _from_json(text[start.end() - 1 :])
    devices: list[dict[str, str]] = []
    for line in text.splitlines():
        row = _ROW.match(line)
        if row is None:
            continue
        if row[1]:
            devices.append({"device_id": row[1]})
        if devices:
            devices[-1].setdefault(snake(row[2]), row[3])
    return tuple(_device(device, place) for place, device in enumerate(devices))


def _from_json(text: str) -> tuple[Gpu, ...]:
    data, _ = read_json(text, "xpu-smi")
    devices = data.get("device_list", [data]) if isinstance(data, dict) else []
    devices = devices if isinstance(devices, list) else []
    return tuple(
        _device({snake(k): str(v) for k, v in device.items()}, place)
        for place, device in enumerate(d for d in devices if isinstance(d, dict))
    )


def _device(told: dict[str, str], place: int) -> Gpu:
    how = "xpu-smi discovery"
    index = whole(told.get("device_id"))
    total = whole(told.get("memory_physical_size_byte"))
    free = whole(told.get("memory_free_size_byte"))
    if total is None:
        total = size(told.get("memory_physical_size"), "mib")
    if free is None:
        free = size(told.get("memory_free_size"), "mib")
    why_not = f"{how} does not tell how much is free" if free is None else how
    return with_kind(
        replace(
            blank(
                Gpu, f"{how} does not tell", vendor="intel", index=place if index is None else index
            ),
            name=known(said(told.get("device_name")), how),
            total_bytes=known(total, how),
            free_bytes=known(free, how, why_not),
            used_bytes=known(None if free is None or total is None else total - free, how),
            driver=known(said(told.get("driver_version")), how),
            bus=known(pci_address(told.get("pci_bdf_address")), how),
            cores=known(whole(told.get("number_of_eus")), f"{how}: EUs"),
        )
    )


def read_intel_sysfs(files: Files) -> tuple[Gpu, ...]:
    """GPUs that the i915 and xe drivers show under /sys/class/drm/card*/device.

    The kernel does not tell the memory of a card there; a GPU at 00:02.0 is the processor's
    own and shares the RAM.
    """
    cards = sorted(
        int(match[1])
        for path, text in files.items()
        if (match := re.fullmatch(r"/sys/class/drm/card(\d{1,4})/device/vendor", path))
        and text.strip() == "0x8086"
    )
    return tuple(_sysfs_card(place, card, files) for place, card in enumerate(cards))


def _sysfs_card(index: int, card: int, files: Files) -> Gpu:
    folder = f"/sys/class/drm/card{card}/device"
    how = f"sysfs, card{card}"
    events = files.get(f"{folder}/uevent", "")
    driver = re.search(r"^DRIVER=(\S+)", events, re.MULTILINE)
    slot = re.search(r"^PCI_SLOT_NAME=(\S+)", events, re.MULTILINE)
    device = said(files.get(f"{folder}/device"))
    gpu = replace(
        blank(Gpu, f"{how} does not tell", vendor="intel", index=index),
        name=known(f"Intel GPU {device}" if device else None, how),
        driver=known(driver[1] if driver else None, how),
        bus=known(pci_address(slot[1]) if slot else None, how),
    )
    if gpu.bus.value is None:
        return gpu
    own = gpu.bus.value != "0000:00:02.0"
    place = f"{how}: PCI address {gpu.bus.value}"
    kind = GpuKind.DISCRETE if own else GpuKind.INTEGRATED
    return replace(gpu, kind=probed(kind, place), unified=probed(not own, place))
