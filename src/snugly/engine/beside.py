"""How much other programs worked while an engine did: what its speed is worth as a lesson."""

import os
from pathlib import Path

from snugly.machine.host import Host
from snugly.machine.load import Clock

_PROC = Path("/proc")


class Beside:
    """Begun when an engine starts to answer; `others_cores` tells what went on meanwhile."""

    def __init__(self, pid: int) -> None:
        """`pid` is the engine's process."""
        self._pid, self._host = pid, Host()
        self._clock, self._engine = Clock.read(self._host), worked_seconds(pid)

    def others_cores(self) -> float | None:
        """Cores that other programs kept busy since then; None where that is not told."""
        now, engine = Clock.read(self._host), worked_seconds(self._pid)
        before = self._clock
        if before.busy is None or now.busy is None or self._engine is None or engine is None:
            return None
        ours = now.ours - before.ours + engine - self._engine
        span = max(now.at - before.at, 1e-3)
        return round(max(0.0, now.busy - before.busy - ours) / span, 2)


def worked_seconds(pid: int, proc: Path = _PROC) -> float | None:
    """Processor seconds of a process so far, all threads; None where it cannot be told."""
    if proc.is_dir():
        try:
            fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)
