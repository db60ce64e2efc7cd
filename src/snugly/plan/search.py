"""One search over models, quantizations, contexts, cache types, batches and placements. Pure.

Every way that fits is compared by one key, and the best of all ways is taken: more memory
only adds ways, so it never makes the answer worse (a property test holds that).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from snugly.plan.box import Box
from snugly.plan.memory import pool_uses
from snugly.plan.placement import placements
from snugly.plan.speed import predict
from snugly.plan.speed_lanes import prices_of
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections
from snugly.plan.tasks import Task, task_named
from snugly.plan.types import (
    Candidate,
    Fit,
    Need,
    Placement,
    PoolUse,
    Setup,
    Speed,
)
from snugly.units import MiB

LEAST_CONTEXT = 512  # below this not even a question and its answer have room
UBATCHES = (512, 128)  # llama.cpp's default, and one for tight machines
CLEARLY = 2.0  # points of 100; figures of one benchmark differ by that from run to run
_HEADER = 64 * MiB  # more than any file has beside its weights
_PROBE = 1 << 30
# One tensor type of each kind that has a price of its own.
_KINDS = (
    "F16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q3_K", "Q2_K", "IQ4_XS", "IQ3_S", "IQ2_XXS",
)  # fmt: skip
KV_TYPES = ("F16", "Q8_0")  # Q8_0: 0.531 of F16; what is smaller costs answers


@dataclass(frozen=True)
class Found:
    """What a search found: of every candidate the best way to run it, or none."""

    need: Need
    task: Task
    fits: tuple[Fit, ...]  # best first
    unfit: tuple[Candidate, ...]  # of no candidate that is in `fits`

    @cached_property
    def front(self) -> tuple[Fit, ...]:
        """The ways that no other beats in quality, speed and context at once, best first."""
        kept: list[Fit] = []
        for fit in sorted(self.fits, key=_merits, reverse=True):  # who beats it comes before it
            if not any(_beats(other, fit) for other in kept):
                kept.append(fit)
        places = {id(fit): place for place, fit in enumerate(self.fits)}
        return tuple(sorted(kept, key=lambda fit: places[id(fit)]))

    @property
    def best(self) -> Fit | None:
        """The recommendation."""
        return self.fits[0] if self.fits else None

    @property
    def faster(self) -> Fit | None:
        """The best of those half as fast again as the recommendation; None: there is none."""
        if self.best is None:
            return None
        wanted = 1.5 * self.best.speed.decode_tps.expected
        quick = [fit for fit in self.front if fit.speed.decode_tps.expected >= wanted]
        return max(quick, key=lambda fit: fit.candidate.quality, default=None)

    @property
    def better(self) -> Fit | None:
        """The quickest of those that answer clearly better than the recommendation; None: none.

        Not what is slower than a third of the pace: nobody waits for that.
        """
        if self.best is None:
            return None
        wanted = self.best.candidate.quality + CLEARLY
        slowest = pace(self.need, self.task) / 3
        good = [
            fit
            for fit in self.front
            if fit.candidate.quality >= wanted and fit.speed.decode_tps.expected >= slowest
        ]
        return max(good, key=lambda fit: fit.speed.decode_tps.expected, default=None)

    @property
    def by_model(self) -> tuple[Fit, ...]:
        """Of each model on the front its best way, best first."""
        seen: dict[str, Fit] = {}
        for fit in self.front:
            seen.setdefault(fit.candidate.model, fit)
        return tuple(seen.values())


def search(
    box: Box, candidates: Iterable[Candidate], need: Need, learned: Corrections = NOTHING_LEARNT
) -> Found:
    """The best way to run each candidate on `box`, ordered by how well it serves `need`."""
    task = task_named(need.task)
    fits: list[Fit] = []
    unfit: list[Candidate] = []
    for candidate in candidates:
        fit = best_way(box, candidate, need, learned)
        if fit is None:
            unfit.append(candidate)
        else:
            fits.append(fit)
    return _found(need, task, fits, unfit)


def survey(
    box: Box, candidates: Iterable[Candidate], need: Need, learned: Corrections = NOTHING_LEARNT
) -> Found:
    """As `search`, but only of those that could be the best, or the quickest of their quality.

    Goes down by quality and passes over what cannot be quicker than what was found before:
    no decoding beats reading its weights once per token. The recommendation is the same.
    """
    task = task_named(need.task)
    fits: list[Fit] = []
    unfit: list[Candidate] = []
    fastest = keeping = best_worth = 0.0  # of all, of those that keep up, of the others
    room = sum(box.budgets)
    limits = _limits(box, learned)
    for candidate in sorted(candidates, key=lambda one: -one.quality):
        if candidate.file_bytes - _HEADER > room:
            unfit.append(candidate)
            continue
        tps, wait = limits(candidate.read_bytes, task.prompt_tokens)
        shares = _shares(tps, wait, need, task)
        worth = candidate.quality * shares[0] * shares[1]
        dull = tps <= fastest and shares != (1.0, 1.0) and worth <= best_worth
        if tps <= keeping or dull:
            continue
        fit = best_way(box, candidate, need, learned)
        if fit is None:
            unfit.append(candidate)
            continue
        fits.append(fit)
        if not _shortened(fit, need, task):
            speed = fit.speed.decode_tps.expected
            fastest = max(fastest, speed)
            best_worth = max(best_worth, _worth(fit, need, task))
            keeping = max(keeping, speed if keeps_up(fit, need, task) else 0.0)
    return _found(need, task, fits, unfit)


def _found(need: Need, task: Task, fits: list[Fit], unfit: list[Candidate]) -> Found:
    fits.sort(key=lambda fit: key(fit, need, task), reverse=True)
    return Found(need, task, tuple(fits), tuple(unfit))


def _limits(box: Box, learned: Corrections) -> Callable[[int, int], tuple[float, float]]:
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
    taught = [correction.mean for pair in learned.by_class.values() for correction in pair]
    quicker = math.exp(min([0.0, *taught])) / _PROBE
    side_by_side = max(1, len(box.pools) - 1)  # GPUs that work on different micro-batches

    def limits(read_bytes: int, prompt_tokens: int) -> tuple[float, float]:
        tps = 1 / (token * quicker * max(1, read_bytes))
        return tps, prompt * quicker * read_bytes * prompt_tokens / side_by_side

    return limits


def best_way(
    box: Box, candidate: Candidate, need: Need, learned: Corrections = NOTHING_LEARNT
) -> Fit | None:
    """The best way to run one candidate, or None when no way fits."""
    build = candidate.build
    if need.context is not None and need.context > build.context_train:
        return None
    if candidate.file_bytes - _HEADER > sum(box.budgets):
        return None
    task = task_named(need.task)
    best: Fit | None = None
    for context in contexts(build.context_train, need, task):
        for setup in setups(context, need):
            fit = _fit(box, candidate, setup, task, need, learned)
            if fit is None:
                continue
            if best is None or key(fit, need, task) > key(best, need, task):
                best = fit
            if keeps_up(fit, need, task) or _nothing_gained(box, fit):
                break  # what follows saves memory only
        if best is not None:
            return best  # a shorter context is never better
    return best


def _nothing_gained(box: Box, fit: Fit) -> bool:
    """Whether taking less memory could not make it quicker: no layer is left behind in RAM.

    Without the second copy of the weights prompts may go in faster: that is tried.
    """
    layers = len(fit.candidate.build.layers) + 1
    whole = len(box.pools) == 1 or sum(fit.placement.gpu_layers) == layers
    return whole and not (fit.setup.repack and box.engine.repacks)


def contexts(trained: int, need: Need, task: Task) -> Iterator[int]:
    """Contexts to try, longest first: the one asked for, or the task's and its halves."""
    if need.context is not None:
        yield need.context
        return
    context = min(trained, task.context)
    yield context
    context = 1 << (context - 1).bit_length() - 1
    while context >= LEAST_CONTEXT:
        yield context
        context //= 2


