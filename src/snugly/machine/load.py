"""How many cores are busy right now, with our own work taken off."""

import os
import re
import time
from dataclasses import dataclass

from snugly.machine.host import Host
from snugly.machine.types import Fact, measured, unknown

LOAD_SECONDS = 0.1  # ten ticks of the kernel's clock per core


@dataclass(frozen=True, slots=True)
class Clock:
    """Work done up to one moment, in seconds: by all cores (None: not told) and by us."""

    at: float
    busy: float | None
    ours: float

    @classmethod
    def read(cls, host: Host) -> "Clock":
        """The clock now. A command reads it as its first act, to wait less at the end."""
        times = os.times()
        ours = times.user + times.system + times.children_user + times.children_system
        return cls(time.monotonic(), _busy_seconds(host), ours)


def _busy_seconds(host: Host) -> float | None:
    if host.system == "linux":
        return read_busy(host.read("/proc/stat") or "")
    import psutil

    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def read_busy(stat: str) -> float | None:
    """Seconds that all cores together have worked since the start, out of /proc/stat.

    Idle and waiting for a disk are not work; guests are in user time already. The kernel
    counts in hundredths (USER_HZ is 100 on every architecture Snugly runs on).
    """
    match = re.search(r"^cpu +((?:\d{1,20} *){4,10})", stat, re.MULTILINE)
    if match is None:
        return None
    numbers = [int(word) for word in match[1].split()]
    user, nice, system, _idle, *rest = numbers
    return (user + nice + system + sum(rest[1:4])) / 100


def busy_cores(host: Host, begun: Clock) -> Fact[float]:
    """Busy cores between `begun` and now, waiting until that is LOAD_SECONDS at the least."""
    how = "/proc/stat" if host.system == "linux" else "psutil"
    if begun.busy is None:
        return unknown(f"{how} does not tell")
    time.sleep(max(begun.at + LOAD_SECONDS - time.monotonic(), 0))
    now = Clock.read(host)
    span = now.at - begun.at
    work = (now.busy or begun.busy) - begun.busy - (now.ours - begun.ours)
    return measured(round(max(work / span, 0.0), 2), f"{how} over {span:.2f} s, without Snugly")
