"""Typed access to a GGUF header's metadata: what is missing or wrong is named.

Key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import os
from typing import Any, NoReturn

from snugly.errors import BadModelFile
from snugly.model.types import GgufHeader


class Fields:
    """One header's metadata. Every method raises BadModelFile naming the key that is wrong.

    `own` and `per_layer` take names without the architecture: "attention.key_length".
    """

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.architecture = self.text("general.architecture")
        if not self.architecture:
            self.fail("general.architecture", "It is missing, so nothing else can be understood")

    def fail(self, key: str, why: str) -> NoReturn:
        """Raise BadModelFile for `key`; `why` is a sentence without its full stop."""
        name = os.path.basename(self.header.path)
        raise BadModelFile(
            f"{name} is not a usable model: metadata key {key!r}.",
            f"{why} ({self.header.path}).",
            "Fetch it again with `snugly pull`, or ask whoever made the file.",
        )

    def text(self, key: str, default: str = "") -> str:
        """The text under `key`."""
        value = self.header.metadata.get(key, default)
        if not isinstance(value, str):
            self.fail(key, f"It is {_shown(value)}, not text")
        return str(value)

    def count(self, key: str, default: int | None = None, most: int = 1 << 31) -> int:
        """The whole number from 0 to `most` under `key`; without `default` it must be there."""
        value = self.header.metadata.get(key, default)
        if value is None:
            self.fail(key, "It is missing")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self.fail(key, f"It is {_shown(value)}, not a count up to {most}")
        return int(value)

    def own(self, name: str, default: int | None = None, most: int = 1 << 31) -> int:
        """`count` of a key of the model's architecture."""
        return self.count(f"{self.architecture}.{name}", default, most)

    def per_layer(self, name: str, n_layers: int, default: int) -> list[int]:
        """A count that is one number for all layers, or an array with one for each."""
        key = f"{self.architecture}.{name}"
        value = self.header.metadata.get(key)
        if isinstance(value, list) or key in self.header.lengths:
            if not isinstance(value, list) or len(value) < n_layers:
                self.fail(key, f"It has {self.header.lengths.get(key)} values, not {n_layers}")
            if any(isinstance(v, float | str) or not 0 <= v < 1 << 31 for v in value):
                self.fail(key, "One of its values is not a count")
            return [int(v) for v in value[:n_layers]]
        return [self.count(key, default)] * n_layers


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
