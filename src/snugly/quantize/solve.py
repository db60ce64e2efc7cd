"""Which type each tensor gets so that the whole fits and costs least: a knapsack. Pure.

One option of each item is taken (multiple-choice knapsack). Dynamic programming over sizes
rounded up to 1/65,536 of the room finds the best choice up to that rounding; exchanges of exact
sizes then use what the rounding left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_UNITS = 1 << 16
_EXCHANGES = 200  # at most; each one makes the whole cost less


@dataclass(frozen=True, slots=True)
class Option:
    """One way to keep an item."""

    name: str
    n_bytes: int
    cost: float


def solve(items: Sequence[Sequence[Option]], room: int) -> list[Option] | None:
    """The cheapest choice of one option per item whose bytes are at most `room`.

    None when even the smallest options take more.
    """
    kept = [useful(options) for options in items]
    slack = room - sum(options[0].n_bytes for options in kept)
    if slack < 0:
        return None
    chosen = [options[pick] for options, pick in zip(kept, _planned(kept, slack), strict=True)]
    return _exchanged(kept, chosen, room)


def useful(options: Sequence[Option]) -> list[Option]:
    """By size, without those that cost no less than a smaller one."""
    found: list[Option] = []
    for option in sorted(options, key=lambda option: (option.n_bytes, option.cost)):
        if not found or option.cost < found[-1].cost:
            found.append(option)
    return found


def smallest(items: Sequence[Sequence[Option]]) -> int:
    """Bytes of the smallest choice."""
    return sum(min(option.n_bytes for option in options) for options in items)


def _planned(items: Sequence[Sequence[Option]], slack: int) -> list[int]:
    """Indices of options, by dynamic programming over the bytes above the smallest choice."""
    unit = max(-(-slack // _UNITS), 1)
    units = slack // unit
    best = np.zeros(units + 1)
    picks: list[NDArray[np.uint8]] = []
    for options in items:
        now = best + options[0].cost
        pick = np.zeros(units + 1, dtype=np.uint8)
        for index, option in enumerate(options[1:], 1):
            extra = -(-(option.n_bytes - options[0].n_bytes) // unit)
            if extra > units:
                break
            with_it = best[: units + 1 - extra] + option.cost
            better = with_it < now[extra:]
            now[extra:][better] = with_it[better]
            pick[extra:][better] = index
        best = now
        picks.append(pick)
    at, chosen = units, []
    for options, pick in zip(reversed(items), reversed(picks), strict=True):
        index = int(pick[at])
        chosen.append(index)
        at -= -(-(options[index].n_bytes - options[0].n_bytes) // unit)
    return chosen[::-1]


def _exchanged(items: Sequence[Sequence[Option]], chosen: list[Option], room: int) -> list[Option]:
    """Change one item, or two at once, as long as that costs less and fits."""
    for _ in range(_EXCHANGES):
        left = room - sum(option.n_bytes for option in chosen)
        moves = [
            (index, option, option.n_bytes - now.n_bytes, option.cost - now.cost)
            for index, (options, now) in enumerate(zip(items, chosen, strict=True))
            for option in options
            if option is not now
        ]
        best = _best_move(moves, left)
        if not best:
            break
        for move in best:
            chosen[moves[move][0]] = moves[move][1]
    return chosen


def _best_move(moves: Sequence[tuple[int, Option, int, float]], left: int) -> tuple[int, ...]:
    """One or two moves that fit together and save most; empty when none saves."""
    if not moves:
        return ()
    where = np.array([move[0] for move in moves])
    sizes = np.array([move[2] for move in moves], dtype=np.int64)
    costs = np.array([move[3] for move in moves])
    alone = np.where(sizes <= left, costs, np.inf)
    # For each first move, the cheapest second one that still fits: by size, running minimum.
    order = np.argsort(sizes, kind="stable")
    lowest = np.minimum.accumulate(costs[order])
    counts = np.searchsorted(sizes[order], left - sizes, side="right")
    together = np.where(counts > 0, costs + lowest[np.maximum(counts, 1) - 1], np.inf)
    found: tuple[float, tuple[int, ...]] = (-1e-15, ())
    single = int(np.argmin(alone))
    if alone[single] < found[0]:
        found = (float(alone[single]), (single,))
    for first in np.argsort(together)[:50]:
        if together[first] >= found[0]:
            break
        seconds = order[: counts[first]]
        seconds = seconds[where[seconds] != where[first]]  # two moves of one item are none
        if not len(seconds):
            continue
        second = int(seconds[np.argmin(costs[seconds])])
        total = float(costs[first] + costs[second])
        if total < found[0]:
            found = (total, (int(first), second))
    return found[1]
