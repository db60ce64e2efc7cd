"""Which layers go where: the fullest placement that fits, and the candidates worth trying. Pure."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from snugly.machine.types import Pool
from snugly.model.types import Build
from snugly.plan.batch import spread
from snugly.plan.buffers import compute_bytes
from snugly.plan.memory import NOTHING_MORE, pool_uses
from snugly.plan.profile import profile_of
from snugly.plan.types import EngineFacts, Extras, Placement, PoolUse, Setup

PoolUses = tuple[PoolUse, ...]
IN_RAM = Placement()
_STRAIGHT = 4  # tries along a line
_STEPS = 12  # of the bisection that fills several GPUs evenly: to a 4,096th of their room


def best_placement(
    build: Build,
    setup: Setup,
    budgets: Sequence[int],
    engine: EngineFacts,
    extras: Extras = NOTHING_MORE,
) -> Placement | None:
    """The placement that fits with the most on GPUs; None when nothing fits.

    `budgets` are bytes that may be taken of each pool, in the order of `Machine.pools`: what
    is free (not the total: a desktop has its share), less what is left to others. A single
    pool is RAM, or for an engine that computes on Apple's GPU memory shared with it.

    Raises: ValueError as `pool_uses` does, for a cache type that a head does not divide.
    """
    found = next(placements(build, setup, budgets, engine, extras), None)
    return found and found[0]


def placements(
    build: Build,
    setup: Setup,
    budgets: Sequence[int],
    engine: EngineFacts,
    extras: Extras = NOTHING_MORE,
    pools: Sequence[Pool] = (),
    gpus: bool = True,
) -> Iterator[tuple[Placement, PoolUses]]:
    """Placements that fit, the most on GPUs first, each with what it takes of `pools`.

    Each differs from the others in kind.

    All on GPUs; else all but the experts of the first layers, as few as possible; as many
    whole layers as fit; all but the caches. At last all in RAM; without `gpus` that alone.

    Raises: ValueError as `pool_uses` does, for a cache type that a head does not divide.
    """
    named = pools or [Pool(str(index), 0, 0) for index in range(len(budgets))]
    task = _Task(build, setup, tuple(budgets), engine, extras, named)
    if gpus and engine.offloads_to and (len(budgets) > 1 or engine.offloads_to == "metal"):
        yield from _on_gpus(task)
    yield from task.if_it_fits(IN_RAM)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be placed, and the room for it."""

    build: Build
    setup: Setup
    budgets: tuple[int, ...]
    engine: EngineFacts
    extras: Extras
    pools: Sequence[Pool]
    _known: dict[Placement, PoolUses] = field(default_factory=dict)

    def uses(self, placement: Placement) -> PoolUses:
        """What it takes of each pool."""
        found = self._known.get(placement)
        if found is None:
            found = self._known[placement] = pool_uses(
                self.build, self.setup, placement, self.pools, self.engine, self.extras
            )
        return found

    def is_hopeless(self) -> bool:
        """Whether all pools together lack room, wherever things are: mostly that is what is so.

        In RAM they take least, for a head that is the embedding stands there once.
        """
        least = sum(
            use.weights_bytes + use.kv_bytes + use.overhead_bytes for use in self.uses(IN_RAM)
        )
        taken = self.engine.device_bytes
        rooms = [max(0, budget - taken) for budget in self.budgets[1:]]
        return least > self.budgets[0] + sum(rooms)

    def if_it_fits(self, placement: Placement | None) -> Iterator[tuple[Placement, PoolUses]]:
        """The placement with what it takes, if every pool holds its share."""
        if placement is not None:
            uses = self.uses(placement)
            if all(map(_held, uses, self.budgets)):
                yield placement, uses

    def over_by(self, placement: Placement) -> int:
        """Bytes that the fullest GPU lacks, whatever RAM has to take; above 0 it does not fit."""
        return _over_by(self.uses(placement), self.budgets)


def _over_by(uses: PoolUses, budgets: tuple[int, ...]) -> int:
    skipped = 1 if len(budgets) > 1 else 0
    pairs = zip(uses[skipped:], budgets[skipped:], strict=True)
    return max(use.total_bytes - budget for use, budget in pairs)


def _held(use: PoolUse, budget: int) -> bool:
    return use.total_bytes <= budget


