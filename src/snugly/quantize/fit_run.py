"""From a size or a box to a finished, measured file: all steps in their order."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from snugly.errors import BadModelFile, SnuglyError, UserError
from snugly.model.progress import Progress
from snugly.quantize.fit import Fit, Fitter, learn, least_bytes, too_small, write
from snugly.quantize.fit_box import Place, largest, no_way
from snugly.quantize.fit_sooner import sooner
from snugly.quantize.fit_speed import fast_enough
from snugly.quantize.fit_swaps import factors, groups_of, measured_groups
from snugly.quantize.measure import CONTEXT, Text, Watch, bundled, measure_all, read_texts
from snugly.quantize.measure_loss import Loss
from snugly.quantize.reader import Source

_MEASURED = 4  # chunks on which the result is measured
_CHUNKS = (CONTEXT, 256, 128)  # tokens of one, the longest that the text surely has
_LARGE_CHUNK = 256  # of a large model, for which reading takes a minute
_TOKEN_BYTES = 8  # no usual text has more of them to a token; 3 to 5 is common
# Bits per weight between a file and its neighbours in the table: about the step from Q4_K_M to
# Q5_K_M, or to Q3_K_M (docs/quantization.md).
_STEP_BITS = 0.75
# Weights up to which groups are measured without asking: seven readings of 512 tokens, which
# take half a minute on two cores at this size (docs/fit.md).
_QUICK_WEIGHTS = 600_000_000
_FEW_BITS = 3  # per weight, below which the smallest types are worth their time

Steps = Callable[[str], AbstractContextManager[Watch]]  # shows a task by its label


@dataclass(frozen=True, slots=True)
class Neighbour:
    """This file, or one that was not written. `kld` is measured, or expected from that."""

    n_bytes: int
    predicted_kld: float
    kld: float
    decode_tps: float | None  # None: does not fit the box


@dataclass(frozen=True, slots=True)
class Fitted:
    """A finished file."""

    path: Path
    fit: Fit
    loss: Loss
    measured_on: Text
    neighbours: tuple[Neighbour, ...]
    refined: bool  # chosen again after groups were measured, and better so
    seconds: dict[str, float]  # learn, write, refine, measure


def texts(paths: tuple[str, ...]) -> tuple[Text, Text]:
    """To learn from and to measure on.

    Of a person's own text the last fifth is for measuring. Where that is too short, all of it
    is learnt from, and the text that comes with Snugly is measured on.

    Raises: UserError for a file that cannot be read.
    """
    if not paths:
        return bundled("calibration"), bundled("evaluation")
    whole = read_texts(paths)
    at = len(whole.text) * 4 // 5
    if not _chunk(whole.text[at:]):
        return whole, bundled("evaluation")
    return replace(whole, text=whole.text[:at]), replace(whole, text=whole.text[at:])


def _chunk(text: str, most: int = CONTEXT) -> int:
    """Tokens of a chunk to measure on; 0: the text may have too few of them."""
    tokens = len(text.encode()) // _TOKEN_BYTES
    return next((length for length in _CHUNKS if length <= min(tokens, most)), 0)


def source_path(source: Source) -> str:
    """The GGUF that is run to learn what matters.

    Raises: UserError when it is none, or in parts.
    """
    path = source.paths[0]
    if not path.endswith(".gguf") or len(source.paths) > 1:
        raise UserError(
            "Only a GGUF in one file can be fitted to a size.",
            "What matters in the model is learnt by running it.",
            "Make one first, with `snugly quantize ... --to F16`.",
        )
    return path


@dataclass(frozen=True, slots=True)
class Task:
    """What is wanted. `budget`: bytes of the file; None asks for the largest that `place` holds."""

    source: Source
    budget: int | None
    place: Place
    learned: Text
    held: Text
    folder: Path  # of what was learnt
    threads: int | None = None
    refine: bool | None = None  # None: when it is quick
    least_tps: float | None = None  # tokens per second that decoding must reach on the box
    resume: bool = False

    @property
    def most_bytes(self) -> int:
        """What the file can have at most."""
        return self.place.most_bytes if self.budget is None else self.budget


def fit_and_write(
    task: Task, name: Callable[[Fit], Path], steps: Steps, progress: Progress
) -> Fitted:
    """Learn, choose, write, correct and measure. `name` says where a choice is written.

    Raises: UserError, DoesNotFit, EngineError, BadModelFile; KeyboardInterrupt leaves an
    unfinished file that `resume` goes on with.
    """
    path = source_path(task.source)
    weights = sum(item.tensor.n_elements for item in task.source.tensors)
    tiny = task.most_bytes * 8 / weights < _FEW_BITS
    least = least_bytes(task.source, tiny)
    if task.most_bytes < least:  # said before minutes of work
        raise (too_small(task.budget, least) if task.budget is not None
               else no_way(task.place, least))  # fmt: skip
    seconds: dict[str, float] = {}
    start = time.monotonic()
    with steps("Learning what matters") as watch:
        fitter = learn(path, task.source, task.learned, task.folder, tiny=tiny,
                       threads=task.threads, watch=watch)  # fmt: skip
    fit = _chosen(task, fitter)
    out = name(fit)
    start = _took(seconds, "learn", start)
    write(fitter, fit, out, threads=task.threads, progress=progress, resume=task.resume)
    _took(seconds, "write", start)
    try:
        return _finished(task, fitter, fit, out, seconds, steps, progress)
    except BadModelFile:
        out.unlink(missing_ok=True)  # what cannot be read is of no use
        raise
    except SnuglyError:
        progress.say(f"{out} is whole, but was not measured: `snugly compare` can do that.")
        raise


def _finished(
    task: Task, fitter: Fitter, fit: Fit, out: Path, seconds: dict[str, float], steps: Steps,
    progress: Progress,
) -> Fitted:  # fmt: skip
    """Correct and measure what was written."""
    path, start, other = task.source.paths[0], time.monotonic(), None
    weights = sum(item.tensor.n_elements for item in task.source.tensors)
    quick = weights <= _QUICK_WEIGHTS
    context = _chunk(task.held.text, CONTEXT if quick else _LARGE_CHUNK)
    if task.refine or (task.refine is None and quick):
        other = _again(task, fitter, fit, out, steps, progress)
        start = _took(seconds, "refine", start)
    files = [str(out), *([str(other[1])] if other else [])]
    try:
        with steps("Measuring") as watch:
            found = measure_all(path, files, task.held, most=_MEASURED, threads=task.threads,
                                watch=watch, exact=True, context=context)  # fmt: skip
        better = other is not None and found[1].kld.value < found[0].kld.value
        if other and better:
            os.replace(other[1], out)
            fit, fitter = other[0], other[2]
    finally:
        if other:
            other[1].unlink(missing_ok=True)
    _took(seconds, "measure", start)
    rows = neighbours(fitter, fit, found[int(better)], task.place)
    return Fitted(out, fit, found[int(better)], task.held, rows, better, seconds)


def _chosen(task: Task, fitter: Fitter) -> Fit:
    patient = task.refine is True  # asked for the best, whatever it takes
    if task.budget is None:
        fit = largest(fitter, task.place)
        if task.least_tps is None:
            quicker = sooner(fitter, fit, patient=patient)
            return quicker if task.place.way(quicker) is not None else fit
        return fast_enough(fitter, task.place, fit.n_bytes, task.least_tps)
    if task.least_tps is None:
        return sooner(fitter, fitter.fit(task.budget), patient=patient)
    return fast_enough(fitter, task.place, task.budget, task.least_tps)


def _took(seconds: dict[str, float], what: str, start: float) -> float:
    now = time.monotonic()
    seconds[what] = round(now - start, 3)
    return now


def _again(
    task: Task, fitter: Fitter, fit: Fit, out: Path, steps: Steps, progress: Progress
) -> tuple[Fit, Path, Fitter] | None:
    """Another file by what groups of the first one were measured to cost, if types differ."""
    with steps("Measuring groups"):
        measured = measured_groups(task.source.paths[0], out, groups_of(list(fit.recipe.exact)),
                                   task.learned, threads=task.threads)  # fmt: skip
    corrected = fitter.corrected(factors(fitter, out, measured))
    second = _chosen(replace(task, budget=task.budget or fit.n_bytes), corrected)
    if second.recipe.exact == fit.recipe.exact:
        return None
    path = out.with_name(f".{out.stem}-refined{out.suffix}")
    path.unlink(missing_ok=True)  # ours alone, left by a break
    write(corrected, second, path, threads=task.threads, progress=progress)
    return second, path, corrected


def neighbours(fitter: Fitter, fit: Fit, loss: Loss, place: Place) -> tuple[Neighbour, ...]:
    """One size down, this, one size up. Losses of the others: by how this one came out."""
    step = int(sum(tensor.n_elements for tensor in fit.tensors) * _STEP_BITS / 8)
    lowest, highest = fitter.bounds()
    sizes = [size for size in (fit.n_bytes - step, fit.n_bytes + step) if lowest <= size <= highest]
    ratio = loss.kld.value / fit.predicted_kld if fit.predicted_kld else 1.0
    fits = sorted([fit, *map(fitter.fit, sizes)], key=lambda item: item.n_bytes)
    return tuple(Neighbour(item.n_bytes, item.predicted_kld, item.predicted_kld * ratio,
                           place.decode_tps(item)) for item in fits)  # fmt: skip
