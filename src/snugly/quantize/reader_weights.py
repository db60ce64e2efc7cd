"""What weights look like: size, spread and outliers of each tensor, streamed from its file."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from snugly.errors import BadModelFile
from snugly.model.ggml_types import row_bytes
from snugly.quantize.jobs import CHUNK_WEIGHTS
from snugly.quantize.kernels import READABLE, dequantize_rows

_LAYER = re.compile(r"(?:^|\.)(?:blk|layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Listed:
    """One tensor as it lies in a file. `shape` is in the order of that file's format."""

    name: str
    kind: str  # "Q4_K", "BF16", "U8", ... as the file says it
    shape: tuple[int, ...]
    row: int  # numbers that lie together: the last extent of PyTorch's, the first of ggml's
    n_elements: int  # weights; for packed ones more than the numbers that are stored
    n_bytes: int
    path: str
    offset: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of a weight, with scales where they lie among the weights (ggml's types)."""
        return 8 * self.n_bytes / self.n_elements if self.n_elements else 0.0

    @property
    def layer(self) -> int | None:
        """The layer by its name; None for what belongs to all."""
        match = _LAYER.search(self.name)
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Spread:
    """How the weights of one tensor, or of several together, are spread."""

    count: int
    squares: float  # sum of squares
    fourths: float  # sum of fourth powers
    largest: float  # greatest absolute value

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    @property
    def peak(self) -> float:
        """The largest weight in units of the root mean square: 4 to 6 without outliers."""
        return self.largest / self.rms if self.rms else 0.0

    @property
    def tail(self) -> float:
        """Fourth moment over the square of the second: 3 for a normal distribution."""
        return self.fourths * self.count / self.squares**2 if self.squares else 0.0

    def __add__(self, other: "Spread") -> "Spread":
        """Both together."""
        return Spread(
            self.count + other.count,
            self.squares + other.squares,
            self.fourths + other.fourths,
            max(self.largest, other.largest),
        )


NOTHING = Spread(0, 0.0, 0.0, 0.0)


def spreads(
    tensors: Iterable[Listed], threads: int, advance: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[Listed, Spread | None]]:
    """Each tensor with how its weights are spread; None for numbers that cannot be decoded.

    `advance` gets the bytes read since last time. Memory is 16 MB per thread.

    Raises: BadModelFile when a file is cut short or holds what is no number.
    """
    with ThreadPoolExecutor(threads) as pool:
        for tensor in tensors:
            if tensor.kind not in READABLE:
                advance(tensor.n_bytes)
                yield tensor, None
                continue
            pieces = pool.map(lambda piece, t=tensor: _spread(t, *piece), _pieces(tensor))
            total = NOTHING
            for piece, n_bytes in pieces:
                total += piece
                advance(n_bytes)
            yield tensor, total


def _pieces(tensor: Listed) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each piece."""
    rows = tensor.n_elements // tensor.row
    step = max(CHUNK_WEIGHTS // tensor.row, 1)
    return ((start, min(step, rows - start)) for start in range(0, rows, step))


def _spread(tensor: Listed, start: int, rows: int) -> tuple[Spread, int]:
    size = row_bytes(tensor.kind, tensor.row)
    with open(tensor.path, "rb", buffering=0) as file:
        file.seek(tensor.offset + start * size)
        raw = np.fromfile(file, dtype=np.uint8, count=rows * size)
    if raw.nbytes != rows * size:
        raise _damaged(tensor, "The file ends before it")
    weights = dequantize_rows(raw, tensor.kind, tensor.row)
    squares = np.square(weights, dtype=np.float64)
    found = Spread(
        weights.size,
        float(squares.sum()),
        float(np.square(squares, out=squares).sum()),
        float(np.abs(weights).max()),
    )
    if not math.isfinite(found.squares):
        raise _damaged(tensor, "A weight is not a finite number")
    return found, raw.nbytes


def _damaged(tensor: Listed, why: str) -> BadModelFile:
    return BadModelFile(
        f"Tensor {tensor.name!r} is damaged.",
        f"{why} ({tensor.path}).",
        "Fetch the file again, or ask whoever made it.",
    )
