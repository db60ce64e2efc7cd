"""What data sheets tell of a machine's GPUs and processor: bandwidth and arithmetic.

Detection finds names; the rates of their hardware stand in tables here. A name that is not
known, or that was given to things too different, stays unknown with the reason.
"""

from dataclasses import replace

from snugly.machine import sheets_cpus
from snugly.machine.apple import is_apple_chip
from snugly.machine.types import Cpu, Fact, Machine, assumed, unknown


def with_sheets(machine: Machine) -> Machine:
    """`machine` with the rates of its processor and GPUs by data sheet where none is known yet.

    All are assumed: the hardware's peak, not what a program reaches.
    """
    machine = replace(machine, cpu=_with_cpu(machine))
    if not machine.gpus:
        return machine
    from snugly.machine.sheets_rates import with_rates  # the table of GPUs costs 2 ms

    return replace(machine, gpus=tuple(with_rates(gpu, machine) for gpu in machine.gpus))


def _keep(old: Fact[float], new: Fact[float]) -> Fact[float]:
    return new if old.value is None else old


# ---- processors


def _with_cpu(machine: Machine) -> Cpu:
    cpu, name = machine.cpu, machine.cpu.model.value
    if machine.platform.board.value and (rates := _board_rates(cpu, machine.platform.board.value)):
        return rates
    if name is None:
        return _cpu_unknown(cpu, f"the processor's name is not known: {cpu.model.how}")
    if is_apple_chip(name):
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
    f32, int8 = cpu_rates(cpu, name, family, sheets_cpus.model_of(name))
    return replace(
        cpu,
        bandwidth_bytes_per_s=_keep(cpu.bandwidth_bytes_per_s, bandwidth),
        f32_flops=_keep(cpu.f32_flops, f32),
        int8_ops=_keep(cpu.int8_ops, int8),
    )


def _board_rates(cpu: Cpu, name: str) -> Cpu | None:
    """`cpu` with the rates of the board that it is soldered to, if that is known."""
    from snugly.machine.sheets_boards import board_of

    board = board_of(name)
    if board is None:
        return None
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


def cpu_rates(
    cpu: Cpu, name: str, family: sheets_cpus.Family | None, model: sheets_cpus.Model | None
) -> tuple[Fact[float], Fact[float]]:
    """Operations per second in f32 and int8: cores, clock and width of a core."""
    cores = cpu.physical_cores.value
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
    from snugly.machine.sheets_rates import chips_of, one_of

    gpu_cores = next((g.cores.value or 0 for g in machine.gpus if g.vendor == "apple"), 0)
    chips, how = chips_of(machine, name, gpu_cores)
    bandwidth, flops = (
        one_of([getattr(chip, field) for chip in chips], how, name)
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
