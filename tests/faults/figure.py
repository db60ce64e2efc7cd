"""What a row of the fault table gives."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One row: what was done, what came of it, and whether that is what must happen."""

    row: int
    fault: str
    expected: str
    figure: str
    ok: bool


Row = Callable[[bool], Awaitable[Figure]]


def p(values: Sequence[float], percent: float) -> float:
    """A percentile of measured values: the smallest that so many are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


async def timed(work: Awaitable[object]) -> float:
    """Seconds that something takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await work
    return loop.time() - began


async def at_once(most: int, works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it, so many pieces at the same time, begun in order."""
    waiting = iter(works)

    async def worker() -> None:
        for work in waiting:
            await work

    await asyncio.gather(*(worker() for _ in range(most)))
