"""What a person prefers: context, pace, then quality weighed against speed. Pure."""

import math

from snugly.plan.tasks import Task
from snugly.plan.types import Fit, Need

CLEARLY = 2.0  # points of 100; figures of one benchmark differ by that from run to run
Q8_CACHE = 1.0  # points that an 8-bit cache counts as: taken where f16 would halve the pace
NOTICED_S = 1.0  # a shorter wait does not break a thought (Nielsen, Usability Engineering, 1993)
PATIENT = 3.0  # times slower than the pace, or later than patience: nobody waits for that


def pace(need: Need, task: Task) -> float:
    """Tokens per second below which an answer is too slow."""
    return task.min_tps if need.min_tps is None else need.min_tps


def rate(fit: Fit, task: Task) -> float:
    """Tokens per second that count in a task: written, or read where nothing is written."""
    speed = fit.speed
    return speed.decode_tps.expected if task.writes else speed.prefill_tps.expected


def pace_at_work(fit: Fit, task: Task) -> tuple[float, float]:
    """(tokens per second behind the task's prompt, seconds to the first of them).

    Between depth 0 and a full context the time of a token grows with the depth.
    """
    speed = fit.speed
    first, last = 1 / speed.decode_tps.expected, 1 / speed.decode_tps_deep.expected
    depth = min(1.0, task.prompt_tokens / fit.setup.context)
    return 1 / (first + (last - first) * depth), speed.first_token_s.expected


def keeps_up(fit: Fit, need: Need, task: Task) -> bool:
    """Whether it writes and begins to write quickly enough."""
    return shares(*pace_at_work(fit, task), need, task) == (1.0, 1.0)


def key(fit: Fit, need: Need, task: Task) -> tuple[float, ...]:
    """How well a way serves a need; the larger tuple is better.

    First the context (each halving below the task's is a step down), then whether it keeps
    up; among those that do, quality and a point for each doubling of speed; among those that
    do not, quality discounted by how slow they are.
    """
    keeps = keeps_up(fit, need, task)
    worth = merit(fit, task) if keeps else worth_of(fit, need, task)
    return -shortened(fit, need, task), keeps, worth, rate(fit, task)


def merit(fit: Fit, task: Task) -> float:
    """Quality, and a point for each time that it is twice as quick: our judgement, no fit.

    Four times as quick is worth what two models have to differ by to be told apart.
    """
    return quality_with_cache(fit) + brisk(*pace_at_work(fit, task), task)


def brisk(tps: float, wait_s: float, task: Task) -> float:
    """How many times twice as quick: in writing, and in beginning to (a second is no wait).

    Where nothing is written only how soon it is done counts.
    """
    if not task.writes:
        return -math.log2(max(1e-9, wait_s))
    return math.log2(max(1e-9, tps)) - math.log2(max(NOTICED_S, wait_s))


def quality_with_cache(fit: Fit) -> float:
    """Quality with the cache it is run with."""
    return quality_at(fit.candidate.quality, fit.setup.kv_type)


def quality_at(quality: float, kv_type: str) -> float:
    """What is left of a quality with a cache of this type."""
    return max(0.0, quality - Q8_CACHE * (kv_type == "Q8_0"))


def shares(tps: float, wait_s: float, need: Need, task: Task) -> tuple[float, float]:
    """How far a speed reaches of the pace, and a wait of the patience; 1 is enough."""
    slowest = pace(need, task)
    writes = min(1.0, tps / slowest) if slowest else 1.0
    return writes, min(1.0, task.patience_s / max(1e-9, wait_s))


def worth_of(fit: Fit, need: Need, task: Task) -> float:
    """Quality, less for what is slower than it should be: in proportion, twice."""
    writes, waits = shares(*pace_at_work(fit, task), need, task)
    return quality_with_cache(fit) * writes * waits


def shortened(fit: Fit, need: Need, task: Task) -> int:
    """How many times the context had to be halved below what the task asks for."""
    if need.context is not None:
        return 0
    wanted = min(task.context, fit.candidate.build.context_train)
    return max(0, (wanted // max(1, fit.setup.context)).bit_length() - 1)


def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether `one` is at least as good in all that counts, and better in something."""
    return one != other and all(x >= y for x, y in zip(one, other, strict=True))


def merits(fit: Fit, task: Task) -> tuple[float, ...]:
    """What ways are compared by when none is preferred: quality, speed, context, no wait."""
    wait = max(NOTICED_S, fit.speed.first_token_s.expected)
    return quality_with_cache(fit), rate(fit, task), float(fit.setup.context), -wait