def setups(context: int, need: Need) -> Iterator[Setup]:
    """Ways to hold the work at one context, the most comfortable first."""
    for kv_type in (need.kv_type,) if need.kv_type else KV_TYPES:
        for ubatch in UBATCHES:
            for repack in (True, False):
                yield Setup(context, need.n_seq, kv_type, None, 2048, ubatch, repack)


def tightest(context: int, need: Need) -> Setup:
    """The way to hold the work at one context that takes least, in the cache type asked for."""
    return Setup(context, need.n_seq, need.kv_type or "F16", None, 2048, UBATCHES[-1], False)


def fits_at(box: Box, candidate: Candidate, need: Need) -> bool:
    """Whether there is any way to run it for this need."""
    return best_way(box, candidate, need) is not None


def place(
    box: Box, candidate: Candidate, setup: Setup, need: Need
) -> Iterator[tuple[Placement, tuple[PoolUse, ...]]]:
    """Placements that fit the budgets, with the bytes they take: most on GPUs first.

    None for a cache type that a head of this model cannot be kept in.
    """
    build = candidate.build
    try:
        for placement in placements(build, setup, box.budgets, box.engine):
            uses = pool_uses(build, setup, placement, box.pools, box.engine)
            if _within(uses, box, need):
                yield placement, uses
    except ValueError:  # a head is no whole number of the type's blocks
        return


