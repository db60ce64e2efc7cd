"""What is loaded where, and who makes way: one pure decision over what is free now."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from snugly.engine.evict import Holding, bytes_by_pool, evict
from snugly.machine.types import Machine
from snugly.model.types import ModelSpec
from snugly.plan.box import reserve_bytes
from snugly.plan.choose import LEAST_CONTEXT, ROOMY_CONTEXT
from snugly.plan.types import Need, Plan, Rejected

Planner = Callable[[Machine, ModelSpec, Need], Plan | Rejected]

_LEAST_BUCKET = 4096  # what Ollama's clients ask for least; smaller ones share it


@dataclass(frozen=True, slots=True)
class Loaded:
    """One running model: what it was planned to take, and what the machine misses for it.

    `held_bytes` per pool is what it has really taken of what counts as free: of RAM on
    Linux that is less than the plan says, because mapped weights still count as available.
    """

    holding: Holding
    held_bytes: Mapping[str, int]
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Load by this plan, after these models have been stopped."""

    plan: Plan
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Busy:
    """It fits only where these models, which are in use, are stopped first."""

    victims: tuple[str, ...]


def bucket(context: int | None, context_train: int) -> int | None:
    """A context of round size that holds `context`: a power of two, at most the model's own.

    A client that asks for a few tokens more each time must not cause a reload each time.
    """
    if context is None:
        return None
    size = _LEAST_BUCKET
    while size < context:
        size *= 2
    return max(LEAST_CONTEXT, min(size, context_train))


def needs(context: int | None, slots: int, task: str = "chat") -> Iterator[Need]:
    """What to try to plan, best first: as asked, then with less context, then with one slot.

    Smaller caches and fewer layers on a GPU are the planner's own to try, for each of these.
    """
    slots = slots if task == "chat" else 1  # vectors are made one text after the other
    yield Need(context=context, n_seq=slots, task=task)
    if context is not None:
        yield Need(n_seq=slots, task=task)
    if slots > 1:
        yield Need(task=task)


def budgets(machine: Machine, loaded: Sequence[Loaded], cap_bytes: int | None) -> dict[str, int]:
    """Bytes per pool that all models together may take: what is free, and what they hold."""
    total = {pool.name: pool.free_bytes for pool in machine.pools}
    for model in loaded:
        for pool, held in model.held_bytes.items():
            total[pool] = total.get(pool, 0) + held
    if cap_bytes is not None:  # a plan leaves its reserve to the machine: not out of the cap
        total["RAM"] = min(total["RAM"], cap_bytes + reserve_bytes(machine.ram))
    return total


def decide(
    planner: Planner,
    machine: Machine,
    spec: ModelSpec,
    wants: Sequence[Need],
    loaded: Sequence[Loaded],
    cap_bytes: int | None = None,
) -> Move | Busy | Rejected:
    """How `spec` is loaded beside what runs.

    First without stopping anything, then with the idle models gone, each time by the wishes
    in order; a context that is less than it could be is taken only after both. Busy where
    it would fit once models in use are done; Rejected where it would not even then.
    """
    whole = budgets(machine, loaded, cap_bytes)
    everything = [model.holding for model in loaded]
    rooms = [everything, [h for h in everything if not h.idle]]
    for want in wants:
        for staying in rooms:
            plan = planner(_with_room(machine, whole, staying), spec, want)
            if isinstance(plan, Plan) and _roomy(plan, spec, want):
                return _move(plan, everything, whole)
    pinned = [model.holding for model in loaded if model.pinned]
    refused: Rejected | None = None
    for want in wants:
        plan = planner(_with_room(machine, whole, rooms[1]), spec, want)
        if isinstance(plan, Plan):
            return _move(plan, everything, whole)
        after = planner(_with_room(machine, whole, pinned), spec, want)
        if isinstance(after, Plan):
            kept = {holding.key for holding in pinned}
            ready = [replace(h, idle=h.key not in kept) for h in everything]
            return Busy(_move(after, ready, whole).victims)
        refused = refused or after
    assert refused is not None
    return refused


def _roomy(plan: Plan, spec: ModelSpec, want: Need) -> bool:
    """Whether a plan is as good as it need be, so that nothing is stopped for a better one."""
    return want.context is not None or plan.context >= min(ROOMY_CONTEXT, spec.context_train)


def _with_room(machine: Machine, whole: Mapping[str, int], staying: Sequence[Holding]) -> Machine:
    taken = bytes_by_pool(use for holding in staying for use in holding.uses)
    free = {name: max(0, size - taken.get(name, 0)) for name, size in whole.items()}
    return machine.with_free(free, "free now, less what running models are planned to take")


def _move(plan: Plan, running: Sequence[Holding], whole: Mapping[str, int]) -> Move:
    """The plan with the fewest stops. What a plan leaves to the machine stays with it."""
    reserves = {
        pool.name: reserve for pool, reserve in zip(plan.pools, plan.reserves, strict=False)
    }
    room = {name: size - reserves.get(name, 0) for name, size in whole.items()}
    victims = evict(running, bytes_by_pool(plan.estimate.uses), room)
    if victims is None:  # the planner was told what is free, so its pools are called otherwise
        victims = tuple(holding.key for holding in running if holding.idle)
    return Move(plan, victims)
