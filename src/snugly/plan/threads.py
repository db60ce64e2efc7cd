"""How many threads compute on the CPU. Pure."""

from snugly.machine.types import Machine


def threads(machine: Machine) -> tuple[int, str]:
    """How many threads to compute with, and why.

    One per physical core that is free now: a stock engine that shares a core with
    another program waits for it at every layer (bench/busy.py). Efficiency cores are left
    out, they hold the others up.
    """
    cpu = machine.cpu
    logical = cpu.logical_cores.or_else(1)
    physical = cpu.physical_cores.or_else(max(1, logical // 2))
    cores, word = physical, "physical"
    fast = cpu.performance_cores.or_else(0)
    if 0 < fast < physical:
        cores, word = fast, "performance"
    usable = int(cpu.usable_cores.or_else(float(logical)))
    if usable < cores:
        cores, word = max(1, usable), "usable"
    busy = round(cpu.load.or_else(0.0))
    free = max(1, cores - busy)
    count = "1 thread" if free == 1 else f"{free} threads"
    if not busy:
        return free, f"{count}: one per {word} core."
    taken = "all" if busy >= cores else str(busy)
    verb = "is" if busy == 1 < cores else "are"
    return free, f"{count}: of {cores} {word} cores {taken} {verb} busy with what runs already."
