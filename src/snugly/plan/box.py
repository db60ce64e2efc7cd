"""What a plan may use of one machine: pools, budgets, processors, threads. Pure."""

from dataclasses import dataclass
from functools import cached_property

from snugly.machine.types import NOT_TOLD, Fact, Machine, Pool
from snugly.plan.speed_processors import UNUSED, processors_of
from snugly.plan.threads import threads
from snugly.plan.types import EngineFacts, Processor
from snugly.units import GiB, MiB

_MOST_KEPT = 16  # lists of processors: a process plans for one box, tests for some more
_processors: dict[tuple[Processor, ...], tuple[Processor, ...]] = {}


@dataclass(frozen=True)
class Box:
    """A machine as a plan sees it. `pools`, `reserves` and `processors` stand in one order.

    `threads` counts those that compute on the CPU.
    """

    name: str
    pools: tuple[Pool, ...]
    reserves: tuple[int, ...]
    processors: tuple[Processor, ...]
    engine: EngineFacts
    threads: int
    why_threads: str
    disk_bytes_per_s: Fact[float]
    unused: str = ""  # a GPU that the engine leaves alone

    @property
    def is_unified(self) -> bool:
        """Whether a GPU computes over the one pool, so that placing needs no thought."""
        return len(self.pools) == 1 and self.processors[0].kind not in ("cpu", UNUSED)

    @cached_property
    def budgets(self) -> tuple[int, ...]:
        """Bytes that a plan may take, per pool; none of a GPU that the engine cannot use."""
        return tuple(
            0 if processor.kind == UNUSED else max(0, pool.free_bytes - reserve)
            for pool, reserve, processor in zip(
                self.pools, self.reserves, self.processors, strict=True
            )
        )


def box_of(machine: Machine, engine: EngineFacts, name: str = "this machine") -> Box:
    """What `engine` could use of `machine`."""
    pools = pools_for(machine, engine)
    processors = _known(processors_of(machine, engine)[: len(pools)])
    n_threads, why = threads(machine)
    return Box(
        name=name,
        pools=pools,
        reserves=tuple(reserve_bytes(pool) for pool in pools),
        processors=processors,
        engine=engine,
        threads=n_threads,
        why_threads=why,
        disk_bytes_per_s=machine.rates.disk_read_bytes_per_s if machine.rates else NOT_TOLD,
        unused=_unused(machine, processors, engine),
    )


def _known(processors: tuple[Processor, ...]) -> tuple[Processor, ...]:
    """The same processors as the same object, however often the machine is looked at.

    What is worked out for them (`plan.speed_cost`) is kept by the object: a server looks with
    every load, and would keep the same sums once more each time.
    """
    if len(_processors) >= _MOST_KEPT:
        _processors.clear()
    return _processors.setdefault(processors, processors)


def reserve_bytes(pool: Pool) -> int:
    """What a plan leaves to the rest of the machine: 5%, at least 128 MiB, at most 1 GiB.

    1 GiB is llama.cpp's own margin (`fit_params_target`); small boards cannot spare it.
    """
    return min(1 * GiB, max(128 * MiB, pool.total_bytes // 20))


def pools_for(machine: Machine, engine: EngineFacts) -> tuple[Pool, ...]:
    """Where the bytes of a run can live: RAM, then the GPUs that the engine computes on.

    On a Mac all is one pool: what the system lets its GPU use of the memory, and of that
    what is free.
    """
    if engine.offloads_to == "metal":
        for gpu in machine.gpus:
            if gpu.unified.or_else(False) and gpu.total_bytes.value is not None:
                limit = gpu.total_bytes.value
                return (Pool("unified", limit, min(limit, machine.ram.free_bytes)),)
    if not engine.offloads_to:
        return (machine.ram,)
    return machine.pools


def _unused(machine: Machine, processors: tuple[Processor, ...], engine: EngineFacts) -> str:
    """The name of a GPU that the engine leaves alone; empty when there is none."""
    if not engine.offloads_to:
        names = [gpu.name.or_else(gpu.vendor) for gpu in machine.gpus if gpu.total_bytes.value]
    else:
        names = [processor.name for processor in processors if processor.kind == UNUSED]
    return names[0] if names else ""
