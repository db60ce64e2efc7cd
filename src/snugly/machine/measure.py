"""`--measure`: memory bandwidth, arithmetic and disk rate, timed here in at most 10 s."""

import contextlib
import datetime
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from snugly.machine import kernels
from snugly.machine.types import Fact, Kernel, Machine, Rates, assumed, measured, unknown
from snugly.units import MiB

BUDGET_SECONDS = 10.0
DISK_BYTES = 256 * MiB
_PIECE = 4 * MiB
_SIDE = 1024  # of the square matrices, 4 MiB each; a quarter of it on slow machines
Progress = Callable[[str, float], None]  # what is being measured, and the share done


def measure(machine: Machine, folder: Path, progress: Progress = lambda what, done: None) -> Rates:
    """Rates of this machine. `folder` is on the disk of the models; a file is made in it.

    Takes BUDGET_SECONDS at the most: each part has a share of them and stops there.
    """
    begun = time.perf_counter()
    usable = max(int(machine.cpu.usable_cores.or_else(1.0)), 1)
    threads = thread_counts(usable)
    bandwidth = []
    for place, count in enumerate(threads):
        progress(f"memory bandwidth, {count} threads", 0.35 * place / len(threads))
        bandwidth.append((count, _bandwidth(machine, count, 2.0 / len(threads))))
    progress("f32 matrix product", 0.35)
    f32 = _f32(0.8)
    progress("8-bit product", 0.45)
    int8 = _int8(machine, usable, 0.6)
    progress("the engine's kernels", 0.55)
    timed, layers = _kernels(machine, usable, 3.0)
    progress("disk", 0.85)
    disk = _disk(folder, machine, min(2.0, BUDGET_SECONDS - (time.perf_counter() - begun) - 0.5))
    progress("done", 1.0)
    return Rates(
        bandwidth_bytes_per_s=tuple(bandwidth),
        f32_flops=f32,
        int8_ops=int8,
        disk_read_bytes_per_s=disk,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        load_then=machine.cpu.load.or_else(0.0),
        seconds=round(time.perf_counter() - begun, 2),
        kernels=timed,
        layer_seconds=layers,
    )


def thread_counts(usable: int) -> list[int]:
    """1, 2, 4, ... and all of `usable`: at most eight points up to 64 cores."""
    counts = [1 << n for n in range(usable.bit_length()) if 1 << n < usable]
    return [*counts[:7], usable]


