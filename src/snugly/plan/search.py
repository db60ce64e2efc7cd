"""One search over models, quantizations, contexts, cache types, batches and placements. Pure.

Every way that fits is compared by one key, and the best of all ways is taken: more memory
only adds ways, so it never makes the answer worse (a property test holds that).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from snugly.plan.box import Box
from snugly.plan.buffers import TAKES_OVER
from snugly.plan.found import Found
from snugly.plan.memory import pool_uses
from snugly.plan.placement import placements
from snugly.plan.preference import (
    keeps_up,
    merit,
    shortened,
)
from snugly.plan.preference import key as key
from snugly.plan.prospects import Bar, limits_of
from snugly.plan.speed import predict
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
_HEADER = 64 * MiB  # more than any file has beside its weights
KV_TYPES = ("F16", "Q8_0")  # Q8_0: 0.531 of F16; what is smaller costs answers


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
    bar = Bar()
    room = sum(box.budgets)
    limits = limits_of(box, learned)
    for candidate in sorted(candidates, key=lambda one: -one.quality):
        if candidate.file_bytes - _HEADER > room:
            unfit.append(candidate)
            continue
        tps, wait = limits(candidate.read_bytes, task.prompt_tokens)
        if bar.above(candidate.quality, tps, wait, need, task):
            continue
        fit = best_way(box, candidate, need, learned, bar.merit)
        if fit is None:
            unfit.append(candidate)
            continue
        fits.append(fit)
        if not shortened(fit, need, task):
            bar.raise_to(fit, need, task)
    return _found(need, task, fits, unfit)


def _found(need: Need, task: Task, fits: list[Fit], unfit: list[Candidate]) -> Found:
    fits.sort(key=lambda fit: key(fit, need, task), reverse=True)
    return Found(need, task, tuple(fits), tuple(unfit))


def best_way(
    box: Box,
    candidate: Candidate,
    need: Need,
    learned: Corrections = NOTHING_LEARNT,
    bar: float = -math.inf,
) -> Fit | None:
    """The best way to run one candidate, or None when no way fits.

    The first that is found, where no other can have more merit than `bar`.
    """
    build = candidate.build
    if need.context is not None and need.context > build.context_train:
        return None
    if candidate.file_bytes - _HEADER > sum(box.budgets):
        return None
    task = task_named(need.task)
    ways = (
        _best_at(box, candidate, context, need, learned, bar)
        for context in contexts(build.context_train, need, task)
    )
    return next((way for way in ways if way is not None), None)  # shorter is never better


def _best_at(
    box: Box, candidate: Candidate, context: int, need: Need, learned: Corrections, bar: float
) -> Fit | None:
    """The best way at one context; what could only save memory is not tried."""
    task = task_named(need.task)
    best: Fit | None = None
    for setup in setups(context, need, bool(box.engine.repacks)):
        if best is not None and not setup.repack and not _repacks(box, best):
            continue
        fit = _fit(box, candidate, setup, task, need, learned)
        if fit is None:
            continue
        if best is None or key(fit, need, task) > key(best, need, task):
            best = fit
        if _nothing_gained(box, fit):
            break
        if bar > -math.inf and _at_most(box, fit, need, learned) <= bar:
            break
    return best


def _nothing_gained(box: Box, fit: Fit) -> bool:
    """Whether taking less memory could not make it quicker: no layer is left behind in RAM.

    Without the second copy of the weights prompts may go in faster: that is tried.
    """
    there, layers = fit.placement, len(fit.candidate.build.layers) + 1
    on_gpus = sum(there.gpu_layers) == layers and there.kv_on_gpu and not there.cpu_experts
    whole = len(box.pools) == 1 or on_gpus
    return whole and not (fit.setup.repack and _repacks(box, fit))


def _repacks(box: Box, fit: Fit) -> bool:
    """Whether there is a second copy of weights to do without: beside these GPUs there is none."""
    taken = any(fit.placement.gpu_layers) and box.engine.offloads_to in TAKES_OVER
    return bool(box.engine.repacks) and not taken


def _at_most(box: Box, fit: Fit, need: Need, learned: Corrections) -> float:
    """The merit it could have with a smaller cache and batch: a few layers more on GPUs."""
    task = task_named(need.task)
    layers = len(fit.candidate.build.layers) + 1
    spare = sum(use.kv_bytes + use.compute_bytes for use in fit.uses[1:])
    moved = spare * layers // fit.candidate.file_bytes + 1
    there = fit.placement
    if there.cpu_experts:
        there = replace(there, cpu_experts=max(0, there.cpu_experts - moved))
    elif there.gpu_layers and there.kv_on_gpu:
        first, *others = there.gpu_layers
        there = replace(there, gpu_layers=(min(first + moved, layers - sum(others)), *others))
    else:
        there = Placement((layers,))
    speed = _speed(box, fit.candidate, fit.setup, there, task, learned)
    fuller = replace(fit, placement=there, speed=speed)
    return merit(fuller, task) if keeps_up(fuller, need, task) else -math.inf


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


def setups(context: int, need: Need, repacks: bool) -> Iterator[Setup]:
    """Ways to hold the work at one context, the most comfortable first.

    Without a second copy of the weights too, where the engine would make one (`repacks`).
    """
    for kv_type in (need.kv_type,) if need.kv_type else KV_TYPES:
        for ubatch in UBATCHES:
            for repack in (True, False) if repacks else (True,):
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
