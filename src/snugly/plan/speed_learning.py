"""What finished runs teach about the next ones: predicted beside actual. Pure.

A run gives ln(predicted rate / actual rate), once for decoding and once for the prompt. The
same model and quantization on the same processors tells most; other models in that
quantization less; any run on those processors a little. Each class starts from the wider
one and is moved by its own runs: the mean of normal distributions with known variances.

Predictions are for a machine that does nothing else. A run on the CPU beside other programs
teaches nothing; of runs whose load nobody noted only the quicker half does.
"""
# ruff: noqa: D102 (Run's attributes are explained at history.types.Measurement)

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from snugly.model.types import Build

# Standard deviations of ln(predicted/actual), read off `bench/speed_accuracy.py`:
_TABLE = 0.40  # of the table on an unknown device
_MODEL = 0.12  # of two models on the same device, once its mean is known
_RUN = 0.06  # of two runs of one model
_80 = 1.2816  # standard deviations that hold 80% of a normal distribution
SHORT_PROMPT = 16  # tokens; a shorter one measures start-up
SHORT_ANSWER = 8
_KEPT = 20  # of the latest runs of a class: a driver or an engine may change
# Cores of other programs beside which a run on the CPU teaches nothing: two threads lose an
# eighth by it at least, twice what two runs differ by.
DISTURBED = 0.25


