"""Rotary factors that a converter computes from a config and writes as tensors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from snugly.errors import BadModelFile
from snugly.model.config_fields import Config
from snugly.model.types import GgufHeader


def rope_tensors(config: dict[str, Any], header: GgufHeader) -> dict[str, bytes]:
    """Name -> F32 bytes of the factors that a header lists.

    Sources: llama.cpp conversion/llama.py and phi.py, `generate_extra_tensors`.

    Raises: BadModelFile when the config's factors do not have the header's lengths.
    """
    rope = Config(config, header.path).rope()
    made: dict[str, Callable[[dict[str, Any], int], Any]] = {
        "rope_freqs.weight": _llama3,
        "rope_factors_long.weight": lambda values, _: values.get("long_factor"),
        "rope_factors_short.weight": lambda values, _: values.get("short_factor"),
    }
    found = {}
    for tensor in header.tensors:
        if tensor.name not in made:
            continue
        values = made[tensor.name](rope, tensor.n_elements)
        if not isinstance(values, list) or len(values) != tensor.n_elements:
            raise BadModelFile(
                f"{header.path} is not usable: its rotary factors.",
                f"{tensor.n_elements} numbers are needed for {tensor.name}.",
                "Fetch config.json again.",
            )
        found[tensor.name] = np.array(values, dtype="<f4").tobytes()
    return found


def _llama3(rope: dict[str, Any], count: int) -> list[float]:
    """Llama 3.1's factors: long waves are slowed, short ones kept, those between blended."""
    base = float(rope.get("rope_theta", 10_000.0))
    factor = float(rope.get("factor", 8.0))
    low = float(rope.get("low_freq_factor", 1.0))
    high = float(rope.get("high_freq_factor", 4.0))
    original = float(rope.get("original_max_position_embeddings", 8192))
    # In single precision, as torch computes them.
    exponents = np.arange(0, 2 * count, 2, dtype=np.float32) / np.float32(2 * count)
    frequencies = np.float32(1.0) / np.power(np.float32(base), exponents)
    return [_blended(float(2 * math.pi / f), factor, low, high, original) for f in frequencies]


def _blended(wave: float, factor: float, low: float, high: float, original: float) -> float:
    if wave < original / high:
        return 1.0
    if wave > original / low:
        return factor
    smooth = (original / wave - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)
