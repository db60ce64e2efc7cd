"""One search over models, quantizations, contexts, cache types, batches and placements. Pure.

Every way that fits is compared by one key, and the best of all ways is taken: more memory
only adds ways, so it never makes the answer worse (a property test holds that).
"""

from collections.abc import Iterable, Iterator

from snugly.plan.box import Box
from snugly.plan.buffers import TAKES_OVER
from snugly.plan.found import Found
from snugly.plan.limits import Limits
from snugly.plan.placement import placements
from snugly.plan.preference import key as key
from snugly.plan.preference import shortened
from snugly.plan.prospects import Bar, Most, most_key, reach_of
from snugly.plan.setups import contexts, setups
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

_HEADER = 64 * MiB  # more than any file has beside its weights


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
    """As `search`, with the same front, but looking only at what could be on it.

    Goes down by quality and passes over what cannot be as good in anything as one way that was
    found before. `fits` and `unfit` lack those.
    """
    task = task_named(need.task)
    fits: list[Fit] = []
    unfit: list[Candidate] = []
    bar, room = Bar(), sum(box.budgets)
    limits = Limits(box, learned, need, task)
    for candidate in sorted(candidates, key=lambda one: -one.quality):
        if candidate.file_bytes - _HEADER > room:
            unfit.append(candidate)
            continue
        reach = limits.of(candidate)
        if bar.above(reach):
            continue
        fit = best_way(box, candidate, need, learned, limits.most(candidate, reach))
        if fit is None:
            unfit.append(candidate)
            continue
        fits.append(fit)
        if not shortened(fit, need, task):
            bar.raise_to(reach_of(fit, task))
    return _found(need, task, fits, unfit)


def _found(need: Need, task: Task, fits: list[Fit], unfit: list[Candidate]) -> Found:
    fits.sort(key=lambda fit: key(fit, need, task), reverse=True)
    return Found(need, task, tuple(fits), tuple(unfit))


def best_way(
    box: Box,
    candidate: Candidate,
    need: Need,
    learned: Corrections = NOTHING_LEARNT,
    most: Most | None = None,
) -> Fit | None:
    """The best way to run one candidate, or None when no way fits.

    `most`: what it can reach at most, where that is known; ways that cannot be better for it
    are not tried.
    """
    trained = candidate.outline.context_train
    if need.context is not None and need.context > trained:
        return None
    if candidate.file_bytes - _HEADER > sum(box.budgets):
        return None
    task = task_named(need.task)
    ways = (
        _best_at(box, candidate, context, need, learned, most)
        for context in contexts(trained, need, task)
    )
    return next((way for way in ways if way is not None), None)  # shorter is never better


def _best_at(
    box: Box,
    candidate: Candidate,
    context: int,
    need: Need,
    learned: Corrections,
    most: Most | None,
) -> Fit | None:
    """The best way at one context; what could only save memory is not tried."""
    task = task_named(need.task)
    best: Fit | None = None
    reached: tuple[float, ...] = ()
    for setup in setups(context, need, bool(box.engine.repacks)):
        if best is not None and not setup.repack and not _may_gain(box, best):
            continue
        if best and most and reached >= most_key(most.anywhere, best, setup, need, task):
            continue
        fit = _fit(box, candidate, setup, need, learned, most)
        if fit is None:
            continue
        if (found := key(fit, need, task)) > reached:
            best, reached = fit, found
        if _nothing_gained(box, fit):
            break
    return best


def _nothing_gained(box: Box, fit: Fit) -> bool:
    """Whether taking less memory could not make it quicker: no layer is left behind in RAM.

    Without the second copy of the weights prompts may go in faster: that is tried.
    """
    whole = len(box.pools) == 1 or _all_on_gpus(fit)
    return whole and not (fit.setup.repack and _may_gain(box, fit))


def _may_gain(box: Box, fit: Fit) -> bool:
    """Whether it could be quicker without a second copy of weights that there is room for.

    What was timed of another engine's kernels cannot tell: this one makes the copy for a reason.
    """
    elsewhere = not box.engine.is_timed and any(one.kernels for one in box.processors)
    return _repacks(box, fit) and not elsewhere


def _all_on_gpus(fit: Fit) -> bool:
    there, layers = fit.placement, len(fit.candidate.build.layers) + 1
    return sum(there.gpu_layers) == layers and there.kv_on_gpu and not there.cpu_experts


def _repacks(box: Box, fit: Fit) -> bool:
    """Whether there is a second copy of weights to do without: beside these GPUs there is none."""
    taken = any(fit.placement.gpu_layers) and box.engine.offloads_to in TAKES_OVER
    return bool(box.engine.repacks) and not taken


def fits_at(box: Box, candidate: Candidate, need: Need) -> bool:
    """Whether there is any way to run it for this need."""
    return best_way(box, candidate, need) is not None


def place(
    box: Box, candidate: Candidate, setup: Setup, need: Need, gpus: bool = True
) -> Iterator[tuple[Placement, tuple[PoolUse, ...]]]:
    """Placements that fit the budgets, with the bytes they take: most on GPUs first.

    Without `gpus` only that with all in RAM.
    None for a cache type that a head of this model cannot be kept in.
    """
    try:
        for placement, uses in placements(
            candidate.build, setup, box.budgets, box.engine, pools=box.pools, gpus=gpus
        ):
            if within(uses, box, need):
                yield placement, uses
    except ValueError:  # a head is no whole number of the type's blocks
        return


def within(uses: tuple[PoolUse, ...], box: Box, need: Need) -> bool:
    """Whether every pool holds its share, and all together stay within what may be taken."""
    sizes = [use.total_bytes for use in uses]
    if need.budget_bytes is not None and sum(sizes) > need.budget_bytes:
        return False
    return all(size <= budget for size, budget in zip(sizes, box.budgets, strict=True))


def _fit(
    box: Box,
    candidate: Candidate,
    setup: Setup,
    need: Need,
    learned: Corrections,
    most: Most | None,
) -> Fit | None:
    """The best of all placements."""
    task = task_named(need.task)
    best: Fit | None = None
    reached: tuple[float, ...] = ()
    # Beside a GPU that takes products over nothing has a second copy: that was tried with it.
    gpus = setup.repack or box.engine.offloads_to not in TAKES_OVER
    for placement, uses in place(box, candidate, setup, need, gpus):
        speed = _speed(box, candidate, setup, placement, task, learned)
        fit = Fit(candidate, setup, placement, uses, speed)
        if (found := key(fit, need, task)) > reached:
            best, reached = fit, found
        if most and most.in_ram and _all_on_gpus(fit):  # all in RAM is what is left
            if reached >= most_key(most.in_ram, fit, setup, need, task):
                break
    return best


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
