"""Typed access to a Hugging Face `config.json`: each value checked, each gap remembered. Pure."""

import math
from typing import Any, NoReturn

from snugly.errors import UserError

# Where a multimodal config keeps its language model. Source: llama.cpp conversion/base.py
# (TextModel lays text_config over the rest) and mamba.py (llm_config).
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_MOST = 1 << 31  # no count in any published config comes near
_MOST_LAYERS = 4096


class Config:
    """One config, its language part on top.

    Values come from the config itself, then from `defaults` (those of the transformers class,
    which is what a converter reads), and each use of a default is noted in `open_points`.
    """

    def __init__(self, raw: dict[str, Any], name: str) -> None:
        parts = [raw[part] for part in _TEXT_PARTS if isinstance(raw.get(part), dict)]
        self.values: dict[str, Any] = dict(raw)
        for part in parts:
            self.values.update(part)
        self.name = name
        self.defaults: dict[str, Any] = {}
        self.open_points: list[str] = []

    def fail(self, key: str, why: str) -> NoReturn:
        """Refuse the config, naming the key."""
        raise UserError(
            f"The config of {self.name} cannot be used: {key!r}.",
            f"{why}.",
            "Look whether it is the model's own config.json, complete.",
        )

    def note(self, point: str) -> None:
        """Remember something that the config left open."""
        if point not in self.open_points:
            self.open_points.append(point)

    def get(self, *keys: str) -> Any:
        """The first of `keys` that has a value, from the config or its class; None if none has."""
        for key in keys:
            if self.values.get(key) is not None:
                return self.values[key]
        for key in keys:
            # A key written as null says what it says: there is none.
            if key not in self.values and self.defaults.get(key) is not None:
                self.note(f"{key} is not in the config; the class default {self.defaults[key]!r}")
                return self.defaults[key]
        return None

    def count(self, *keys: str, default: int | None = None) -> int:
        """A whole number from 0 to 2^31. Raises: UserError naming the first key."""
        value = self.get(*keys)
        if value is None:
            value = default
        if value is None:
            self.fail(keys[0], "It is missing")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
            self.fail(keys[0], f"It is {str(value)[:60]!r}, not a count")
        return value

    def positive(self, *keys: str, default: int | None = None) -> int:
        """A count that is not 0."""
        value = self.count(*keys, default=default)
        if value == 0:
            self.fail(keys[0], "It is 0")
        return value

    def number(self, *keys: str, default: float | None = None) -> float | None:
        """A number, or `default`."""
        value = self.get(*keys)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(keys[0], f"It is {str(value)[:60]!r}, not a number")
        if not math.isfinite(value):
            self.fail(keys[0], f"It is {value}")
        return float(value)

    def rotary(self, default: float) -> float:
        """Which part of a head is rotated, from 0 to 1."""
        value = self.rope().get("partial_rotary_factor")
        if value is None:
            value = self.get("partial_rotary_factor", "rotary_pct", "rope_pct")
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            self.fail("partial_rotary_factor", f"It is {str(value)[:60]!r}, not from 0 to 1")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool | int):
            self.fail(key, f"It is {str(value)[:60]!r}, neither true nor false")
        return bool(value)

    def layers(self, *keys: str) -> int:
        """How many layers there are."""
        value = self.positive(*(keys or ("num_hidden_layers", "n_layer", "num_layers")))
        if value > _MOST_LAYERS:
            self.fail("num_hidden_layers", f"It is {value}; more than {_MOST_LAYERS} is damage")
        return value

    def each(self, key: str, n: int) -> list[Any] | None:
        """A list with one entry for each of `n` layers; None when the config has none."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < n:
            self.fail(key, f"It is not a list of {n}")
        return value[:n]

    def part(self, key: str) -> dict[str, Any]:
        """A nested object; empty when the config has none."""
        value = self.get(key)
        return value if isinstance(value, dict) else {}

    def rope(self) -> dict[str, Any]:
        """How positions are scaled, whatever the config calls it; `rope_type` named.

        `rope_adjustments` is litgpt's name for Llama 3's scaling (shared/data/README.md).
        """
        rope = dict(self.part("rope_parameters") or self.part("rope_scaling"))
        if isinstance(rope.get("full_attention"), dict):
            rope = dict(rope["full_attention"])
        if "rope_type" not in rope and isinstance(rope.get("type"), str):
            rope["rope_type"] = rope["type"]
        other = self.part("rope_adjustments")
        if not rope and "low_freq_factor" in other:
            rope = {**other, "rope_type": "llama3"}
            rope["original_max_position_embeddings"] = other.get("original_max_seq_len", 8192)
        theta = self.get("rope_theta", "rotary_emb_base")
        if theta is not None:
            rope.setdefault("rope_theta", theta)
        return rope
