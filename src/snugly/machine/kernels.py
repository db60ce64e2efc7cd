"""How fast the engine's own kernels are here: ggml's matrix product for each tensor type.

Run as `python -m snugly.machine.kernels L3_BYTES SECONDS THREADS...` in a process of its own:
the wheel's code is built for AVX2 and ends a process on a processor without it. Prints JSON:
`kernels`, each as the fields of `Kernel`, and `steps`, pairs of threads and seconds.

For each type a matrix that does not fit into the cache is multiplied by one vector, as in
decoding, and a small one by many vectors, as for a prompt. A chain of tiny operations tells
what one costs beside its work. Weights are zeros: any others take the same time.
"""

import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from snugly.machine.int8 import library

MiB = 1 << 20
# Name, number in ggml.h, whether the engine lays it out anew on AVX2. The types that files are
# made of; the others behave like one of them.
TYPES = (
    ("F16", 1, False), ("Q8_0", 8, False), ("Q4_K", 12, True), ("Q6_K", 14, False),
    ("Q4_0", 2, True), ("Q4_K", 12, False), ("Q5_0", 6, False), ("Q5_K", 13, False),
    ("Q4_1", 3, False), ("Q4_0", 2, False), ("Q3_K", 11, False), ("Q2_K", 10, False),
    ("IQ4_XS", 23, False), ("IQ3_S", 21, False), ("IQ2_XXS", 16, False),
)  # fmt: skip
ROW = 2048  # weights of a row; many models have rows about as long
VECTORS = 256  # of a prompt; more are faster by 1 to 3%
SMALL_ROWS = 1024  # of the matrix that stays in cache: 1.2 MiB in Q4_K
CHAIN = 200
REPEATS = 5
REPACK = "_Z35ggml_backend_cpu_repack_buffer_typev"  # C++: not in ggml's C interface
SPIN_ROUNDS = "1000"  # as the engine's process has it (engine.process)


class _Parameters(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class Ggml:
    """The few functions of ggml that are needed, out of the engine's library.

    Raises: OSError, AttributeError when the library or a function is not there.
    """

    def __init__(self) -> None:
        """Open the library."""
        path = library()
        if path is None:
            raise OSError("the xllamacpp wheel is not installed")
        self._library = ctypes.CDLL(str(path))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.init = self._function("ggml_init", pointer, _Parameters)
        self.free = self._function("ggml_free", None, pointer)
        self.new = self._function(
            "ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
        )
        self.n_bytes = self._function("ggml_nbytes", size, pointer)
        self.product = self._function("ggml_mul_mat", pointer, pointer, pointer, pointer)
        self.norm = self._function("ggml_rms_norm", pointer, pointer, pointer, ctypes.c_float)
        self.graph = self._function("ggml_new_graph", pointer, pointer)
        self.expand = self._function("ggml_build_forward_expand", None, pointer, pointer)
        self.allocate = self._function(
            "ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer
        )
        self.free_buffer = self._function("ggml_backend_buffer_free", None, pointer)
        self.set = self._function(
            "ggml_backend_tensor_set", None, pointer, ctypes.c_char_p, size, size
        )
        self.run = self._function("ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)
        self.threads = self._function("ggml_backend_cpu_set_n_threads", None, pointer, ctypes.c_int)
        self.plain = self._function("ggml_backend_cpu_buffer_type", pointer)()
        self.repacked = self._function(REPACK, pointer)()
        self.cpu = self._function("ggml_backend_cpu_init", pointer)()

    def _function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        found = getattr(self._library, name)
        found.restype, found.argtypes = result, list(arguments)
        return found  # type: ignore[no-any-return]

    @contextmanager
    def context(self) -> Iterator[Any]:
        """A context for tensors and graphs, without their data."""
        made = self.init(_Parameters(4 * MiB, None, True))
        try:
            yield made
        finally:
            self.free(made)

    @contextmanager
    def placed(self, context: Any, kind: Any, tensor: Any) -> Iterator[None]:
        """Memory for all tensors of a context, and zeros in one of them."""
        buffer = self.allocate(context, kind)
        if not buffer:
            raise MemoryError
        try:
            size = self.n_bytes(tensor)
            self.set(tensor, b"\0" * size, 0, size)
            yield
        finally:
            self.free_buffer(buffer)

    @contextmanager
    def multiplication(
        self, number: int, repack: bool, rows: int, vectors: int
    ) -> Iterator[tuple[Any, int]]:
        """A graph that multiplies, ready to run, and the bytes of the matrix."""
        with self.context() as kept, self.context() as passing:
            matrix = self.new(kept, number, ROW, rows)
            with self.placed(kept, self.repacked if repack else self.plain, matrix):
                given = self.new(passing, 0, ROW, vectors)
                graph = self.graph(passing)
                self.expand(graph, self.product(passing, matrix, given))
                with self.placed(passing, self.plain, given):
                    yield graph, self.n_bytes(matrix)

    def timed(self, graph: Any, seconds: float) -> float:
        """Median time of the graph: REPEATS runs at the least, after one to warm up."""
        self.run(self.cpu, graph)
        times: list[float] = []
        ended = time.perf_counter() + seconds
        while len(times) < REPEATS or (time.perf_counter() < ended and len(times) < 100):
            at = time.perf_counter()
            self.run(self.cpu, graph)
            times.append(time.perf_counter() - at)
        return statistics.median(times)

    def step(self, seconds: float) -> float:
        """Seconds of one operation that has nothing to do."""
        with self.context() as context:
            given = self.new(context, 0, 64, 1)
            made = given
            for _ in range(CHAIN):
                made = self.norm(context, made, 1e-5)
            graph = self.graph(context)
            self.expand(graph, made)
            with self.placed(context, self.plain, given):
                return self.timed(graph, seconds) / CHAIN


def measured(l3_bytes: int, seconds: float, counts: list[int]) -> dict[str, Any]:
    """Rates of all types that there is time for, the commonest first."""
    ggml = Ggml()
    ended = time.perf_counter() + seconds
    each = seconds / len(TYPES) / len(counts) / 6
    large = min(max(2 * l3_bytes, 48 * MiB), 128 * MiB)
    kernels, steps = [], []
    for count in counts:
        ggml.threads(ggml.cpu, count)
        steps.append((count, ggml.step(each)))
    for name, number, repack in TYPES:
        if time.perf_counter() > ended:
            break
        with ggml.multiplication(number, repack, SMALL_ROWS, VECTORS) as (many, size):
            rows = large * SMALL_ROWS // size // 64 * 64
            with ggml.multiplication(number, repack, rows, 1) as (one, n_bytes):
                for count in counts:
                    ggml.threads(ggml.cpu, count)
                    read = n_bytes / ggml.timed(one, each)
                    ops = 2 * ROW * SMALL_ROWS * VECTORS / ggml.timed(many, each)
                    kernels.append((count, name, repack, read, ops))
    return {"kernels": kernels, "steps": steps}


def main() -> int:
    """Print the rates; exit code 1 with a line on stderr when there is nothing to time."""
    l3_bytes, seconds = int(sys.argv[1]), float(sys.argv[2])
    try:
        found = measured(l3_bytes, seconds, [int(word) for word in sys.argv[3:]])
    except (OSError, AttributeError, MemoryError) as error:
        print(error or "not enough memory", file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
