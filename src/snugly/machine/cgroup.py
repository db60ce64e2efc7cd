"""Where our control group's files are, and what they limit: memory and processor time."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from snugly.machine.memory import GroupLimit, read_group

Read = Callable[[str], str | None]  # a path, and what the file says; None when there is none

_MEMORY_FILES = (
    "memory.max", "memory.high", "memory.current",
    "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted cgroup hierarchy: where it is, which part of it, and its controllers."""

    point: str
    root: str
    controllers: frozenset[str]  # empty for v2


def read_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """The cgroup mounts in /proc/self/mountinfo (format: proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if len(left) < 5 or not right or right[0] not in ("cgroup", "cgroup2"):
            continue
        options = right[2].split(",") if right[0] == "cgroup" and len(right) > 2 else []
        found.append(Mount(left[4], left[3], frozenset(options)))
    return tuple(found)


def read_membership(text: str) -> dict[str, str]:
    """Controller to path out of /proc/self/cgroup; the v2 path stands under ""."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                paths.setdefault(controller, parts[2])
    return paths


def group_folders(controller: str, mounts: tuple[Mount, ...], own: dict[str, str]) -> list[str]:
    """Folders of our group for `controller` and of every group above it, innermost first.

    In a container the mount shows the hierarchy from some group on (`root`), or our path
    starts above what is mounted ("/../.."): then the mount point itself is our group.
    """
    folders: list[str] = []
    for mount in mounts:
        if mount.controllers and controller not in mount.controllers:
            continue
        path = own.get(controller if mount.controllers else "")
        if path is None:
            continue
        if mount.root != "/":
            inside = path == mount.root or path.startswith(mount.root + "/")
            path = path[len(mount.root) :] if inside else "/"
        if ".." in path.split("/"):
            path = "/"
        folders += _upwards(mount.point, path)
    return folders


def _upwards(point: str, path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part]
    for count in range(len(parts), -1, -1):
        yield "/".join([point, *parts[:count]])


def memory_limits(read: Read) -> tuple[list[GroupLimit], str]:
    """The groups that limit our memory, and the reason to give when none does."""
    folders = _folders("memory", read)
    if not folders:
        return [], "no control groups are mounted"
    groups = []
    for folder in folders:
        files = {name: text for name in _MEMORY_FILES if (text := read(f"{folder}/{name}"))}
        group = read_group(folder, files)
        if group is not None:
            groups.append(group)
    return groups, "the control groups set no memory limit"


def cpu_quota(read: Read) -> tuple[float, str] | None:
    """The fewest cores that our groups' quotas allow, and the group; None without a quota."""
    quotas = []
    for folder in _folders("cpu", read):
        words = (read(f"{folder}/cpu.max") or "").split()
        if not words:
            period = read(f"{folder}/cpu.cfs_period_us") or ""
            words = [(read(f"{folder}/cpu.cfs_quota_us") or "").strip(), period.strip()]
        if len(words) == 2 and all(re.fullmatch(r"\d{1,15}", word) for word in words):
            quota, period_us = map(int, words)
            if quota > 0 and period_us > 0:
                quotas.append((quota / period_us, f"cgroup {folder}"))
    return min(quotas, default=None)


def _folders(controller: str, read: Read) -> list[str]:
    mounts = read_mounts(read("/proc/self/mountinfo") or "")
    own = read_membership(read("/proc/self/cgroup") or "")
    return group_folders(controller, mounts, own)
