"""Calibrations are kept between runs, each for one machine, one set of engines, one class."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from snugly.model import sidecar
from snugly.plan.calibration import Calibration, Sample, Tuning

VERSION = 1


def path_of(cache: Path) -> Path:
    """The file that they are kept in."""
    return cache / "calibration.json"


def load(cache: Path, fingerprint: str, model_class: str) -> Calibration | None:
    """What was measured, or None: never, on another machine, with other engines, or damaged."""
    try:
        entry = _read(path_of(cache))[f"{fingerprint} {model_class}"]
        samples = tuple(
            Sample(
                int(s["round"]), Tuning(**s["tuning"]), float(s["prefill_tps"]),
                float(s["decode_tps"]),
            )
            for s in entry["samples"]
        )  # fmt: skip
        return Calibration(model_class, Tuning(**entry["default"]), samples)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def save(cache: Path, fingerprint: str, calibration: Calibration) -> None:
    """Keep it, all at once or not at all.

    Raises: OSError when the folder cannot be written.
    """
    data = _read(path_of(cache))
    data[f"{fingerprint} {calibration.model_class}"] = dataclasses.asdict(calibration)
    cache.mkdir(parents=True, exist_ok=True)
    sidecar.write_text(path_of(cache), json.dumps({"version": VERSION, "entries": data}), 0o600)


def forget(cache: Path) -> None:
    """Drop all of them."""
    path_of(cache).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = data["entries"] if data["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return entries if isinstance(entries, dict) else {}
