"""The lines behind `quality_of`, fitted on the catalogue's own figures, with their residuals."""

import math

import numpy as np
from numpy.typing import NDArray

from snugly.model.catalog import Entry, entries
from snugly.model.catalog_quality import CHANCE, MMLU_CONSTANT, MMLU_SLOPE

_Points = NDArray[np.float64]


def figures(entry: Entry) -> dict[str, float]:
    """Its published figures by benchmark."""
    return {figure.benchmark: figure.value for figure in entry.figures}


def fitted() -> dict[str, tuple[float, ...]]:
    """Each line's numbers, as in catalog_quality.py."""
    return {name: tuple(_solved(x, y)) for name, (x, y) in _lines().items()}


def report() -> str:
    """Fitted numbers, and how far the lines are from figures that they were not fitted on."""
    rows = []
    for name, (x, y) in _lines().items():
        left_out = np.array([_predicted(x, y, i) for i in range(len(y))])
        if name.startswith("logit"):
            left_out, true = _percent(left_out), _percent(y)
        else:
            true = y
        off = np.abs(left_out - true)
        numbers = ", ".join(f"{number:.4g}" for number in _solved(x, y))
        average, seldom = off.mean(), np.percentile(off, 90)
        rows.append(f"{name}: {numbers} over {len(y)} models; each left out once: "
                    f"off by {average:.1f} on average, {seldom:.1f} in one of ten")  # fmt: skip
    return "\n".join(rows)


def _lines() -> dict[str, tuple[_Points, _Points]]:
    known = [(entry, figures(entry)) for entry in entries()]
    both = [f for _, f in known if "MMLU" in f and "MMLU-Pro" in f]
    general = [(e, g, f) for e, f in known if (g := _general(f)) is not None]
    code = [(e, g, f["HumanEval"]) for e, g, f in general if _is_of_instruct(e)]
    vectors = [(e, v) for e, f in known if (v := f.get("MTEB") or f.get("MTEB-v1"))]
    return {
        "MMLU-Pro from MMLU": _table([((f["MMLU"], 1.0), f["MMLU-Pro"]) for f in both]),
        "logit of MMLU-Pro from log2 size, months": _table(
            [((_doublings(e), _months(e), 1.0), _logit(g)) for e, g, _ in general]
        ),
        "logit of HumanEval from logit of MMLU-Pro, made for code": _table(
            [((_logit(g), 1.0, float(e.tasks[0] == "code")), _logit(h)) for e, g, h in code]
        ),
        "MTEB from log2 size": _table([((_doublings(e), 1.0), v) for e, v in vectors]),
    }


def _general(found: dict[str, float]) -> float | None:
    if "MMLU-Pro" in found:
        return found["MMLU-Pro"]
    return max(CHANCE, MMLU_SLOPE * found["MMLU"] + MMLU_CONSTANT) if "MMLU" in found else None


def _is_of_instruct(entry: Entry) -> bool:
    """Whether its HumanEval is that of the model people run, and of today's way of training."""
    own = [f for f in entry.figures if f.benchmark == "HumanEval" and "base model" not in f.source]
    return bool(own) and entry.released >= "2024-07"


def _table(rows: list[tuple[tuple[float, ...], float]]) -> tuple[_Points, _Points]:
    return np.array([x for x, _ in rows]), np.array([y for _, y in rows])


def _solved(x: _Points, y: _Points) -> _Points:
    return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0], dtype=np.float64)


def _predicted(x: _Points, y: _Points, out: int) -> float:
    others = np.arange(len(y)) != out
    return float(x[out] @ _solved(x[others], y[others]))


def _doublings(entry: Entry) -> float:
    return math.log2(math.sqrt(entry.n_params * entry.n_active) / 1e9)


def _months(entry: Entry) -> float:
    year, month = map(int, entry.released.split("-"))
    return float((year - 2023) * 12 + month - 7)


def _logit(percent: float) -> float:
    return math.log(percent / (100 - percent))


def _percent(logit: _Points) -> _Points:
    found: _Points = 100 / (1 + np.exp(-logit))
    return found