def copied_bytes(l3_bytes: int, available_bytes: int) -> int:
    """How much a copy moves out of memory: far more than L3, and little of what is free.

    Eight times L3 where it fits, 64 MiB at the least and 512 MiB at the most; source and
    target together never take more than half of the free memory.
    """
    wanted = min(max(8 * l3_bytes, 64 * MiB), 512 * MiB)
    return max(min(wanted, available_bytes // 4), 8 * MiB)


def _bandwidth(machine: Machine, threads: int, seconds: float) -> Fact[float]:
    """Bytes per second that `threads` copies move together, read and written bytes counted."""
    import numpy as np

    l3 = machine.cpu.l3_bytes.or_else(32 * MiB)
    total = copied_bytes(l3, machine.memory.available_bytes.or_else(512 * MiB))
    each = total // threads // 8
    repeats: list[float] = []
    gate = threading.Barrier(threads + 1)
    ended = time.perf_counter() + seconds
    going = True

    def work() -> None:
        # Made and first touched by the thread that uses it, so that it is in near memory.
        source, target = np.ones(each), np.zeros(each)
        while True:
            gate.wait()
            if not going:
                return
            np.copyto(target, source)
            gate.wait()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    while len(repeats) < 3 or (time.perf_counter() < ended and len(repeats) < 25):
        gate.wait()
        at = time.perf_counter()
        gate.wait()
        repeats.append(time.perf_counter() - at)
    going = False
    gate.wait()
    for worker in workers:
        worker.join()
    how = (
        f"numpy copy of {each * threads * 8 // MiB} MiB by {threads} threads, read and written "
        f"bytes counted, median of {len(repeats)}"
    )
    return measured(2 * each * threads * 8 / statistics.median(repeats), how)


def _f32(seconds: float) -> Fact[float]:
    """Floating-point operations per second of numpy's BLAS, on as many threads as it likes."""
    import numpy as np

    side = _SIDE // 4
    small = np.full((side, side), 1.5, dtype=np.float32)
    # A product of four times the side takes 64 times as long, and it is done four times.
    if min(_timed(lambda: small @ small, 0.0)) * 64 * 4 < seconds:
        side = _SIDE
    left = np.full((side, side), 1.5, dtype=np.float32)
    repeats = _timed(lambda: left @ left, seconds)
    how = f"numpy (BLAS) product of {side}x{side} f32 matrices, median of {len(repeats)}"
    return measured(2 * side**3 / statistics.median(repeats), how)


def _timed(action: Callable[[], object], seconds: float) -> list[float]:
    """Times of single runs for `seconds`, three at the least, after one to warm up."""
    action()
    repeats: list[float] = []
    ended = time.perf_counter() + seconds
    while len(repeats) < 3 or (time.perf_counter() < ended and len(repeats) < 200):
        at = time.perf_counter()
        action()
        repeats.append(time.perf_counter() - at)
    return repeats


def _kernels(
    machine: Machine, usable: int, seconds: float
) -> tuple[tuple[Kernel, ...], tuple[tuple[int, float], ...]]:
    """The engine's matrix products and the cost of a layer; nothing where it has none here."""
    if not _has_kernels(machine):
        return (), ()
    counts = sorted({1, max(1, usable // 2), usable})
    l3 = machine.cpu.l3_bytes.or_else(32 * MiB)
    words = [sys.executable, "-m", "snugly.machine.kernels", str(l3), str(seconds)]
    environment = {"GOMP_SPINCOUNT": kernels.SPIN_ROUNDS, **os.environ}
    try:
        told = subprocess.run(
            [*words, *map(str, counts)],
            capture_output=True, text=True, timeout=seconds + 2, env=environment,
        )  # fmt: skip
        data = json.loads(told.stdout) if told.returncode == 0 else {"kernels": [], "layers": []}
        return (
            tuple(Kernel(*fields) for fields in data["kernels"]),
            tuple((int(count), float(cost)) for count, cost in data["layers"]),
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return (), ()


def _has_kernels(machine: Machine) -> bool:
    """Whether the wheel's code runs on this processor."""
    x86 = machine.cpu.architecture.value == "x86_64"
    return not x86 or "avx2" in machine.cpu.instructions.or_else(())


def _int8(machine: Machine, threads: int, seconds: float) -> Fact[float]:
    """Operations per second of 8-bit products: ggml's kernel, else numpy's plain loop."""
    if _has_kernels(machine):
        command = [sys.executable, "-m", "snugly.machine.int8", str(threads), str(seconds)]
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
            told = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2)
            if told.returncode == 0 and (rate := float(told.stdout)) > 0:
                how = f"ggml's Q8_0 dot product in cache, {threads} threads, median of 5"
                return measured(rate, how)
    import numpy as np

    left = np.ones((128, 128), dtype=np.int8)
    repeats = _timed(lambda: np.matmul(left, left, dtype=np.int32), min(seconds, 0.5))
    rate = 2 * 128**3 / statistics.median(repeats)
    why = "numpy's plain loop on one thread, far below what an engine reaches: a lower bound"
    return assumed(rate, why)


def _disk(folder: Path, machine: Machine, seconds: float) -> Fact[float]:
    """Bytes per second read from a file in `folder`, past the page cache."""
    free = machine.disk.free_bytes.or_else(0)
    if free < 4 * DISK_BYTES:
        return unknown(f"less than {4 * DISK_BYTES // MiB} MiB is free on the disk")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".snugly-rate-")
        try:
            # Closed before it is read: Windows opens no file twice here.
            with open(descriptor, "wb", buffering=0) as file:
                written = _write(file.fileno(), seconds / 2)
            return _read(name, written, seconds / 2)
        finally:
            os.unlink(name)
    except OSError as error:
        return unknown(f"{folder} cannot be measured: {error.strerror}")


def _write(descriptor: int, seconds: float) -> int:
    """Write and sync noise (some disks squeeze zeros) for a while; the bytes written."""
    noise = os.urandom(_PIECE)
    ended = time.perf_counter() + seconds
    written = 0
    while written < DISK_BYTES and (written < 2 * _PIECE or time.perf_counter() < ended):
        written += os.write(descriptor, noise)
        # A slow disk must show here, not in one long fsync at the end.
        os.fsync(descriptor)
    return written


def _read(name: str, size: int, seconds: float) -> Fact[float]:
    """Read the file piece by piece past the cache; the median rate of the pieces."""
    direct = getattr(os, "O_DIRECT", 0)
    try:
        descriptor = os.open(name, os.O_RDONLY | direct | getattr(os, "O_BINARY", 0))
        way = "O_DIRECT" if direct else "reading"
    except OSError:  # some file systems have no direct reading
        descriptor, direct = os.open(name, os.O_RDONLY | getattr(os, "O_BINARY", 0)), 0
        way = "reading"
    rates: list[float] = []
    ended = time.perf_counter() + seconds
    try:
        if not direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            way = "posix_fadvise DONTNEED"
        with (
            open(descriptor, "rb", buffering=0, closefd=False) as file,
            mmap.mmap(-1, _PIECE) as buffer,  # aligned to a page, as O_DIRECT demands
        ):
            while (len(rates) + 1) * _PIECE <= size and (
                len(rates) < 2 or time.perf_counter() < ended
            ):
                at = time.perf_counter()
                got = file.readinto(buffer) or 0
                rates.append(got / (time.perf_counter() - at))
    finally:
        os.close(descriptor)
    how = f"{way} of a new file, {len(rates)} pieces of {_PIECE // MiB} MiB, median"
    if way == "reading":
        return assumed(statistics.median(rates), f"{how}; the page cache may have helped")
    return measured(statistics.median(rates), how)
