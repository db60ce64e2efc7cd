"""A machine that is not here, by name: `box("rtx 4060 ti 16gb")`, or by figures. Pure.

Every fact is assumed and says of what data sheet it is; what was decided for the person (how
much RAM, which of two versions) stands in `Machine.missing`.
"""

from collections.abc import Sequence
from dataclasses import replace

from snugly.errors import UserError
from snugly.machine import boxes_parts as make
from snugly.machine.boxes_names import known
from snugly.machine.boxes_words import Parts, read_box
from snugly.machine.facts import blank
from snugly.machine.sheets import with_sheets
from snugly.machine.sheets_apple import Chip
from snugly.machine.sheets_cpus import family_of, model_of
from snugly.machine.types import (
    Cpu,
    Disk,
    Fact,
    Gpu,
    Machine,
    Memory,
    Platform,
    assumed,
    unknown,
)
from snugly.units import GiB

__all__ = ["box", "box_of", "known"]

# The host of a GPU, and what "a laptop" is, where nothing more is said.
DESKTOP, LAPTOP, OLD_LAPTOP, SERVER = (
    "Ryzen 5 5600", "Ryzen 5 5500U", "Core i5-8250U", "EPYC 7302",
)  # fmt: skip
RAM_GB = {"desktop": 32, "laptop": 16, "mini": 16, "phone": 8, "server": 64}
# Notebooks in the cloud: GB of RAM and hardware threads by GPU, "" without one. Sources: what
# /proc/meminfo and nproc told in them in 2025; both change without notice.
COLAB = {"": (12.7, 2), "T4": (12.7, 2), "L4": (53.0, 12), "A100": (83.5, 12)}
KAGGLE = (30.0, 4)
MOST_RAM_GB = 65536


def box(text: str) -> Machine:
    """The machine that `text` describes, such as "m3 max 64gb" or "2x rtx 3090, 64gb ram".

    Raises: UserError when a part is not known or could be several things, with names that
    are near.
    """
    parts = read_box(text)
    remarks = list(parts.remarks)
    why = f"of the box named {text!r}"
    ram_gb = parts.ram_gb or _default_ram(parts, remarks)
    if not 0 < ram_gb <= MOST_RAM_GB:
        raise UserError(
            f"The box {text!r} has no usable amount of RAM.",
            f"It says {ram_gb:g} GB.",
            "Write the amount as `32gb`.",
        )
    cpu = _cpu(parts, ram_gb, why, remarks)
    desktop = _desktop(parts, cpu)
    ram = make.memory(round(ram_gb * GiB), desktop, why)
    gpus = _gpus(parts, ram, desktop, why, remarks)
    machine = _machine(cpu, ram, gpus, parts, remarks)
    return with_sheets(machine)


def _default_ram(parts: Parts, remarks: list[str]) -> float:
    """RAM where none is named, and a remark that says so."""
    if parts.chips:
        gigabytes: float = parts.chips[0].ram_gb[0]
    elif parts.board:
        gigabytes = parts.board.ram_gb[0]
    elif parts.kind == "colab":
        return _colab(parts)[0]
    elif parts.kind == "kaggle":
        return KAGGLE[0]
    else:
        cards = sum(card.count * card.memory_bytes for card in parts.cards) / GiB
        usual = RAM_GB[_host_kind(parts)]
        gigabytes = usual if usual < RAM_GB["desktop"] else max(usual, round(cards))
    remarks.append(f"RAM was not named: {gigabytes:g} GB are assumed.")
    return gigabytes


def _host_kind(parts: Parts) -> str:
    """Desktop, laptop, mini, phone or server, from the words or from what is in it."""
    if parts.kind in RAM_GB:
        return parts.kind
    if parts.model:
        return _kind(parts.model.name) or "desktop"
    if any(cards.sheet.kind == "laptop" for cards in parts.cards):
        return "laptop"
    return "server" if any(make.in_server(cards) for cards in parts.cards) else "desktop"


def _colab(parts: Parts) -> tuple[float, int]:
    name = parts.cards[0].sheet.name if parts.cards else ""
    return next((v for k, v in COLAB.items() if k and k in name.split()), COLAB[""])


