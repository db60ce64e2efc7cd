"""How fast the engine's own kernels are here: ggml's matrix product for each tensor type.

Run as `python -m snugly.machine.kernels L3_BYTES SECONDS THREADS...` in a process of its own:
the wheel's code is built for AVX2 and ends a process on a processor without it. Prints JSON:
`kernels`, each as the fields of `Kernel`, and `layers`, pairs of threads and seconds.

For each type a matrix that does not fit into the cache is multiplied by one vector, as in
decoding, and a small one by many vectors, as for a prompt. A chain of layers with hardly any
weights tells what a layer costs beside them: its many small operations, and the threads that
wait for each other after each. Weights are zeros: any others take the same time.
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
LAYERS, LAYER, THIN = 16, 1024, 64  # layers in a chain, their width, rows of their matrices
# Attention is timed for two widths of a head: its cost has a part per position and one per width.
WIDTHS = (64, 128)
HEADS, SHARING, POSITIONS = 8, 2, 512
ATTENTION = "ATTENTION"  # with the width behind it, in place of a tensor type
CACHE = "CACHE"  # the same, of reading a cache that lies in memory; both rates are its bytes
# What a row costs beside its bytes, both rates in rows per second: where threads take rows in
# turn, 64 at a time, none of them reads on in one line. Told apart by rows of two lengths.
ROWS, SHORT = "ROWS", 512
REPEATS = 5
REPACK = "_Z35ggml_backend_cpu_repack_buffer_typev"  # C++: not in ggml's C interface
SPIN_ROUNDS = "1000"  # as the engine's process has it (engine.process)


# (threads, type, repacked, bytes and operations per second): the fields of `Kernel`.
Rate = tuple[int, str, bool, float, float]


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

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
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
        self.new3 = self._function(
            "ggml_new_tensor_3d", pointer, pointer, ctypes.c_int, *[ctypes.c_int64] * 3
        )
        self.view3 = self._function(
            "ggml_view_3d", pointer, pointer, pointer, *[ctypes.c_int64] * 3, *[size] * 3
        )
        self.attention = self._function(
            "ggml_flash_attn_ext", pointer, *[pointer] * 5, *[ctypes.c_float] * 3
        )
        self.norm = self._function("ggml_rms_norm", pointer, pointer, pointer, ctypes.c_float)
        self.silu = self._function("ggml_silu", pointer, pointer, pointer)
        self.multiply = self._function("ggml_mul", pointer, *[pointer] * 3)
        self.add = self._function("ggml_add", pointer, *[pointer] * 3)
        self.graph = self._function("ggml_new_graph", pointer, pointer)
        self.expand = self._function("ggml_build_forward_expand", None, pointer, pointer)
        self.allocate = self._function(
            "ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer
        )
        self.free_buffer = self._function("ggml_backend_buffer_free", None, pointer)
        self.clear = self._function("ggml_backend_buffer_clear", None, pointer, ctypes.c_uint8)
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
    def placed(self, context: Any, kind: Any) -> Iterator[None]:
        """Memory for all tensors of a context, and zeros in them."""
        buffer = self.allocate(context, kind)
        if not buffer:
            raise MemoryError
        try:
            self.clear(buffer, 0)
            yield
        finally:
            self.free_buffer(buffer)

    @contextmanager
    def multiplication(
        self, number: int, repack: bool, rows: int, vectors: int, width: int = ROW
    ) -> Iterator[tuple[Any, int]]:
        """A graph that multiplies, ready to run, and the bytes of the matrix."""
        with self.context() as kept, self.context() as passing:
            matrix = self.new(kept, number, width, rows)
            with self.placed(kept, self.repacked if repack else self.plain):
                given = self.new(passing, 0, width, vectors)
                graph = self.graph(passing)
                self.expand(graph, self.product(passing, matrix, given))
                with self.placed(passing, self.plain):
                    yield graph, self.n_bytes(matrix)

    @contextmanager
    def looking_back(self, width: int, tokens: int) -> Iterator[Any]:
        """A graph of attention: `tokens` queries of HEADS heads over POSITIONS positions.

        The cache lies as the engine has it: per position the rows of all its heads.
        """
        sharing = HEADS // SHARING
        row = 2 * width * sharing  # bytes of f16
        with self.context() as context:
            query = self.new3(context, 0, width, tokens, HEADS)
            whole = [self.new(context, 1, width * sharing, POSITIONS) for _ in range(2)]
            key, value = (
                self.view3(context, it, width, POSITIONS, sharing, row, 2 * width, 0)
                for it in whole
            )
            graph = self.graph(context)
            made = self.attention(context, query, key, value, None, width**-0.5, 0.0, 0.0)
            self.expand(graph, made)
            with self.placed(context, self.plain):
                yield graph

    def timed(self, graph: Any, seconds: float, flush: Any = None) -> float:
        """Median time of the graph: REPEATS runs at the least, after one to warm up.

        Each after the graph `flush`, which is not timed and drives all else out of the caches.
        """
        self.run(self.cpu, graph)
        times: list[float] = []
        ended = time.perf_counter() + seconds
        while len(times) < REPEATS or (time.perf_counter() < ended and len(times) < 100):
            if flush is not None:
                self.run(self.cpu, flush)
            at = self.clock()
            self.run(self.cpu, graph)
            times.append(self.clock() - at)
        return statistics.median(times)

    def layer(self, seconds: float) -> float:
        """Seconds of a layer whose matrices are nearly nothing: all that is not their bytes."""
        with self.context() as kept, self.context() as passing:
            narrow = [self.new(kept, 8, LAYER, THIN) for _ in range(6)]  # Q8_0
            wide = self.new(kept, 8, THIN, LAYER)
            given = made = self.new(passing, 0, LAYER, 1)
            graph = self.graph(passing)
            for _ in range(LAYERS):
                normal = self.multiply(passing, self.norm(passing, made, 1e-5), given)
                parts = [self.product(passing, matrix, normal) for matrix in narrow]
                for part in parts[1:]:
                    self.expand(graph, self.silu(passing, part))
                back = self.product(passing, wide, parts[0])
                gated = self.multiply(passing, self.silu(passing, back), normal)
                made = self.add(passing, self.norm(passing, gated, 1e-5), made)
                self.expand(graph, made)
            with self.placed(kept, self.plain), self.placed(passing, self.plain):
                return self.timed(graph, seconds) / LAYERS


def measured(
    l3_bytes: int,
    seconds: float,
    counts: list[int],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Rates of all types that there is time for, the commonest first."""
    ggml = Ggml(clock)
    ended = time.perf_counter() + seconds
    each = seconds / len(TYPES) / len(counts) / 6
    large = min(max(2 * l3_bytes, 48 * MiB), 128 * MiB)
    layers = []
    for count in counts:
        ggml.threads(ggml.cpu, count)
        layers.append((count, ggml.layer(each)))
    with ggml.multiplication(1, False, large // ROW // 2 // 64 * 64, 1) as (flush, _):
        kernels = [*_attention(ggml, flush, each, counts), *_rows(ggml, flush, each, counts)]
        for kind in TYPES:
            if time.perf_counter() > ended:
                break
            kernels += _matrix(ggml, kind, large, flush, each, counts)
    return {"kernels": kernels, "layers": layers}


def _matrix(
    ggml: Ggml, kind: tuple[str, int, bool], large: int, flush: Any, each: float, counts: list[int]
) -> Iterator[Rate]:
    """One tensor type: a matrix that comes out of memory, and one that is near.

    Read again and again, a matrix of twice the L3 was in part still there: Q8_0 40 GB/s on two
    threads of a Zen 5, of four times the L3 34. So another is read in between.
    """
    name, number, repack = kind
    with ggml.multiplication(number, repack, SMALL_ROWS, VECTORS) as (many, size):
        rows = large * SMALL_ROWS // size // 64 * 64
        with ggml.multiplication(number, repack, rows, 1) as (one, n_bytes):
            for count in counts:
                ggml.threads(ggml.cpu, count)
                read = n_bytes / ggml.timed(one, each, flush)
                ops = 2 * ROW * SMALL_ROWS * VECTORS / ggml.timed(many, each)
                yield count, name, repack, read, ops


def _rows(ggml: Ggml, flush: Any, each: float, counts: list[int]) -> Iterator[Rate]:
    """What a row costs, of the type whose weights cost least."""
    count = 16 * SMALL_ROWS
    with (
        ggml.multiplication(8, False, 4 * count, 1, SHORT) as (short, _),
        ggml.multiplication(8, False, count, 1) as (long, _),
    ):
        for threads in counts:
            ggml.threads(ggml.cpu, threads)
            one, other = ggml.timed(short, each, flush), ggml.timed(long, each, flush)
            # As many bytes: what it takes longer is the cost of the rows that it has more.
            row = max(one - other, one / 100) / (3 * count)
            yield threads, ROWS, False, 1 / row, 1 / row


def _attention(ggml: Ggml, flush: Any, each: float, counts: list[int]) -> list[Rate]:
    """Attention over a cache that is near, and how fast one is read that lies in memory."""
    found: list[Rate] = []
    for width in WIDTHS:
        work = 4 * HEADS * POSITIONS * width
        n_bytes = 4 * width * POSITIONS * HEADS // SHARING
        with ggml.looking_back(width, 1) as one, ggml.looking_back(width, VECTORS) as many:
            for count in counts:
                ggml.threads(ggml.cpu, count)
                near = ggml.timed(one, each)
                more = max(ggml.timed(one, each, flush) - near, near / 100)
                together = work * VECTORS / ggml.timed(many, each)
                found.append((count, f"{ATTENTION}{width}", False, work / near, together))
                found.append((count, f"{CACHE}{width}", False, n_bytes / more, n_bytes / more))
    return found


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
