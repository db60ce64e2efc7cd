"""Large products of matrices, shared among threads of our own.

BLAS's own threads wait for each other by spinning: on cores that others use too, learning from
SmolLM2 took five times its processor time. The library is told to use one (`measure_process`).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_FEW = 32  # rows, below which a thread is not worth its waking

_pools: dict[int, ThreadPoolExecutor] = {}


def shared(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call `work(start, end)` for a share of `count` in each thread."""
    pool = _pools.setdefault(threads, ThreadPoolExecutor(threads))
    edges = np.linspace(0, count, threads + 1).round().astype(int)
    list(pool.map(work, edges[:-1], edges[1:]))


def product(left: Floats, right: Floats, threads: int) -> Floats:
    """`left @ right` [rows, in] @ [in, out], by shares of the rows."""
    count = min(threads, len(left) // _FEW)
    if count < 2:
        return np.asarray(left @ right, dtype=np.float32)
    result = np.empty((len(left), right.shape[1]), dtype=np.float32)

    def share(start: int, end: int) -> None:
        np.matmul(left[start:end], right, out=result[start:end])

    shared(share, len(left), count)
    return result