def _on_gpus(task: _Task) -> Iterator[tuple[Placement, PoolUses]]:
    n_layers = profile_of(task.build).n_layers
    whole = _place(task, n_layers + 1)
    uses = task.uses(whole)
    if all(map(_held, uses, task.budgets)):
        yield whole, uses
        return
    if task.is_hopeless():
        return
    over = _over_by(uses, task.budgets)
    if profile_of(task.build).experts[-1]:
        yield from task.if_it_fits(
            _least(task, lambda count: _place(task, n_layers + 1, count), n_layers, over)
        )
    yield from task.if_it_fits(
        _least(task, lambda count: _place(task, n_layers + 1 - count), n_layers, over)
    )
    yield from task.if_it_fits(_place(task, n_layers + 1, kv_on_gpu=False))


def _least(
    task: _Task, place: Callable[[int], Placement], most: int, over: int
) -> Placement | None:
    """The placement of the smallest number in 1..`most` that the GPUs hold.

    None is `over` by so many bytes. What each takes off is much the same: the number is looked
    for where a straight line says, and by halves where that does not help. What is too much is
    all on the last GPU; what is to spare is so on each.
    """
    low, high, found = 0, most, place(most)
    n_gpus = max(len(task.budgets) - 1, 1)
    spare = -task.over_by(found) * n_gpus
    if spare < 0:
        return None
    tries = 0
    while high - low > 1:
        tries += 1
        middle = (low + high) // 2
        if tries <= _STRAIGHT and over > 0:
            middle = low + -(-(high - low) * over // (over + spare))
        if tries == 2 and high < most:  # the first was right, if one less is over
            middle = high - 1
        middle = min(max(middle, low + 1), high - 1)
        better = place(middle)
        by = task.over_by(better)
        if by <= 0:
            high, found, spare = middle, better, -by * n_gpus
        else:
            low, over = middle, by
    return found


def _place(task: _Task, total: int, experts: int = 0, *, kv_on_gpu: bool = True) -> Placement:
    """The last `total` layers on GPUs, several of them filled to the same part of their room."""
    n_gpus = max(len(task.budgets) - 1, 1)
    if n_gpus == 1:
        return Placement((total,), experts, kv_on_gpu)
    even = [total // n_gpus + (index < total % n_gpus) for index in range(n_gpus)]
    rough = Placement(tuple(even), experts, kv_on_gpu)
    costs = _costs(task, rough)
    rooms = _rooms(task, rough)
    low, high, found = 0.0, 1.0, _fill(costs, rooms, 1.0)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        counts = _fill(costs, rooms, middle)
        if sum(counts) == total:
            high, found = middle, counts
        else:
            low = middle
    if sum(found) < total:  # more than all have room for; it is refused by its bytes
        found[-1] += total - sum(found)
    return Placement(tuple(found), experts, kv_on_gpu)


def _costs(task: _Task, rough: Placement) -> list[int]:
    """Bytes of the layers to place, each with those before it; the head comes last."""
    profile = profile_of(task.build)
    kept = profile.remembered(task.setup)
    until = spread(rough, profile.n_layers).experts_until
    first = profile.n_layers + 1 - sum(rough.gpu_layers)
    in_ram = profile.experts[until]
    sums = [
        dense + max(experts - in_ram, 0)
        for dense, experts in zip(profile.dense[first:], profile.experts[first:], strict=True)
    ]
    for of_kind, size in zip(profile.of_kind, kept.bytes, strict=True):
        if rough.kv_on_gpu and size:
            sums = [sum_ + size * n for sum_, n in zip(sums, of_kind[first:], strict=True)]
    if not sums:  # the head alone
        return [profile.output]
    each = [sum_ - sums[0] for sum_ in sums[1:]]
    return [*each, (each[-1] if each else 0) + profile.output]


def _rooms(task: _Task, rough: Placement) -> list[int]:
    """Bytes of each GPU beside what it needs for itself."""
    profile = profile_of(task.build)
    over = spread(rough, profile.n_layers)
    buffers = compute_bytes(profile, task.setup, rough, over, task.engine.offloads_to)
    return [
        max(budget - task.engine.device_bytes - buffer, 0)
        for budget, buffer in zip(task.budgets[1:], buffers[1:], strict=True)
    ]


def _fill(costs: list[int], rooms: list[int], part: float) -> list[int]:
    """How many layers each GPU takes when all are filled to the same part of their room."""
    counts, placed, taken = [], 0, 0
    for room in rooms:
        end = bisect_right(costs, taken + int(part * room))
        counts.append(end - placed)
        placed, taken = end, costs[end - 1] if end else 0
    return counts
