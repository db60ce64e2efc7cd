"""What was found so far, and what a candidate has to reach to be worth a closer look. Pure."""

from typing import NamedTuple

from snugly.plan.preference import (
    NOTICED_S,
    brisk,
    pace_at_work,
    quality_at,
    quality_with_cache,
    rate,
    shares,
    shortened,
)
from snugly.plan.tasks import Task
from snugly.plan.types import Fit, Need, Setup


class Reach(NamedTuple):
    """All that ways are compared by, the larger the better: of one way, or at most.

    Where one is as good as another in everything, it is preferred to it (`preference.key`
    rises with each), and the other is on no front.
    """

    quality: float
    rate: float  # tokens per second that count in the task
    at_work: float  # tokens per second behind the task's prompt
    no_wait: float  # less the seconds to the first word, as far as they are noticed
    context: int


class Most(NamedTuple):
    """What a candidate can reach at most."""

    anywhere: Reach
    in_ram: Reach | None  # where no GPU takes part; None: there is none to take part


def reach_of(fit: Fit, task: Task) -> Reach:
    """What a way reaches."""
    tps, wait = pace_at_work(fit, task)
    return Reach(
        quality_with_cache(fit), rate(fit, task), tps, no_wait(wait, task), fit.setup.context
    )


def no_wait(seconds: float, task: Task) -> float:
    """Less the wait; where text comes out, one that nobody notices is none."""
    return -max(NOTICED_S, seconds) if task.writes else -seconds


def most_key(most: Reach, fit: Fit, setup: Setup, need: Need, task: Task) -> tuple[float, ...]:
    """The most that `preference.key` of another way can be, of what `fit` runs in its context.

    `most` is what any way reaches, `setup` that of the other one.
    """
    tps, wait = most.at_work, -most.no_wait
    writes, waits = shares(tps, wait, need, task)
    quality = quality_at(fit.candidate.quality, setup.kv_type)
    keeps = writes == waits == 1.0
    worth = quality + brisk(tps, wait, task) if keeps else quality * writes * waits
    return -shortened(fit, need, task), keeps, worth, most.rate


class Bar:
    """What was found so far: of it, what nothing else is as good as in everything."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._found: list[Reach] = []

    def above(self, most: Reach) -> bool:
        """Whether something found is as good in everything as `most`."""
        return any(_as_good(one, most) for one in self._found)

    def raise_to(self, found: Reach) -> None:
        """Takes one more into account."""
        if not self.above(found):
            self._found = [one for one in self._found if not _as_good(found, one)]
            self._found.append(found)


def _as_good(one: Reach, other: Reach) -> bool:
    # one by one, what decides most often first: a survey asks this some ten thousand times
    return (
        one.rate >= other.rate
        and one.quality >= other.quality
        and one.no_wait >= other.no_wait
        and one.at_work >= other.at_work
        and one.context >= other.context
    )
