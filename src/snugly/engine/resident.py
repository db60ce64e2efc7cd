"""How much memory a process takes, as its system tells it."""

from pathlib import Path

_PROC = Path("/proc")


def peak_bytes(pid: int, proc: Path = _PROC) -> int | None:
    """Peak resident bytes of a process: VmHWM on Linux, what psutil knows elsewhere."""
    if proc.is_dir():
        return _status(pid, proc).get("VmHWM")
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    # Windows tells the peak; macOS only the present.
    return int(getattr(memory, "peak_wset", memory.rss))


def held_bytes(pid: int, proc: Path = _PROC) -> int | None:
    """Resident bytes that the system would not give to others on demand.

    On Linux mapped weights are page cache, which MemAvailable counts as available, so they
    are left out. Elsewhere all that is resident is taken from what is available.
    """
    if proc.is_dir():
        status = _status(pid, proc)
        if "RssAnon" not in status:  # kernels before 4.5
            return status.get("VmRSS")
        return status["RssAnon"] + status.get("RssShmem", 0)
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _status(pid: int, proc: Path) -> dict[str, int]:
    """The amounts in /proc/PID/status, in bytes."""
    try:
        text = (proc / str(pid) / "status").read_text()
    except OSError:
        return {}
    lines = (line.split(":", 1) for line in text.splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in lines}
