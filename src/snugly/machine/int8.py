"""The rate of 8-bit products, by the kernel that runs the models: ggml's Q8_0 dot product.

Run as `python -m snugly.machine.int8 THREADS SECONDS` in a process of its own, because the
wheel's code is built for AVX2 and ends a process on a processor without it. Prints
operations per second (a multiplication and an addition are two).
"""

import ctypes
import importlib.util
import statistics
import sys
import threading
import time
from pathlib import Path

BLOCK = 32  # weights of a Q8_0 block: a 2-byte scale and 32 signed bytes (ggml-common.h)
BLOCK_BYTES = 34
VALUES = 1 << 18  # two vectors of 278 kB; with fewer, the call itself takes a third of the time
SLICES = 5  # of the time; the median of their rates counts
CALLS = 50  # products between two looks at the clock


def library() -> Path | None:
    """The extension module of the xllamacpp wheel, found without importing it."""
    try:
        found = importlib.util.find_spec("xllamacpp")
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None:
        return None
    names = ("xllamacpp*.so", "xllamacpp*.pyd", "xllamacpp*.dylib")
    folder = Path(found.origin).parent
    return next((path for name in names for path in sorted(folder.glob(name))), None)


def rate(path: Path, threads: int, seconds: float) -> float:
    """Operations per second of `threads` threads: the median of slices of the time.

    Raises: OSError, AttributeError when the library has no such kernel.
    """
    ggml = ctypes.CDLL(str(path))
    ggml.ggml_cpu_init()  # fills the table of half-precision numbers that scales are read by
    kernel = ggml.ggml_vec_dot_q8_0_q8_0
    size, vector = ctypes.c_size_t, ctypes.c_void_p
    kernel.argtypes = [ctypes.c_int, vector, size, vector, size, vector, size, ctypes.c_int]
    kernel.restype = None
    counts = [0] * threads
    stop = threading.Event()

    def work(number: int) -> None:
        # Scale 1.0 in half precision (0x3C00), weights 1: any other values cost the same.
        data = (b"\x00\x3c" + b"\x01" * BLOCK) * (VALUES // BLOCK)
        left, right = ctypes.create_string_buffer(data), ctypes.create_string_buffer(data)
        result = ctypes.c_float()
        while not stop.is_set():
            for _ in range(CALLS):
                kernel(VALUES, ctypes.byref(result), 0, left, 0, right, 0, 1)
            counts[number] += CALLS
        if result.value != VALUES:
            counts[number] = 0  # a kernel that computes wrongly has no rate

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    rates = []
    before, at = sum(counts), time.perf_counter()
    for _ in range(SLICES):
        time.sleep(seconds / SLICES)
        now, then = sum(counts), time.perf_counter()
        rates.append((now - before) * VALUES * 2 / (then - at))
        before, at = now, then
    stop.set()
    for worker in workers:
        worker.join()
    return statistics.median(rates) if all(counts) else 0.0


def main() -> int:
    """Print the rate; exit code 1 with a line on stderr when there is no kernel to time."""
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    path = library()
    try:
        if path is None:
            raise OSError("the xllamacpp wheel is not installed")
        print(rate(path, threads, seconds))
    except (OSError, AttributeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
