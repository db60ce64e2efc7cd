"""The tensors of a source in single precision, read from its files when they are asked for."""

import numpy as np
from numpy.typing import NDArray

from snugly.quantize.kernels import dequantize_rows
from snugly.quantize.reader import Source
from snugly.quantize.sensitivity_threads import shared
from snugly.quantize.types import SourceTensor

Floats = NDArray[np.float32]
_MANY = 1 << 20  # weights, from which a thread is worth its waking (a millisecond's decoding)
_PIECE = 1 << 17  # weights decoded at a time, half a megabyte that stays in the cache


class Weights:
    """The tensors of a file in single precision, read when they are asked for."""

    def __init__(self, source: Source, threads: int = 1) -> None:
        self._items = {item.tensor.name: item for item in source.tensors}
        self._threads = threads

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def item(self, name: str) -> SourceTensor:
        """Where a tensor lies."""
        return self._items[name]

    def rows(self, name: str, first: int, count: int) -> Floats:
        """Some rows of a tensor [count, in], large ones by several threads."""
        item = self._items[name]
        length, total = item.tensor.shape[0], item.tensor.n_elements // item.tensor.shape[0]
        count = min(count, total - first)
        if self._threads < 2 or count * length < _MANY:
            return self._read(item, first, count)
        result = np.empty((count, length), dtype=np.float32)

        def share(start: int, end: int) -> None:
            step = max(_PIECE // length, 1)
            for at in range(start, end, step):
                result[at : min(at + step, end)] = self._read(item, first + at, min(step, end - at))

        shared(share, count, self._threads)
        return result

    def _read(self, item: SourceTensor, first: int, count: int) -> Floats:
        length = item.tensor.shape[0]
        segment = item.segments[0]
        per_row = item.tensor.n_bytes // (item.tensor.n_elements // length)
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
