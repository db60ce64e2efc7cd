"""The one table of fitted coefficients, as `scripts/fit_speed.py --write` leaves it."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from snugly.plan.speed_terms import DECODE, PREFILL

UNKNOWN_WIDER = 1.5  # a backend without a row of its own: its spread is a guess, in ln


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What each term counts for one backend, and between which ln(actual/predicted) 80% lie."""

    decode: dict[str, float]
    prefill: dict[str, float]
    decode_spread: tuple[float, float]
    prefill_spread: tuple[float, float]
    known: bool


@dataclass(frozen=True, slots=True)
class Kernels:
    """How a processor whose kernels were timed here turns their rates into a run.

    `read` and `ops`: share of the kernel's rate that a whole model reaches. `layers` and
    `prompt_layers`: times of a layer without weights, per token and per micro-batch.
    `cache`, `attention` and `prompt_attention`: times over their kernels. Spreads as in
    Coefficients.
    """

    read: float
    ops: float
    layers: float
    prompt_layers: float
    cache: float
    attention: float
    prompt_attention: float
    decode_spread: tuple[float, float]
    prefill_spread: tuple[float, float]


@cache
def _table() -> dict[str, Any]:
    text = resources.files("snugly.plan").joinpath("speed_table.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def coefficients(kind: str) -> Coefficients:
    """Those of one backend; of one that was never measured, what all GPUs share."""
    kinds = _table()["kinds"]
    known = kind in kinds
    row = kinds[kind if known else "shared"]
    wider = 1.0 if known else UNKNOWN_WIDER
    return Coefficients(
        dict(zip(DECODE, row["decode"], strict=True)),
        dict(zip(PREFILL, row["prefill"], strict=True)),
        _wider(row["decode_spread"], wider),
        _wider(row["prefill_spread"], wider),
        known,
    )


@cache
def kernels() -> Kernels:
    """Those of a processor whose kernels were timed."""
    row = dict(_table()["kernels"])
    row.pop("source")
    for name in ("decode_spread", "prefill_spread"):
        row[name] = tuple(row[name])
    return Kernels(**row)


def _wider(spread: list[float], factor: float) -> tuple[float, float]:
    low, high = spread
    return low * factor, high * factor