def _cpu(parts: Parts, ram_gb: float, why: str, remarks: list[str]) -> Cpu:
    if parts.chips:
        return make.chip_cpu(_chip(parts, remarks), why)
    if parts.board:
        return make.board_cpu(parts.board, why)
    if parts.model:
        return make.model_cpu(parts.model, parts.sockets, why)
    if parts.kind in ("colab", "kaggle"):
        threads = _colab(parts)[1] if parts.kind == "colab" else KAGGLE[1]
        return make.vm_cpu(threads, why)
    kind = _host_kind(parts)
    name = {"laptop": LAPTOP if ram_gb > 8 else OLD_LAPTOP, "server": SERVER}.get(kind, DESKTOP)
    model = model_of(name)
    if model is None:  # the tables are held to the defaults by a test
        raise LookupError(name)
    remarks.append(f"The processor was not named: one like {name} is assumed.")
    return make.model_cpu(model, 1, f"a {kind} like many")


def _chip(parts: Parts, remarks: list[str]) -> Chip:
    chip = parts.chips[0]
    others = {other.gpu_cores for other in parts.chips} - {chip.gpu_cores}
    if others:
        words = " and ".join(map(str, sorted(others)))
        remark = f"Apple {chip.name} with {chip.gpu_cores} GPU cores is meant; {words} exist too."
        remarks.append(remark)
    return chip


def _desktop(parts: Parts, cpu: Cpu) -> bool:
    """Whether a person sits before it: servers, boards and clouds run bare."""
    if parts.board or parts.kind in ("colab", "kaggle", "server"):
        return False
    return _kind(cpu.model.or_else("")) != "server"


def _kind(processor: str) -> str:
    family = family_of(processor)
    return family.kind if family else ""


def _gpus(
    parts: Parts, ram: Memory, desktop: bool, why: str, remarks: list[str]
) -> tuple[Gpu, ...]:
    inside: tuple[Gpu, ...] = ()
    if parts.chips:
        inside = (make.apple_gpu(parts.chips[0], ram, why),)
    elif parts.board and parts.board.gpu:
        inside = (make.board_gpu(parts.board, ram, why),)
    elif parts.model and parts.model.graphics:
        inside = (make.inside_gpu(parts.model.graphics, ram, why),)
    cards = make.cards_gpus(parts.cards, desktop and not inside, why)
    taken = {gpu.vendor for gpu in inside}
    return (
        *inside,
        *(replace(gpu, index=gpu.index + 1) if gpu.vendor in taken else gpu for gpu in cards),
    )


def _machine(
    cpu: Cpu, ram: Memory, gpus: tuple[Gpu, ...], parts: Parts, remarks: Sequence[str]
) -> Machine:
    place = blank(Platform, "a box that is not here")
    if parts.board:
        place = replace(place, board=assumed(parts.board.name, "as named"))
    if parts.kind in ("colab", "kaggle"):
        place = replace(place, notebook=assumed(parts.kind, "as named"))
    disk = blank(Disk, "a box that is not here", path="")
    missing: tuple[Fact[str], ...] = tuple(unknown(remark) for remark in remarks)
    return Machine(cpu, ram, gpus, (), disk, place, missing)


def box_of(
    ram_bytes: int,
    vram_bytes: Sequence[int] = (),
    bandwidth_bytes_per_s: float | None = None,
    cores: int = 8,
) -> Machine:
    """A machine by its figures: RAM, the memory of each GPU, and a bandwidth.

    The bandwidth is that of the GPUs, or of the RAM when there is none; without it, and for
    what else a GPU can do, three in four cards are better than what is assumed. What is given
    is taken to be free as a desktop leaves it.

    Raises: UserError when an amount is not positive.
    """
    amounts = (ram_bytes, cores, *vram_bytes)
    if min(amounts) <= 0 or (bandwidth_bytes_per_s is not None and bandwidth_bytes_per_s <= 0):
        raise UserError(
            "A box needs amounts above zero.",
            "Of RAM, of a GPU's memory or of the bandwidth it was given none, or less.",
            "Leave out what it does not have.",
        )
    why = "as given in figures"
    processor = make.plain_cpu(cores, why)
    if not vram_bytes and bandwidth_bytes_per_s is not None:
        rate = assumed(float(bandwidth_bytes_per_s), why)
        processor = replace(processor, bandwidth_bytes_per_s=rate)
    gpus = tuple(
        make.plain_gpu(index, total, index == 0, why, bandwidth_bytes_per_s)
        for index, total in enumerate(vram_bytes)
    )
    remarks = [
        f"The bandwidth of GPU {gpu.index} was not told:"
        f" {gpu.bandwidth_bytes_per_s.or_else(0.0) / 1e9:.0f} GB/s are assumed."
        for gpu in gpus
        if bandwidth_bytes_per_s is None
    ]
    return _machine(processor, make.memory(ram_bytes, True, why), gpus, Parts(), remarks)
