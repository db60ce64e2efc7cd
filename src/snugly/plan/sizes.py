"""One model in several quantizations on one machine, before any of them is downloaded."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from snugly.machine.types import Fact, Machine, Origin, unknown
from snugly.model.quant_size import USUAL_TYPES as USUAL_TYPES
from snugly.model.quant_size import in_type as in_type
from snugly.model.types import ModelSpec
from snugly.plan.choose import choose, longest_context, pool_for, reserve_bytes
from snugly.plan.types import EngineFacts, Need, Plan, Rejected


@dataclass(frozen=True, slots=True)
class Option:
    """One quantization: its file, what the plan says of it, the longest context that fits."""

    type_name: str
    file_bytes: int
    choice: Plan | Rejected
    longest_context: int  # 0: not even the shortest fits


def option(machine: Machine, spec: ModelSpec, need: Need, engine: EngineFacts) -> Option:
    """What one file would be on this machine."""
    pool = pool_for(machine, engine)
    budget = max(0, pool.free_bytes - reserve_bytes(pool))
    return Option(
        spec.file_type,
        spec.file_bytes,
        choose(machine, spec, need, engine),
        longest_context(spec, engine, budget),
    )


def options(
    machine: Machine,
    spec: ModelSpec,
    need: Need,
    engine: EngineFacts,
    type_names: Iterable[str] = USUAL_TYPES,
) -> tuple[Option, ...]:
    """One option per quantization, in the order given."""
    return tuple(option(machine, in_type(spec, name), need, engine) for name in type_names)


def with_ram(machine: Machine, n_bytes: int) -> Machine:
    """This machine, were all of `n_bytes` its RAM and free, and no GPU in it."""
    told = Fact(n_bytes, Origin.ASSUMED, "as asked for")
    memory = replace(
        machine.memory,
        total_bytes=told,
        available_bytes=told,
        cgroup_limit_bytes=unknown("as asked for"),
    )
    return replace(machine, memory=memory, gpus=())
