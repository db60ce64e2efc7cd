"""What quantizing a tensor would cost the model, from a sample of its rows.

To second order the divergence of the predictions is half the sum, over all places, of the
square of (gradient of what goes out) . (error of the weights) . (what comes in), where the
gradient is that of -log p of labels drawn from the model itself (the Fisher information).
Errors of different rows are taken as independent, so a few rows tell about all. What comes in
and the gradient are taken place by place: they are far from independent.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snugly.model.ggml_types import TENSOR_TYPES
from snugly.quantize.kernels import MATRIX_TYPES, dequantize_rows, quantize_rows

Floats = NDArray[np.float32]
# Rows that are tried of each tensor: the estimate of a sum over a model's 200 tensors is then
# good to about 1% where rows differ by half of their mean. Long rows take long and have many
# weights to average over: there are as many as have 32,768 weights, but half of them at least.
ROWS = 32
_WEIGHTS = 1 << 15
PLACES = 512  # of the text that rows are tried on

_BLOCKS = {name: block for name, block, _ in TENSOR_TYPES.values()}
# Types that are worth trying, by size. Legacy types too: weights that were once quantized lie on
# the grid of their type, and lose nothing in it.
USUAL = (
    "Q2_K", "IQ3_XXS", "Q3_K", "IQ3_S", "MXFP4", "IQ4_XS", "Q4_K", "IQ4_NL", "Q4_0", "Q4_1",
    "Q5_K", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "F16",
)  # fmt: skip
# The smallest; making their tables takes seconds, and nobody wants them at usual sizes.
TINY = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S")


def candidates(length: int, tiny: bool) -> tuple[str, ...]:
    """Types that a tensor with rows of `length` can have."""
    types = (*TINY, *USUAL) if tiny else USUAL
    fitting = [name for name in types if length % _BLOCKS[name] == 0]
    if length % 256 == 0:  # of the types of 4 bits only the two that are better at their size
        fitting = [name for name in fitting if name not in ("MXFP4", "IQ4_NL")]
    return tuple(fitting)


@dataclass(frozen=True, slots=True)
class Cost:
    """What is known of one tensor after the pass back."""

    inputs: Floats  # mean square of what comes in, per column
    errors: dict[str, float]  # type -> expected KLD per token, nats


class Errors:
    """Tries types on rows of tensors, several at once."""

    def __init__(self, threads: int, tiny: bool) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._tiny = tiny
        self._draw = np.random.default_rng(0)  # the same model gives the same file

    def of_matrix(
        self, rows: Callable[[int], Floats], inputs: Floats, x: Floats, given: Floats
    ) -> Cost:
        """A matrix: `rows(i)` is its row i; `x` [places, in], `given` [places, out].

        `inputs` are the mean squares of what comes in, which may be of more text than `x`.
        """
        n_rows = given.shape[1]
        weight = np.einsum("to,to->o", given, given).astype(np.float64)
        count = min(max(_WEIGHTS // x.shape[1], ROWS // 2), ROWS, n_rows)
        picked = self._pick(weight, count)
        places = np.linspace(0, len(x) - 1, min(PLACES, len(x))).round().astype(int)
        seen, squares = x[places], given[np.ix_(places, picked)] ** 2  # [places, rows]
        share = squares.sum(axis=0, dtype=np.float64)
        scale = weight.sum() / len(x)
        sample = np.concatenate([rows(int(row)) for row in picked])

        def error(wrong: Floats) -> float:
            moved = (wrong @ seen.T) ** 2  # [rows, places]
            each = np.einsum("rt,tr->r", moved, squares, dtype=np.float64)
            good = share > 0
            return float(0.5 * scale * np.mean(each[good] / share[good])) if good.any() else 0.0

        return Cost(inputs, self._tried(sample, inputs, error))

    def of_embedding(self, sample: Floats, given: Floats, scale: float, total: float) -> Cost:
        """A table: `sample` [places, width] are the rows of some places.

        They were picked by the size of their gradients `given`; `total` is the mean over all
        places of a gradient's square, `scale` what the model multiplies a row by.
        """
        size = np.einsum("tj,tj->t", given, given, dtype=np.float64)
        columns = np.mean(given**2, axis=0)

        def error(wrong: Floats) -> float:
            each = np.einsum("tj,tj->t", (wrong * np.float32(scale)) ** 2, given**2,
                             dtype=np.float64)  # fmt: skip
            good = size > 0
            return float(0.5 * total * np.mean(each[good] / size[good])) if good.any() else 0.0

        return Cost(columns, self._tried(sample, columns, error))

    def pick(self, weight: NDArray[np.float64], count: int) -> NDArray[np.intp]:
        """Indices drawn in proportion to their weight, evenly (systematic sampling)."""
        return self._pick(weight, count)

    def _pick(self, weight: NDArray[np.float64], count: int) -> NDArray[np.intp]:
        total = weight.sum()
        if not total > 0:
            return np.linspace(0, len(weight) - 1, count).round().astype(np.intp)
        marks = (np.arange(count) + self._draw.random()) * (total / count)
        found = np.searchsorted(np.cumsum(weight), marks)
        return np.asarray(np.minimum(found, len(weight) - 1), dtype=np.intp)

    def _tried(
        self, sample: Floats, inputs: Floats, error: Callable[[Floats], float]
    ) -> dict[str, float]:
        # A column that nothing came in at still has to be written.
        matrix = np.maximum(inputs, inputs.max() * np.float32(1e-9)).astype(np.float32)
        known = bool(inputs.max() > 0)

        def one(kind: str) -> tuple[str, float]:
            if not known and kind in MATRIX_TYPES:
                return kind, float("nan")
            raw = quantize_rows(sample, kind, matrix if known else None)
            return kind, error(dequantize_rows(raw, kind, sample.shape[1]) - sample)

        types = candidates(sample.shape[1], self._tiny)
        return {kind: cost for kind, cost in self._pool.map(one, types) if cost == cost}