class Run(Protocol):
    """What is read of a finished run; `history.types.Measurement` is one."""

    @property
    def taken_at(self) -> str: ...
    @property
    def model_ref(self) -> str: ...
    @property
    def model_name(self) -> str: ...
    @property
    def quant(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def machine(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def predicted_bytes(self) -> int: ...
    @property
    def peak_bytes(self) -> int | None: ...
    @property
    def decode_tps(self) -> float: ...
    @property
    def prefill_tps(self) -> float: ...
    @property
    def predicted_decode_tps(self) -> float | None: ...
    @property
    def predicted_prefill_tps(self) -> float | None: ...
    @property
    def others_cores(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Correction:
    """Mean of ln(actual time / predicted time) of a class, its standard deviation, the runs."""

    mean: float
    deviation: float
    runs: int

    def onto(self, spread: tuple[float, float]) -> tuple[float, tuple[float, float]]:
        """(factor on times, 80% interval of ln around it), never wider than without."""
        reach = min(_80 * self.deviation, max(-spread[0], spread[1]))
        return math.exp(self.mean), (-reach, reach)


@dataclass(frozen=True, slots=True)
class Corrections:
    """What was learnt, by (place, model, quantization); "" stands for any."""

    by_class: dict[tuple[str, str, str], tuple[Correction, Correction]] = field(
        default_factory=dict
    )

    def of(self, build: Build, place: str) -> tuple[Correction, Correction] | None:
        """Of decoding and of prompts: the narrowest class that is known."""
        for key in (
            (place, build.name, build.file_type), (place, "", build.file_type), (place, "", ""),
        ):  # fmt: skip
            if found := self.by_class.get(key):
                return found
        return None


NOTHING_LEARNT = Corrections()


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One line of `snugly plan --history`: a run, predicted beside actual. None: not known."""

    taken_at: str
    model_ref: str
    quant: str
    context: int
    predicted_bytes: int
    peak_bytes: int | None
    predicted_decode_tps: float | None
    decode_tps: float | None
    predicted_prefill_tps: float | None
    prefill_tps: float | None
    others_cores: float | None
    set_aside: str  # why it teaches nothing; empty: it does


def corrections(measurements: Iterable[Run], fingerprint: str) -> Corrections:
    """What the runs on the machine of `fingerprint` teach. Newest first.

    Runs without a prediction, on another machine, too short to tell, or disturbed are passed over.
    """
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in measurements:
        if fingerprint and run.machine == fingerprint and not disturbed(run):
            runs[run.place].append(run)
    found: dict[tuple[str, str, str], list[Correction]] = defaultdict(list)
    for phase in (_decode_error, _prompt_error):
        for place, here in runs.items():
            for key, learnt in _of_place(place, here, phase).items():
                found[key].append(learnt)
    return Corrections({key: (pair[0], pair[1]) for key, pair in found.items()})


def _decode_error(run: Run) -> float | None:
    if run.completion_tokens < SHORT_ANSWER or run.decode_tps <= 0:
        return None
    return math.log(run.predicted_decode_tps / run.decode_tps) if run.predicted_decode_tps else None


def _prompt_error(run: Run) -> float | None:
    if run.prompt_tokens < SHORT_PROMPT or run.prefill_tps <= 0:
        return None
    expected = run.predicted_prefill_tps
    return math.log(expected / run.prefill_tps) if expected else None


def _of_place(
    place: str, runs: Sequence[Run], error: Callable[[Run], float | None]
) -> dict[tuple[str, str, str], Correction]:
    """Corrections of one phase on one place, from wide to narrow."""
    seen: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    for run in runs:
        value, own = error(run), seen[run.model_name, run.quant]
        if value is not None and len(own) < _KEPT:
            own.append((value, noted(run)))
    errors = {key: _teaching(own) for key, own in seen.items()}
    models = {key: statistics.median(values) for key, values in errors.items() if values}
    start = Correction(0.0, _TABLE, 0)
    anywhere = _moved(start, list(models.values()), _MODEL)
    found = {(place, "", ""): anywhere}
    for quant in {quant for _, quant in errors}:
        same = [value for (_, other), value in models.items() if other == quant]
        found[place, "", quant] = kind = _moved(anywhere, same, _MODEL) if same else anywhere
        for name, other in errors:
            if other == quant:
                found[place, name, quant] = _moved(kind, errors[name, quant], _RUN)
    return found


def disturbed(run: Run) -> bool:
    """Whether other programs took part of what the run computed on."""
    return "cpu" in run.place and (run.others_cores or 0.0) > DISTURBED


def noted(run: Run) -> bool:
    """Whether it is known that the run had its processors to itself."""
    return "cpu" not in run.place or run.others_cores is not None


def _teaching(seen: Sequence[tuple[float, bool]]) -> list[float]:
    """The errors that count: those of quiet runs, and the quicker half of the others."""
    quiet = [value for value, is_quiet in seen if is_quiet]
    others = sorted(value for value, is_quiet in seen if not is_quiet)
    return quiet + others[: -(-len(others) // 2)]


def _moved(wider: Correction, seen: Sequence[float], deviation: float) -> Correction:
    """The class after what was seen of it; `deviation` is that of one more from its mean."""
    if not seen:
        return wider
    count = min(len(seen), _KEPT)
    precision = 1 / wider.deviation**2 + count / deviation**2
    mean = wider.mean / wider.deviation**2 + count * statistics.median(seen) / deviation**2
    left = math.sqrt(1 / precision + deviation**2)
    return Correction(mean / precision, left, wider.runs + count)


def history_rows(measurements: Iterable[Run], fingerprint: str = "") -> tuple[HistoryRow, ...]:
    """Runs as lines of a table, in the order given; on the machine of `fingerprint`."""
    runs = tuple(measurements)
    slower = _slower(runs)
    return tuple(
        HistoryRow(
            run.taken_at, run.model_ref, run.quant, run.context, run.predicted_bytes,
            run.peak_bytes, run.predicted_decode_tps, run.decode_tps or None,
            run.predicted_prefill_tps, run.prefill_tps or None, run.others_cores,
            _why_aside(run, fingerprint, slower),
        )
        for run in runs
    )  # fmt: skip


def _why_aside(run: Run, fingerprint: str, slower: set[int]) -> str:
    if run.predicted_decode_tps is None:
        return "nothing was predicted"
    if fingerprint and run.machine != fingerprint:
        return "on another machine"
    if disturbed(run):
        return f"others took {run.others_cores:.1f} cores"
    if _decode_error(run) is None and _prompt_error(run) is None:
        return "too short to tell"
    return "load not noted, and slower than most" if id(run) in slower else ""


def _slower(runs: Iterable[Run]) -> set[int]:
    """Of runs whose load nobody noted, those in the slower half of their kind, by `id`."""
    kinds: dict[tuple[str, ...], list[tuple[float, Run]]] = defaultdict(list)
    for run in runs:
        error = _decode_error(run)
        if error is not None and not noted(run):
            kinds[run.machine, run.place, run.model_name, run.quant].append((error, run))
    found: set[int] = set()
    for kind in kinds.values():
        kind.sort(key=lambda pair: pair[0])
        found |= {id(run) for _, run in kind[-(-len(kind) // 2) :]}
    return found
