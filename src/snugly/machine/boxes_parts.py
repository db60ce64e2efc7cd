"""The parts of a box that is not here, as facts: processor, memory, GPUs. Pure.

Everything is assumed. What is free is the total less a stated share, held against real
captures in tests/unit/machine/test_boxes.py.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from snugly.machine import apple, sheets_cpus
from snugly.machine.boxes_words import Cards
from snugly.machine.facts import blank
from snugly.machine.sheets import cpu_rates
from snugly.machine.sheets_apple import Chip
from snugly.machine.sheets_boards import Board
from snugly.machine.sheets_cpus import Model
from snugly.machine.sheets_rates import sheet_facts
from snugly.machine.types import Cpu, Fact, Gpu, GpuKind, Memory, assumed, unknown
from snugly.units import GiB, MiB

# What the system and its programs take of the RAM. A desktop: three eighths up to 4 GiB (a
# GNOME or Windows 11 session with a browser). A board or a server: an eighth up to 1 GiB
# (meminfo__jc.txt: 0.58 GiB of 3.8).
DESKTOP_MOST, BARE_MOST = 4 * GiB, 1 * GiB
# What driver and desktop take of a GPU: half a GiB and a 160th of its memory, and half a GiB more
# where it shows a desktop. At least what captures show missing from the nominal size: A10G 0.46
# GiB of 22.5, L40S 0.61 of 45, H100 0.88 and A100 0.90 of 80 in servers; RTX 3060 0.47, RTX
# 4080 SUPER 1.01, RTX 2080 SUPER 0.61 on Linux and 0.98 on Windows with a desktop.
DRIVER_LEAST, DRIVER_PART, SCREEN = 512 * MiB, 160, 512 * MiB
# ECC in GDDR memory takes a sixteenth: T4 15.0 of 16 GiB, A10G 22.5 of 24, L40S 45.0 of 48.
_ECC = 15 / 16
_SERVER_CARD = re.compile(r"^(Tesla|[ABLH]\d+|GH200|Radeon Instinct|Data Center|GRID)\b")
# A card by figures alone is one of the slower ones: of the data sheets' cards of 4 GiB and more
# since 2016 three in four read their memory oftener per second and have more f16 operations per
# byte that they read (a test asks the table).
READINGS_PER_S, FLOPS_PER_BYTE = 23.3, 30.0
# Linux lets an AMD APU map half of the RAM (amdgpu, `ttm_pages_limit`); Windows shares half
# with any GPU inside a processor (Task Manager, "Shared GPU memory").
INSIDE_SHARE = 2


def in_server(cards: Cards) -> bool:
    """Whether such GPUs are sold for servers alone."""
    name = cards.sheet.name
    return bool(_SERVER_CARD.search(name) or re.match(r"[ABLH]\d+[A-Z]?\b", name))


def memory(total: int, desktop: bool, why: str) -> Memory:
    """RAM of `total` bytes in which a desktop runs, or next to nothing."""
    share = min(DESKTOP_MOST, total * 3 // 8) if desktop else min(BARE_MOST, total // 8)
    what = "a desktop and its programs" if desktop else "the system"
    nothing: Fact[int] = assumed(0, "no swap is counted on")
    return replace(
        blank(Memory, "a box that is not here"),
        total_bytes=assumed(total, why),
        available_bytes=assumed(total - share, f"total less {share / GiB:.2g} GiB for {what}"),
        swap_total_bytes=nothing,
        swap_free_bytes=nothing,
        cgroup_limit_bytes=unknown("a box that is not here has no limit"),
    )


def _cpu(
    name: str, architecture: str, cores: int, threads: int, fast: int, isa: str, why: str
) -> Cpu:
    saving = cores - fast
    return replace(
        blank(Cpu, "a box that is not here"),
        model=assumed(name, why),
        architecture=assumed(architecture, why),
        sockets=assumed(1, why),
        physical_cores=assumed(cores, why),
        logical_cores=assumed(threads, why),
        performance_cores=assumed(fast, why) if saving else unknown("all cores are alike"),
        efficiency_cores=assumed(saving, why) if saving else unknown("all cores are alike"),
        usable_cores=assumed(float(threads), "all cores"),
        instructions=assumed(sheets_cpus.INSTRUCTION_SETS[isa], why),
        load=assumed(0.0, "taken to be idle"),
    )


def model_cpu(model: Model, sockets: int, why: str) -> Cpu:
    """The processor `model`, or several of it on one board."""
    family = sheets_cpus.family_of(model.name)
    isa = family.isa if family else "avx2"
    architecture = "arm64" if isa.startswith("arm") else "x86_64"
    cores, threads, fast = (sockets * n for n in (model.cores, model.threads, model.fast))
    cpu = _cpu(model.name, architecture, cores, threads, fast, isa, why)
    f32, int8 = cpu_rates(cpu, model.name, family, model)
    return replace(cpu, sockets=assumed(sockets, why), f32_flops=f32, int8_ops=int8)


def chip_cpu(chip: Chip, why: str) -> Cpu:
    """The processor of an Apple chip."""
    isa = "arm_dot" if chip.name.startswith("M1") else "arm_i8mm"
    cores = chip.fast + chip.saving
    return _cpu(f"Apple {chip.name}", "arm64", cores, cores, chip.fast, isa, why)


def board_cpu(board: Board, why: str) -> Cpu:
    """The processor of a board."""
    architecture = "x86_64" if board.isa.startswith("avx") else "arm64"
    return _cpu(board.processor, architecture, board.cores, board.cores, board.fast, board.isa, why)


def vm_cpu(threads: int, why: str) -> Cpu:
    """Some hardware threads of a cloud's server: two to a core, the host's memory unknown."""
    name = "Intel(R) Xeon(R) CPU @ 2.20GHz"
    return _cpu(name, "x86_64", max(1, threads // 2), threads, max(1, threads // 2), "avx2", why)


def plain_cpu(cores: int, why: str) -> Cpu:
    """A processor of which only the number of cores is known."""
    return _cpu("unnamed processor", "x86_64", cores, cores, cores, "avx2", why)


def plain_gpu(index: int, total: int, shows: bool, why: str, bandwidth: float | None = None) -> Gpu:
    """A card of which the memory is known and perhaps its bandwidth, in bytes per second."""
    gpu = _gpu("unknown", index, "unnamed GPU", GpuKind.DISCRETE, why)
    usual = "of cards since 2016 three in four have more"
    if bandwidth is None:
        bandwidth, why_so = total * READINGS_PER_S, f"{usual} for {total / GiB:.3g} GiB"
    else:
        why_so = why
    flops = assumed(bandwidth * FLOPS_PER_BYTE, f"{usual} at that bandwidth")
    gpu = replace(gpu, bandwidth_bytes_per_s=assumed(float(bandwidth), why_so), f16_flops=flops)
    return _with_memory(gpu, total, shows, why)


def _with_memory(gpu: Gpu, total: int, shows: bool, why: str) -> Gpu:
    share = DRIVER_LEAST + total // DRIVER_PART + (SCREEN if shows else 0)
    share = min(share, total // 4)
    what = "driver and desktop" if shows else "the driver"
    return replace(
        gpu,
        total_bytes=assumed(total, why),
        free_bytes=assumed(total - share, f"total less {share / GiB:.2g} GiB for {what}"),
        used_bytes=assumed(share, f"for {what}"),
    )


def _gpu(vendor: str, index: int, name: str, kind: GpuKind, why: str) -> Gpu:
    unified = kind is GpuKind.INTEGRATED
    return replace(
        blank(Gpu, "a box that is not here", vendor=vendor, index=index),
        name=assumed(name, why),
        kind=assumed(kind, why),
        unified=assumed(unified, why),
        utilization=assumed(0.0, "taken to be idle"),
        partitioned=assumed(False, "taken to be whole"),
    )


def cards_gpus(all_cards: Sequence[Cards], screen: bool, why: str) -> tuple[Gpu, ...]:
    """Every card; the first one shows the desktop if there is a screen and it can."""
    gpus: list[Gpu] = []
    for cards in all_cards:
        for _ in range(cards.count):
            shows = screen and not gpus and not in_server(cards)
            index = sum(gpu.vendor == cards.sheet.maker for gpu in gpus)
            gpus.append(_card(cards, index, shows, why))
    return tuple(gpus)


def _card(cards: Cards, index: int, shows: bool, why: str) -> Gpu:
    sheet, total, how = cards.sheet, cards.memory_bytes, why
    if in_server(cards) and "gddr" in sheet.memory_type:
        total, how = round(total * _ECC), f"{why}; ECC takes a sixteenth"
    makers = {"nvidia": "NVIDIA ", "amd": "AMD ", "intel": "Intel "}
    facts: dict[str, Any] = dict(sheet_facts(cards.versions, sheet.name))
    gpu = _gpu(sheet.maker, index, makers[sheet.maker] + sheet.name, GpuKind.DISCRETE, why)
    architecture = assumed(sheet.architecture, why)
    return replace(_with_memory(gpu, total, shows, how), architecture=architecture, **facts)


def apple_gpu(chip: Chip, ram: Memory, why: str) -> Gpu:
    """The GPU of an Apple chip, which may wire a part of the RAM."""
    limit = apple.default_wired_limit(ram.total_bytes.or_else(0))
    return replace(
        _inside("apple", f"Apple {chip.name}", limit, ram, why),
        total_bytes=assumed(limit, "macOS default: 2/3 of RAM to 32 GiB, 3/4 above"),
        cores=assumed(chip.gpu_cores, why),
    )


def inside_gpu(name: str, ram: Memory, why: str) -> Gpu:
    """The GPU inside a processor of AMD or Intel."""
    vendor = "amd" if "Radeon" in name else "intel"
    limit = ram.total_bytes.or_else(0) // INSIDE_SHARE
    return replace(
        _inside(vendor, name, limit, ram, why),
        total_bytes=assumed(limit, "half of the RAM, as Linux and Windows allow by default"),
    )


def board_gpu(board: Board, ram: Memory, why: str) -> Gpu:
    """The GPU of a Jetson or of GB10, which may have all of the RAM."""
    total = ram.total_bytes.or_else(0)
    return replace(
        _inside("nvidia", f"NVIDIA {board.gpu}", total, ram, why),
        total_bytes=assumed(total, "it shares the RAM, all of it"),
    )


def _inside(vendor: str, name: str, limit: int, ram: Memory, why: str) -> Gpu:
    free = min(limit, ram.available_bytes.or_else(0))
    return replace(
        _gpu(vendor, 0, name, GpuKind.INTEGRATED, why),
        free_bytes=assumed(free, "it shares the RAM: free there, up to its limit"),
    )