def _within(uses: tuple[PoolUse, ...], box: Box, need: Need) -> bool:
    sizes = [use.total_bytes for use in uses]
    if need.budget_bytes is not None and sum(sizes) > need.budget_bytes:
        return False
    return all(size <= budget for size, budget in zip(sizes, box.budgets, strict=True))


def _fit(
    box: Box,
    candidate: Candidate,
    setup: Setup,
    task: Task,
    need: Need,
    learned: Corrections,
) -> Fit | None:
    ways = []
    for placement, uses in place(box, candidate, setup, need):
        speed = _speed(box, candidate, setup, placement, task, learned)
        ways.append(Fit(candidate, setup, placement, uses, speed))
    return max(ways, key=lambda fit: key(fit, need, task), default=None)


def _speed(
    box: Box,
    candidate: Candidate,
    setup: Setup,
    placement: Placement,
    task: Task,
    learned: Corrections,
) -> Speed:
    shared = len(box.pools) == 1  # whatever computes, it reads the one memory
    return predict(
        candidate.build,
        setup,
        Placement() if shared else placement,
        box.processors,
        task.prompt_tokens,
        box.disk_bytes_per_s,
        learned,
    )


def pace(need: Need, task: Task) -> float:
    """Tokens per second below which an answer is too slow."""
    return task.min_tps if need.min_tps is None else need.min_tps


def keeps_up(fit: Fit, need: Need, task: Task) -> bool:
    """Whether it writes and begins to write quickly enough."""
    speed = fit.speed
    shares = _shares(speed.decode_tps.expected, speed.first_token_s.expected, need, task)
    return shares == (1.0, 1.0)


def key(fit: Fit, need: Need, task: Task) -> tuple[float, ...]:
    """How well a way serves a need; the larger tuple is better.

    First the context (each halving below the task's is a step down), then whether it keeps
    up; among those that do, quality in steps that are felt, then speed; among those that do
    not, quality discounted by how slow they are.
    """
    speed = fit.speed.decode_tps.expected
    keeps = keeps_up(fit, need, task)
    return (
        -_shortened(fit, need, task),
        keeps,
        fit.candidate.quality // CLEARLY if keeps else _worth(fit, need, task),
        fit.setup.kv_type != "Q8_0",
        speed,
    )


def _shares(tps: float, wait_s: float, need: Need, task: Task) -> tuple[float, float]:
    """How far a speed reaches of the pace, and a wait of the patience; 1 is enough."""
    slowest = pace(need, task)
    writes = min(1.0, tps / slowest) if slowest else 1.0
    return writes, min(1.0, task.patience_s / max(1e-9, wait_s))


def _worth(fit: Fit, need: Need, task: Task) -> float:
    """Quality, less for what is slower than it should be: in proportion, twice."""
    speed = fit.speed
    writes, waits = _shares(speed.decode_tps.expected, speed.first_token_s.expected, need, task)
    return fit.candidate.quality * writes * waits


def _shortened(fit: Fit, need: Need, task: Task) -> int:
    """How many times the context had to be halved below what the task asks for."""
    if need.context is not None:
        return 0
    wanted = min(task.context, fit.candidate.build.context_train)
    return max(0, (wanted // max(1, fit.setup.context)).bit_length() - 1)


def _beats(one: Fit, other: Fit) -> bool:
    """Whether `one` is at least as good in all that counts, and better in something."""
    a, b = _merits(one), _merits(other)
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def _merits(fit: Fit) -> tuple[float, float, float]:
    return (fit.candidate.quality, fit.speed.decode_tps.expected, float(fit.setup.context))
