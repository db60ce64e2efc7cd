"""The C library's memory allocator, told to give back what a server no longer uses."""

import contextlib
import ctypes
import sys

# malloc.h of glibc, and the sizes it begins with itself (mallopt(3)).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BYTES = 128 * 1024


def give_back() -> None:
    """Have pieces of 128 KiB and more go back to the system as soon as they are free.

    glibc raises that bound by itself to the largest piece that was ever freed. From then on
    such pieces come from a heap of their thread's own, and each keeps up to twice as much free:
    what reads a model's header or checks a saved state left 3.2 MB in each of six threads
    (docs/journal.md). To name a bound ends that. Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # musl has no `mallopt`
        mallopt = ctypes.CDLL(None).mallopt
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(option, _BYTES)
