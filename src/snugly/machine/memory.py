"""RAM and swap out of /proc/meminfo, and what of it a control group leaves us."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from snugly.machine.facts import blank, known
from snugly.machine.types import Fact, Memory, assumed, probed, unknown

# "No limit" of cgroup v1 is the largest page-aligned signed 64-bit number, 2**63 - 4096 (or
# - 65536 with 64 KiB pages). No machine has an exbibyte, so anything from there on is none.
NO_LIMIT = 1 << 60


def read_meminfo(text: str) -> Memory:
    """/proc/meminfo; its "kB" are 1024 bytes.

    Kernels before 3.14 have no MemAvailable. Then free memory, buffers and the page cache
    less shared memory stand in for it (shared memory is in Cached but cannot be dropped).
    """
    how = "/proc/meminfo"
    kib = {
        key: int(value) * 1024
        for key, value in re.findall(r"^[ \t]*(\w+)(?:\([^)]*\))?:\s+(\d{1,17})\s+kB", text, re.M)
    }
    available: Fact[int] = known(kib.get("MemAvailable"), how)
    if available.value is None and "MemFree" in kib:
        cache = max(kib.get("Cached", 0) - kib.get("Shmem", 0), 0)
        available = assumed(
            kib["MemFree"] + kib.get("Buffers", 0) + cache,
            f"{how} has no MemAvailable: MemFree + Buffers + Cached - Shmem",
        )
    return replace(
        blank(Memory, f"{how} does not tell"),
        total_bytes=known(kib.get("MemTotal"), how),
        available_bytes=available,
        swap_total_bytes=known(kib.get("SwapTotal"), how),
        swap_free_bytes=known(kib.get("SwapFree"), how),
        cgroup_limit_bytes=unknown("/proc/meminfo does not tell of control groups"),
    )


@dataclass(frozen=True, slots=True)
class GroupLimit:
    """One control group that limits us, in bytes."""

    path: str
    limit: int
    used: int
    reclaimable: int  # page cache that the kernel drops before it refuses memory

    @property
    def room(self) -> int:
        """Bytes that may still be had in this group."""
        return max(self.limit - self.used + self.reclaimable, 0)


def read_group(path: str, files: Mapping[str, str]) -> GroupLimit | None:
    """The limit of one group from the texts of its files, v2 or v1; None without a limit.

    v2: memory.max, and memory.high, above which the kernel throttles, as good as a wall for
    a model. v1: memory.limit_in_bytes, and the limits of groups above, out of memory.stat.
    Pages of `inactive_file` are given back on demand, so they count as free.
    """
    stat = dict(re.findall(r"^(\w+) (\d{1,20})$", files.get("memory.stat", ""), re.MULTILINE))
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = [_bytes(files.get(name)) for name in names]
    limits.append(_bytes(stat.get("hierarchical_memory_limit")))
    real = [limit for limit in limits if limit is not None and limit < NO_LIMIT]
    if not real:
        return None
    used = _bytes(files.get("memory.current")) or _bytes(files.get("memory.usage_in_bytes")) or 0
    inactive = stat.get("total_inactive_file", stat.get("inactive_file"))
    return GroupLimit(path, min(real), used, min(_bytes(inactive) or 0, used))


def _bytes(text: str | None) -> int | None:
    word = (text or "").strip()
    return int(word) if re.fullmatch(r"\d{1,20}", word) else None


def within(memory: Memory, groups: list[GroupLimit], why_none: str) -> Memory:
    """`memory` as seen from inside control groups, our own and those above it.

    Total is the smallest limit, available the smallest room; a limit above the machine's own
    memory limits nothing.
    """
    total, available = memory.total_bytes, memory.available_bytes
    real = [group for group in groups if total.value is None or group.limit < total.value]
    if not real:
        return replace(memory, cgroup_limit_bytes=unknown(why_none))
    tightest = min(real, key=lambda group: group.limit)
    least = min(real, key=lambda group: group.room)
    limit = probed(tightest.limit, f"cgroup {tightest.path}")
    if available.value is None or least.room < available.value:
        how = f"cgroup {least.path}: limit less use, with reclaimable page cache"
        available = probed(least.room, how)
    return replace(memory, total_bytes=limit, available_bytes=available, cgroup_limit_bytes=limit)
