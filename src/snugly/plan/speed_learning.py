"""What finished runs teach about the next ones: predicted beside actual. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from snugly.history.types import Measurement


@dataclass(frozen=True, slots=True)
class Correction:
    """Actual over predicted of one class of runs: median ratio, and its spread (ln, 80%)."""

    ratio: float
    spread: float
    runs: int


@dataclass(frozen=True, slots=True)
class Corrections:
    """Corrections by (phase, class); classes from narrow to wide, see `corrections`."""

    by_class: tuple[tuple[tuple[str, ...], Correction], ...] = ()


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


def corrections(measurements: Iterable[Measurement], fingerprint: str) -> Corrections:
    """What the runs on the machine of `fingerprint` teach; newest first or in any order."""
    raise NotImplementedError


def history_rows(measurements: Iterable[Measurement]) -> tuple[HistoryRow, ...]:
    """Runs as lines of a table, in the order given."""
    raise NotImplementedError
