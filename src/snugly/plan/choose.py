"""Pick context, threads and batch for one model on one machine, or say why not.

The first form of the planner: one GGUF, one sequence, one pool. The search over
quantizations, cache types and offload takes this seat later.
"""

from collections.abc import Iterator

from snugly.errors import DoesNotFit, UserError
from snugly.machine.types import Machine, Pool
from snugly.model.types import ModelSpec
from snugly.plan.memory import estimate
from snugly.plan.types import (
    Change,
    EngineFacts,
    Estimate,
    Need,
    Placement,
    Plan,
    Rejected,
    Setup,
)
from snugly.units import GiB, MiB, format_bytes

LEAST_CONTEXT = 512  # below this not even a question and its answer have room
ROOMY_CONTEXT = 8192  # what is taken without asking when it fits
MOST_CONTEXT = 32768  # more than this only when asked for: the cache is paid up front
_UBATCHES = (512, 128)  # llama.cpp's default, and one for tight machines
_BATCH = 2048


def reserve_bytes(pool: Pool) -> int:
    """What a plan leaves to the rest of the machine: 5%, at least 128 MiB, at most 1 GiB.

    1 GiB is llama.cpp's own margin (`fit_params_target`); small boards cannot spare it.
    """
    return min(1 * GiB, max(128 * MiB, pool.total_bytes // 20))


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
    why = f"{count}: one per {word} core"
    return free, why + (f", {busy} of {cores} left to what runs already." if busy else ".")


def pool_for(machine: Machine, engine: EngineFacts) -> Pool:
    """Where the bytes of a run come from: RAM, or what Apple lets its GPU use of it."""
    if engine.offloads_to == "metal":
        for gpu in machine.gpus:
            if gpu.unified.or_else(False) and gpu.total_bytes.value is not None:
                limit = gpu.total_bytes.value
                return Pool("unified", limit, min(limit, machine.ram.free_bytes))
    return machine.ram


def contexts(spec: ModelSpec, need: Need) -> Iterator[int]:
    """Contexts to try, best first: the one asked for, or the model's own, then halves."""
    if need.context is not None:
        yield need.context
        return
    context = min(spec.context_train, MOST_CONTEXT)
    while context >= LEAST_CONTEXT:
        yield context
        context //= 2


def choose(machine: Machine, spec: ModelSpec, need: Need, engine: EngineFacts) -> Plan | Rejected:
    """Plan one model on one machine.

    Raises: UserError if the context asked for is out of the model's range.
    """
    _check(spec, need)
    pool = pool_for(machine, engine)
    reserve = reserve_bytes(pool)
    budget = max(0, pool.free_bytes - reserve)
    if need.budget_bytes is not None:
        budget = min(budget, need.budget_bytes)
    for context in contexts(spec, need):
        for ubatch in _UBATCHES:
            for repack in (True, False):
                size = estimate(spec, context, ubatch, engine, repack)
                too_dear = need.context is None and _too_dear(size, context, budget)
                if size.total_bytes <= budget and not too_dear:
                    return _plan(machine, spec, engine, pool, (context, ubatch, repack), size)
    return _rejected(spec, need, engine, pool, budget)


def _check(spec: ModelSpec, need: Need) -> None:
    if need.context is None:
        return
    if need.context > spec.context_train:
        raise UserError(
            f"{spec.name} cannot use a context of {need.context:,} tokens.",
            f"It was trained for {spec.context_train:,}; beyond that its answers fall apart.",
            f"Ask for at most --context {spec.context_train}, or take a model with a longer one.",
        )
    if need.context < LEAST_CONTEXT:
        raise UserError(
            f"A context of {need.context:,} tokens is too short to be of use.",
            "The question, the chat template and the answer all have to fit into it.",
            f"Ask for --context {LEAST_CONTEXT} or more.",
        )


def _too_dear(size: Estimate, context: int, budget: int) -> bool:
    """Whether a long context that nobody asked for would take over a quarter of what is free."""
    return context > ROOMY_CONTEXT and size.kv_bytes > budget // 4


def _plan(
    machine: Machine,
    spec: ModelSpec,
    engine: EngineFacts,
    pool: Pool,
    chosen: tuple[int, int, bool],
    size: Estimate,
) -> Plan:
    context, ubatch, repack = chosen
    n_threads, why_threads = threads(machine)
    on_gpu = engine.offloads_to != ""
    return Plan(
        model_path=spec.path,
        model_name=spec.name,
        setup=Setup(context, ubatch=ubatch, batch=_BATCH, repack=repack),
        placement=Placement(),
        threads=n_threads,
        threads_batch=n_threads,
        gpu_layers=len(spec.layers) + 1 if on_gpu else 0,
        pools=(pool,),
        reserves=(reserve_bytes(pool),),
        estimate=size,
        speed=None,
        why=tuple(_reasons(machine, spec, engine, pool, chosen, size, why_threads)),
    )


def _reasons(
    machine: Machine,
    spec: ModelSpec,
    engine: EngineFacts,
    pool: Pool,
    chosen: tuple[int, int, bool],
    size: Estimate,
    why_threads: str,
) -> Iterator[str]:
    context, ubatch, repack = chosen
    yield (
        f"It takes {format_bytes(size.total_bytes)} of the {format_bytes(pool.free_bytes)}"
        f" of {pool.name} that is free."
    )
    trained = f"the model was trained for {spec.context_train:,}"
    yield f"A context of {context:,} tokens; {trained}."
    yield why_threads
    if ubatch != _UBATCHES[0]:
        yield f"Prompts go in by {ubatch} tokens at a time, to save memory."
    if not repack:
        yield "Weights stay as they are in the file: a faster copy of them would not fit."
    unused = [gpu for gpu in machine.gpus if not engine.offloads_to and gpu.total_bytes.or_else(0)]
    if unused:
        name = unused[0].name.or_else(unused[0].vendor)
        yield f"{name} is not used: the engine {engine.name} here computes on the CPU."


def _rejected(
    spec: ModelSpec, need: Need, engine: EngineFacts, pool: Pool, budget: int
) -> Rejected:
    smallest = estimate(spec, LEAST_CONTEXT, _UBATCHES[-1], engine, repack=False)
    wanted = estimate(spec, need.context or LEAST_CONTEXT, _UBATCHES[-1], engine, repack=False)
    if smallest.total_bytes <= budget:
        remedy = f"Lower the context: --context {longest_context(spec, engine, budget)} fits."
    else:
        more = format_bytes(smallest.total_bytes - budget)
        remedy = (
            f"Even the shortest context needs {more} more: close other programs, or take a"
            " smaller quantization or model."
        )
    return Rejected(
        spec.name,
        wanted.total_bytes,
        (pool,),
        (budget,),
        (Change(remedy, ""),),
    )


def longest_context(spec: ModelSpec, engine: EngineFacts, budget: int) -> int:
    """The longest context that fits into `budget` bytes, in steps of the cache; 0: none does.

    At most what the model was trained for.
    """
    smallest = estimate(spec, LEAST_CONTEXT, _UBATCHES[-1], engine, repack=False)
    if smallest.total_bytes > budget:
        return 0
    most = estimate(spec, spec.context_train, _UBATCHES[-1], engine, repack=False)
    if most.total_bytes <= budget:
        return spec.context_train
    low, high = LEAST_CONTEXT, spec.context_train
    while high - low >= 256:
        middle = (low + high) // 2 // 256 * 256
        if middle <= low:
            break
        size = estimate(spec, middle, _UBATCHES[-1], engine, repack=False)
        low, high = (middle, high) if size.total_bytes <= budget else (low, middle)
    return low


def or_refuse(choice: Plan | Rejected) -> Plan:
    """The plan, or the refusal as an error with its numbers.

    Raises: DoesNotFit.
    """
    if isinstance(choice, Plan):
        return choice
    pool = choice.pools[0]
    raise DoesNotFit(
        f"{choice.model_name} does not fit this machine.",
        f"It needs {format_bytes(choice.needed_bytes)} of {pool.name};"
        f" {format_bytes(pool.free_bytes)} is free, of which"
        f" {format_bytes(pool.free_bytes - choice.budgets[0])} stays with the rest of the machine.",
        choice.changes[0].words,
    )
