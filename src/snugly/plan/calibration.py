"""What was measured of engines and their settings on this machine, and what to take of it. Pure.

Rates are compared within one round only, each with the engine's own defaults in that same
round: what else the machine did then weighs on both.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from snugly.model.types import ModelSpec
from snugly.plan.tasks import task_named
from snugly.plan.types import Plan, Setup
from snugly.units import GiB, MiB

STOCK_SPIN = 300_000  # GNU OpenMP's own, where OMP_WAIT_POLICY is not set (libgomp, wait.h)
HOUSE_SPIN = 1_000  # engine.process; why: docs/journal.md
# Longer than this two threads fall to a hundredth when another program takes a core
# (bench/busy.py), for 5 to 10% on a quiet machine: never taken without being asked.
MOST_SPIN = 3_000
ANSWER_TOKENS = 256  # what a task's answer is taken to have, beside its usual prompt
WORTH = 1.03  # gains below this are within what two runs of one setting differ by
_LEAST_ROUNDS = 2  # one round is luck
# A model that is loaded for talk is asked for everything: what is quicker for the usual question
# must not be slower than this for any other kind of work.
_UNHARMED = 0.98
# What one more turn of a conversation is: the rest of the prompt was read before.
TURN = (128, ANSWER_TOKENS)
_KINDS = ("chat", "code", "summarize")  # short, long and very long prompts


@dataclass(frozen=True, slots=True)
class Tuning:
    """What of an engine's settings is chosen by measuring."""

    engine: str
    threads: int
    threads_batch: int
    spin_rounds: int
    repack: bool = True
    flash_attention: bool = True
    ubatch: int = 512
    kv_type: str = "F16"

    @property
    def words(self) -> str:
        """For a person: what differs from what an engine does by itself."""
        threads = f"{self.threads}" + (
            f"/{self.threads_batch}" if self.threads_batch != self.threads else ""
        )
        parts = [f"{self.engine}, {threads} thread{'s' if threads != '1' else ''}"]
        parts += [] if self.spin_rounds == STOCK_SPIN else [f"spin {self.spin_rounds:,}"]
        parts += [] if self.repack else ["no repack"]
        parts += [] if self.flash_attention else ["no flash attention"]
        parts += [] if self.ubatch == 512 else [f"ubatch {self.ubatch}"]
        parts += [] if self.kv_type == "F16" else [f"cache {self.kv_type.lower()}"]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one tuning. Rates in tokens per second."""

    round: int
    tuning: Tuning
    prefill_tps: float
    decode_tps: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """All samples of one class of models on one machine, and what the engine does by itself."""

    model_class: str
    default: Tuning
    samples: tuple[Sample, ...] = ()

    @property
    def rounds(self) -> int:
        """Rounds in which the default was measured."""
        return len({s.round for s in self.samples if s.tuning == self.default})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one tuning does against the default: ratios of rates, over 1 is faster."""

    tuning: Tuning
    prefill: float
    decode: float
    work: float  # the default's time for one piece of work, over this tuning's
    least_work: float  # the worst round's
    rounds: int


def class_of(spec: ModelSpec) -> str:
    """Models that one measurement speaks for: main tensor type, size, kind of layers.

    Sizes go by factors of four: what a cache holds and what a token costs change with them.
    """
    by_type: dict[str, int] = {}
    for tensor in spec.tensors:
        by_type[tensor.ggml_type] = by_type.get(tensor.ggml_type, 0) + tensor.n_bytes
    main = max(by_type, key=lambda name: by_type[name], default="F16")
    steps = ((256 * MiB, "tiny"), (1 * GiB, "small"), (4 * GiB, "medium"), (16 * GiB, "large"))
    size = next((word for bound, word in steps if spec.weight_bytes < bound), "huge")
    return f"{main} {size}" + (" experts" if spec.experts else "")


def work_of(task: str) -> tuple[int, int]:
    """Tokens in and tokens out of one usual piece of work of a task."""
    return task_named(task).prompt_tokens, ANSWER_TOKENS


def also_of(task: str) -> tuple[tuple[int, int], ...]:
    """Other kinds of work that a model for `task` is asked for as well."""
    return (TURN, *map(work_of, _KINDS)) if task == "chat" else ()


def verdicts(calibration: Calibration, work: tuple[int, int]) -> list[Verdict]:
    """Every tuning that was measured beside the default, the fastest for `work` first."""
    bases = {s.round: s for s in calibration.samples if s.tuning == calibration.default}
    found: dict[Tuning, list[tuple[Sample, Sample]]] = {}
    for sample in calibration.samples:
        if sample.round in bases and sample.prefill_tps > 0 and sample.decode_tps > 0:
            found.setdefault(sample.tuning, []).append((sample, bases[sample.round]))
    told = [_verdict(tuning, pairs, work) for tuning, pairs in found.items()]
    return sorted(told, key=lambda verdict: -verdict.work)


def _verdict(
    tuning: Tuning, pairs: Sequence[tuple[Sample, Sample]], work: tuple[int, int]
) -> Verdict:
    ratios = [_seconds(base, work) / _seconds(sample, work) for sample, base in pairs]
    return Verdict(
        tuning=tuning,
        prefill=statistics.median(s.prefill_tps / base.prefill_tps for s, base in pairs),
        decode=statistics.median(s.decode_tps / base.decode_tps for s, base in pairs),
        work=statistics.median(ratios),
        least_work=min(ratios),
        rounds=len(pairs),
    )


