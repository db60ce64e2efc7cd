"""What a candidate can reach at most, so that a search looks closely at few of them. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from snugly.plan.box import Box
from snugly.plan.preference import brisk, keeps_up, merit, rate, shares, worth_of
from snugly.plan.speed_lanes import prices_of
from snugly.plan.speed_learning import Corrections
from snugly.plan.tasks import Task
from snugly.plan.types import Fit, Need

_PROBE = 1 << 30
# One tensor type of each kind that has a price of its own.
_KINDS = (
    "F16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q3_K", "Q2_K", "IQ4_XS", "IQ3_S", "IQ2_XXS",
)  # fmt: skip


@dataclass(slots=True)
class Bar:
    """What was found so far, as the least that whatever comes later has to reach."""

    fastest: float = 0.0  # of all
    keeping: float = 0.0  # the fastest of those that keep up
    merit: float = -math.inf  # the best of those that keep up
    worth: float = 0.0  # the best of the others

    def above(self, quality: float, tps: float, wait_s: float, need: Need, task: Task) -> bool:
        """Whether something no faster than this can be neither the best nor the quickest."""
        parts = shares(tps, wait_s, need, task)
        quickest = tps if task.writes else task.prompt_tokens / max(1e-9, wait_s)
        if parts == (1.0, 1.0):
            return quickest <= self.keeping and quality + brisk(tps, wait_s, task) <= self.merit
        worth = quality * parts[0] * parts[1]
        return quickest <= self.keeping or (quickest <= self.fastest and worth <= self.worth)

    def raise_to(self, fit: Fit, need: Need, task: Task) -> None:
        """Takes one more into account."""
        speed = rate(fit, task)
        self.fastest = max(self.fastest, speed)
        self.worth = max(self.worth, worth_of(fit, need, task))
        if keeps_up(fit, need, task):
            self.keeping = max(self.keeping, speed)
            self.merit = max(self.merit, merit(fit, task))


def limits_of(box: Box, learned: Corrections) -> Callable[[int, int], tuple[float, float]]:
    """(tokens per second, seconds to the first) that no prediction for this box beats.

    For the bytes of weights that a token reads, and the tokens of a prompt.
    """
    prices = [
        prices_of(processor, repack, True)
        for processor in box.processors
        for repack in (True, False)
    ]
    token = min(price.token(((kind, _PROBE),), None) for price in prices for kind in _KINDS)
    prompt = min(price.prompt(((kind, _PROBE),), None) for price in prices for kind in _KINDS)
    token *= _least_factor(box, learned, 0) / _PROBE
    prompt *= _least_factor(box, learned, 1) / _PROBE
    side_by_side = max(1, len(box.pools) - 1)  # GPUs that work on different micro-batches

    def limits(read_bytes: int, prompt_tokens: int) -> tuple[float, float]:
        tps = 1 / (token * max(1, read_bytes))
        return tps, prompt * read_bytes * prompt_tokens / side_by_side

    return limits


def _least_factor(box: Box, learned: Corrections, phase: int) -> float:
    """What learning multiplies times with at least: of decoding (phase 0), of prompts (1).

    Where one processor computes all and its widest class is known, every model is corrected
    by one of that processor's classes; elsewhere some are not corrected at all.
    """
    kind = box.processors[0].kind
    whole = len(box.pools) == 1 and (kind, "", "") in learned.by_class
    means = [
        pair[phase].mean
        for (place, _, _), pair in learned.by_class.items()
        if place == kind or not whole
    ]
    return math.exp(min(means) if whole else min([0.0, *means]))
