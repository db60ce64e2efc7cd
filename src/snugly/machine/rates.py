"""Measured rates are kept, and forgotten when the machine or its load has changed."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from snugly.machine.types import Fact, Kernel, Machine, Origin, Rates

VERSION = 3
LOAD_TOLERANCE = 0.5  # busy cores: half a core more or less changes what a model can have


def fingerprint(machine: Machine) -> dict[str, object]:
    """What must be the same for old rates to count: processor, cores, RAM and GPUs."""
    return {
        "cpu": machine.cpu.model.value,
        "cores": machine.cpu.logical_cores.value,
        "usable_cores": machine.cpu.usable_cores.value,
        "memory_bytes": machine.memory.total_bytes.value,
        "gpus": [[gpu.vendor, gpu.name.value, gpu.total_bytes.value] for gpu in machine.gpus],
    }


def fingerprint_text(machine: Machine) -> str:
    """The fingerprint as a short text, for the history."""
    text = json.dumps(fingerprint(machine), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def still_valid(
    then: dict[str, object], load_then: float, now: dict[str, object], load_now: float | None
) -> bool:
    """Whether rates taken `then` hold `now`.

    The hardware is the same, and no more than LOAD_TOLERANCE cores have become busy or idle.
    A load that is not known does not count against them.
    """
    if then != now:
        return False
    return load_now is None or abs(load_now - load_then) <= LOAD_TOLERANCE


def rates_path(cache: Path) -> Path:
    """The file that rates are kept in."""
    return cache / "rates.json"


def save_rates(rates: Rates, machine: Machine, cache: Path) -> None:
    """Keep `rates` for `machine`, all at once or not at all.

    Raises: OSError when the folder cannot be written.
    """
    data = {
        "version": VERSION,
        "fingerprint": fingerprint(machine),
        "rates": dataclasses.asdict(rates),
    }
    cache.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=cache, prefix=".rates-", suffix=".json")
    try:
        # Closed before it is renamed: Windows moves no open file.
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, rates_path(cache))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def load_rates(machine: Machine, cache: Path) -> Rates | None:
    """The kept rates, or None: never measured, another machine or load, or a damaged file."""
    try:
        data = json.loads(rates_path(cache).read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            return None
        rates = _rates(data["rates"])
        then = data["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None
    valid = still_valid(then, rates.load_then, fingerprint(machine), machine.cpu.load.value)
    return rates if valid else None


def _rates(data: Any) -> Rates:
    """Rates out of JSON. Raises: ValueError, KeyError, TypeError for anything else."""
    return Rates(
        bandwidth_bytes_per_s=tuple(
            (int(count), _fact(fact)) for count, fact in data["bandwidth_bytes_per_s"]
        ),
        f32_flops=_fact(data["f32_flops"]),
        int8_ops=_fact(data["int8_ops"]),
        disk_read_bytes_per_s=_fact(data["disk_read_bytes_per_s"]),
        taken_at=str(data["taken_at"]),
        load_then=float(data["load_then"]),
        seconds=float(data["seconds"]),
        kernels=tuple(
            Kernel(
                int(kernel["threads"]),
                str(kernel["ggml_type"]),
                bool(kernel["repacked"]),
                float(kernel["read_bytes_per_s"]),
                float(kernel["ops_per_s"]),
            )
            for kernel in data["kernels"]
        ),  # fmt: skip
        layer_seconds=tuple((int(count), float(cost)) for count, cost in data["layer_seconds"]),
    )


def _fact(data: Any) -> Fact[float]:
    value = data["value"]
    return Fact(None if value is None else float(value), Origin(data["origin"]), str(data["how"]))