def _seconds(sample: Sample, work: tuple[int, int]) -> float:
    return work[0] / sample.prefill_tps + work[1] / sample.decode_tps


def best(
    calibration: Calibration,
    work: tuple[int, int],
    allowed: Callable[[Tuning], bool] = lambda tuning: tuning.spin_rounds <= MOST_SPIN,
    also: Sequence[tuple[int, int]] = (),
) -> Verdict | None:
    """The fastest tuning that is `allowed`, or None: none is clearly faster than the default.

    A tuning wins by its median over rounds, and must not lose in any of them. It must not be
    slower than the default for the works in `also` either.
    """
    unharmed = [
        {v.tuning for v in verdicts(calibration, other) if v.work >= _UNHARMED} for other in also
    ]
    for verdict in verdicts(calibration, work):
        if verdict.tuning == calibration.default:
            return None  # what follows is slower
        enough = verdict.rounds >= _LEAST_ROUNDS and verdict.work >= WORTH
        fair = all(verdict.tuning in kept for kept in unharmed)
        if enough and fair and verdict.least_work >= 1.0 and allowed(verdict.tuning):
            return verdict
    return None


def survivors(calibration: Calibration, works: Sequence[tuple[int, int]]) -> list[Tuning]:
    """Tunings that are worth another round: within a tenth of the best for some kind of work."""
    kept: dict[Tuning, None] = {calibration.default: None}
    for work in works:
        told = verdicts(calibration, work)
        kept |= {v.tuning: None for v in told if v.work >= told[0].work * 0.9}
    return list(kept)


def variations(house: Tuning, cores: int) -> Iterator[Tuning]:
    """`house` with one thing changed at a time, the likeliest gains first."""
    yield house
    yield replace(house, repack=not house.repack)
    yield replace(house, flash_attention=not house.flash_attention)
    for threads in sorted({max(1, house.threads // 2), max(1, house.threads - 1), cores}):
        if threads != house.threads:
            yield replace(house, threads=threads)
            yield replace(house, threads_batch=threads)
    for ubatch in (256, 1024):
        yield replace(house, ubatch=ubatch)
    yield replace(house, kv_type="Q8_0")
    yield replace(house, spin_rounds=MOST_SPIN)


def combined(calibration: Calibration, work: tuple[int, int], house: Tuning) -> Tuning | None:
    """`house` with every single change that helps `work`; None when fewer than two do."""
    gains = [
        v.tuning
        for v in verdicts(calibration, work)
        if v.work >= WORTH * _of(calibration, house, work) and v.tuning.engine == house.engine
    ]
    names = ("threads", "threads_batch", "repack", "flash_attention", "ubatch", "kv_type")
    made, changes = house, 0
    for tuning in gains:
        changed = {n: getattr(tuning, n) for n in names if getattr(tuning, n) != getattr(house, n)}
        if len(changed) == 1 and getattr(made, name := next(iter(changed))) == getattr(house, name):
            made, changes = replace(made, **changed), changes + 1
    return made if changes > 1 else None


def _of(calibration: Calibration, tuning: Tuning, work: tuple[int, int]) -> float:
    found = [v.work for v in verdicts(calibration, work) if v.tuning == tuning]
    return found[0] if found else math.inf


def tuned(
    plan: Plan,
    calibration: Calibration,
    task: str,
    engine: str,
    fits: Callable[[Setup], bool] | None = None,
) -> Plan:
    """`plan` with what was measured to be faster for `task` on `engine`, and why it is taken.

    The cache keeps its type: another would change answers. `fits` says whether a setup that
    may take more memory fits too; without it only what takes less is taken. Where fewer
    threads are free than were measured with, the plan's own threads stay.
    """

    def allowed(tuning: Tuning) -> bool:
        setup = _setup(plan.setup, tuning)
        saves = (
            setup.repack <= plan.setup.repack
            and setup.flash_attention == plan.setup.flash_attention
            and setup.ubatch <= plan.setup.ubatch
        )
        return (
            tuning.engine == engine
            and tuning.kv_type == plan.setup.kv_type
            and tuning.spin_rounds <= MOST_SPIN
            and plan.threads >= max(tuning.threads, tuning.threads_batch)
            and (saves or (fits is not None and fits(setup)))
        )

    verdict = best(calibration, work_of(task), allowed, also_of(task))
    if verdict is None:
        return plan
    take = verdict.tuning
    return replace(
        plan,
        setup=_setup(plan.setup, take),
        threads=take.threads,
        threads_batch=take.threads_batch,
        spin_rounds=take.spin_rounds,
        why=(
            *plan.why,
            f"Measured here on models like it ({calibration.model_class}): {take.words} is"
            f" {verdict.work:.2f} times as fast as the engine's own settings.",
        ),
    )


def _setup(setup: Setup, tuning: Tuning) -> Setup:
    return replace(
        setup,
        repack=tuning.repack,
        flash_attention=tuning.flash_attention,
        ubatch=tuning.ubatch,
        batch=max(setup.batch, tuning.ubatch),
    )
