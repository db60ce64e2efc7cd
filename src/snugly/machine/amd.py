"""AMD GPUs out of `rocm-smi --json` of every release and out of amdgpu's files in /sys.

An APU keeps a part of the RAM aside and calls it VRAM. That part is not its memory: it can
map system memory (GTT) as well, and both are RAM. So an APU is unified, and its own amount
is VRAM and GTT together.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from snugly.machine.facts import blank, known, said, share, whole
from snugly.machine.jsontext import read_json
from snugly.machine.nvidia import pci_address
from snugly.machine.types import Fact, Gpu, GpuKind, assumed, probed, unknown

Files = Mapping[str, str]  # a path in /sys or /proc, and what the file says

# Parts without memory of their own. Names: the graphics of Ryzen processors ("Radeon 680M",
# "Radeon 8060S Graphics", "Radeon Vega 8 Graphics") and the code names of their chips.
_APU_NAME = re.compile(
    r"radeon\s+(\(tm\)\s+)?(vega \d+ )?graphics|radeon \d{3}m\b|radeon 80[2-6]0s|mi300a"
    r"|\b(rembrandt|phoenix|raphael|renoir|cezanne|lucienne|barcelo|picasso|raven|dali|mendocino"
    r"|van ?gogh|strix|krackan|hawk ?point|granite ridge|steam deck)\b",
    re.IGNORECASE,
)
# gfx targets of APUs alone. Source: LLVM AMDGPU usage guide, column "dGPU/APU".
_APU_GFX = {
    "gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1037",
    "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153",
}  # fmt: skip
# PCI device ids of APUs. Source: the pci.ids database and the kernel's amdgpu_drv.c.
_APU_IDS = {
    0x1114, 0x13C0, 0x13FE, 0x143F, 0x1435, 0x1506, 0x150E, 0x1586, 0x15BF, 0x15C8, 0x15D8,
    0x15DD, 0x15E7, 0x1636, 0x1638, 0x163F, 0x164C, 0x164D, 0x164E, 0x1681, 0x1900, 0x1901,
    0x74A0,
}  # fmt: skip


def is_apu(name: str | None, gfx: str | None = None, device: int | None = None) -> bool | None:
    """Whether an AMD part shares the RAM, from its name, gfx target or PCI device id.

    None when none of the three is known.
    """
    if name is None and gfx is None and device is None:
        return None
    if gfx in _APU_GFX or device in _APU_IDS:
        return True
    # New cards are called "AMD Radeon Graphics" too until the tool learns their name: then
    # the gfx target, if told, has the word.
    generic = bool(name and re.fullmatch(r"(amd )?radeon graphics", name.strip(), re.IGNORECASE))
    return bool(name and _APU_NAME.search(name)) and not (generic and gfx)


def with_memory(gpu: Gpu, apu: bool | None, used_vram: int | None, used_gtt: int | None) -> Gpu:
    """`gpu` with kind and amounts worked out from carve-out, GTT and whether it is an APU."""
    vram, gtt = gpu.carveout_bytes, gpu.gtt_bytes
    if apu is None:
        return replace(gpu, total_bytes=vram, used_bytes=_used(used_vram, vram))
    why = "from the name, gfx target or PCI id"
    kind = GpuKind.INTEGRATED if apu else GpuKind.DISCRETE
    gpu = replace(gpu, kind=assumed(kind, why), unified=assumed(apu, why))
    if not apu:
        return replace(
            gpu,
            total_bytes=vram,
            used_bytes=_used(used_vram, vram),
            free_bytes=_free(vram.value, used_vram, vram.how),
        )
    if vram.value is None or gtt.value is None:
        reason = "only the part of RAM set aside is told; an APU may map more of the RAM"
        return replace(gpu, total_bytes=unknown(reason), free_bytes=unknown(reason))
    used = None if used_vram is None or used_gtt is None else used_vram + used_gtt
    how = f"{vram.how}: VRAM and GTT together"
    total = probed(vram.value + gtt.value, how)
    return replace(
        gpu,
        total_bytes=total,
        used_bytes=_used(used, total),
        free_bytes=_free(total.value, used, how),
    )


def _used(used: int | None, total: Fact[int]) -> Fact[int]:
    return known(used, total.how)


def _free(total: int | None, used: int | None, how: str) -> Fact[int]:
    return known(
        None if total is None or used is None else max(total - used, 0), f"{how}, less used"
    )


def read_rocm_smi(text: str) -> tuple[Gpu, ...]:
    """GPUs of `rocm-smi ... --json`. Keys differ in words and case between releases.

    Raises: ValueError when `text` holds no JSON object.
    """
    data, _ = read_json(text, "rocm-smi")
    if not isinstance(data, dict):
        raise ValueError("rocm-smi's JSON is no object")
    system = data.get("system")
    driver = said(system.get("Driver version")) if isinstance(system, dict) else None
    return tuple(
        _card(int(match[1]), card, driver)
        for key, card in data.items()
        if (match := re.fullmatch(r"card(\d{1,4})", key)) and isinstance(card, dict)
    )


def read_rocm_smi_text(text: str) -> tuple[Gpu, ...]:
    """GPUs of rocm-smi without --json: lines "GPU[0] : VRAM Total Memory (B): 17163091968"."""
    cards: dict[int, dict[str, object]] = {}
    for match in re.finditer(r"^GPU\[(\d{1,4})\][ \t]*: ([^:\n]*):(.*)$", text, re.MULTILINE):
        cards.setdefault(int(match[1]), {}).setdefault(match[2].strip(), match[3].strip())
    driver = re.search(r"^Driver version:(.*)$", text, re.MULTILINE)
    version = said(driver[1]) if driver else None
    return tuple(_card(index, card, version) for index, card in sorted(cards.items())[:256])


def _card(index: int, raw: dict[str, object], driver: str | None) -> Gpu:
    how = "rocm-smi"
    card = {key.lower(): value for key, value in raw.items()}
    # ROCm 4.3 put the vendor's id where the name belongs; a hexadecimal number is no name.
    names = (said(card.get(key)) for key in ("card series", "device name", "card model"))
    name = next((n for n in names if n and not n.startswith("0x")), None)
    gfx = said(card.get("gfx version"))
    device = _hexadecimal(said(card.get("device id")) or said(card.get("gpu id")))
    if name is None and device is not None:
        name = f"AMD GPU {device:#06x}"
    gpu = replace(
        blank(Gpu, f"{how} does not tell", vendor="amd", index=index),
        name=known(name, how),
        driver=known(driver, how),
        utilization=known(share(card.get("gpu use (%)")), how),
        bus=known(pci_address(said(card.get("pci bus"))), how),
        architecture=known(gfx, how),
        carveout_bytes=known(whole(card.get("vram total memory (b)")), how),
        gtt_bytes=known(whole(card.get("gtt total memory (b)")), how),
    )
    return with_memory(
        gpu,
        is_apu(name, gfx, device),
        whole(card.get("vram total used memory (b)")),
        whole(card.get("gtt total used memory (b)")),
    )


def _hexadecimal(text: str | None) -> int | None:
    return int(text, 16) if text and re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else None


def read_amdgpu_sysfs(files: Files) -> tuple[Gpu, ...]:
    """GPUs that the kernel's amdgpu driver shows under /sys/class/drm/card*/device.

    Names are not in /sys but for some cards (`product_name`); `pci_names` adds them.
    """
    cards = sorted(
        {
            int(match[1])
            for path, text in files.items()
            if (match := re.fullmatch(r"/sys/class/drm/card(\d{1,4})/device/vendor", path))
            and text.strip() == "0x1002"
        }
    )
    return tuple(_sysfs_card(place, card, files) for place, card in enumerate(cards))


def _sysfs_card(index: int, card: int, files: Files) -> Gpu:
    folder = f"/sys/class/drm/card{card}/device"
    how = f"sysfs amdgpu, card{card}"

    def tell(name: str) -> str | None:
        return said(files.get(f"{folder}/{name}"))

    device = _hexadecimal(tell("device"))
    name = tell("product_name")
    if name is None and device is not None:
        name = f"AMD GPU {device:#06x}"
    slot = re.search(r"PCI_SLOT_NAME=(\S+)", files.get(f"{folder}/uevent", ""))
    gpu = replace(
        blank(Gpu, f"{how} does not tell", vendor="amd", index=index),
        name=known(name, how),
        driver=probed("amdgpu", how),
        utilization=known(share(tell("gpu_busy_percent")), how),
        bus=known(pci_address(slot[1]) if slot else None, how),
        carveout_bytes=known(whole(tell("mem_info_vram_total")), how),
        gtt_bytes=known(whole(tell("mem_info_gtt_total")), how),
    )
    # gpu_metrics begins with its format: the kernel's v1 is for cards, v2 and v3 for APUs
    # (drivers/gpu/drm/amd/include/kgd_pp_interface.h). Only MI300A breaks that rule.
    layout = whole(tell("gpu_metrics_format"))
    apu = is_apu(name, None, device)
    if layout in (2, 3):
        apu = True
    return with_memory(
        gpu, apu, whole(tell("mem_info_vram_used")), whole(tell("mem_info_gtt_used"))
    )
