"""The tensors of a source in single precision, read from its files when they are asked for."""

import numpy as np
from numpy.typing import NDArray

from snugly.quantize.kernels import dequantize_rows
from snugly.quantize.reader import Source
from snugly.quantize.types import SourceTensor

Floats = NDArray[np.float32]


class Weights:
    """The tensors of a file in single precision, read when they are asked for."""

    def __init__(self, source: Source) -> None:
        self._items = {item.tensor.name: item for item in source.tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def item(self, name: str) -> SourceTensor:
        """Where a tensor lies."""
        return self._items[name]

    def rows(self, name: str, first: int, count: int) -> Floats:
        """Some rows of a tensor [count, in]."""
        item = self._items[name]
        length, total = item.tensor.shape[0], item.tensor.n_elements // item.tensor.shape[0]
        count = min(count, total - first)
        segment = item.segments[0]
        per_row = item.tensor.n_bytes // total
        with open(segment.path, "rb") as file:
            file.seek(segment.offset + first * per_row)
            data = np.fromfile(file, dtype=np.uint8, count=count * per_row)
        return dequantize_rows(data, item.kind, length)

    def matrix(self, name: str) -> Floats:
        """A whole tensor, [out, in]."""
        return self.rows(name, 0, self._items[name].tensor.n_elements)

    def vector(self, name: str) -> Floats | None:
        """A vector, or None where there is none."""
        return self.matrix(name).reshape(-1) if name in self._items else None
