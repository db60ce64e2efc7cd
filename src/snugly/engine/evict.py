"""Which running models make way for another: pure.

Bytes first, then recency: nothing is stopped that need not be, and what was used last goes
last. Decides only; `engine.pool` acts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snugly.plan.types import PoolUse


@dataclass(frozen=True, slots=True)
class Holding:
    """What one running model takes, by its plan.

    `last_used` grows with time; its zero means nothing. `idle` is false while somebody
    uses it or when it must stay.
    """

    key: str
    uses: tuple[PoolUse, ...]
    last_used: float
    idle: bool


def evict(
    running: Sequence[Holding], needed: Mapping[str, int], budgets: Mapping[str, int]
) -> tuple[str, ...] | None:
    """Keys of the idle models to stop, so that `needed` bytes fit beside the rest.

    `budgets` are bytes per pool that all models together may take. () where nothing has to
    go, None where stopping every idle model would not do.

    The longest unused go first, until there is room; then each, the latest used first, is
    spared again if there is room without stopping it.
    """
    victims: list[Holding] = []
    for candidate in sorted((h for h in running if h.idle), key=lambda h: h.last_used):
        if _fits(running, victims, needed, budgets):
            break
        victims.append(candidate)
    if not _fits(running, victims, needed, budgets):
        return None
    for spared in reversed(tuple(victims)):
        fewer = [victim for victim in victims if victim is not spared]
        if _fits(running, fewer, needed, budgets):
            victims = fewer
    return tuple(victim.key for victim in victims)


def bytes_by_pool(uses: Iterable[PoolUse]) -> dict[str, int]:
    """Bytes per pool, of any number of models."""
    total: dict[str, int] = {}
    for use in uses:
        total[use.pool] = total.get(use.pool, 0) + use.total_bytes
    return total


def _fits(
    running: Sequence[Holding],
    stopped: Sequence[Holding],
    needed: Mapping[str, int],
    budgets: Mapping[str, int],
) -> bool:
    gone = {holding.key for holding in stopped}
    taken = bytes_by_pool(use for h in running if h.key not in gone for use in h.uses)
    return all(
        n_bytes == 0 or taken.get(pool, 0) + n_bytes <= budgets.get(pool, 0)
        for pool, n_bytes in needed.items()
    )
