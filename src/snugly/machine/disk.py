"""The disk under the model store: how much is free, and whether it spins."""

import os
import re
import shutil
from pathlib import Path

from snugly.machine.facts import known
from snugly.machine.host import Host
from snugly.machine.types import Disk, Fact, probed, unknown

_DEPTH = 5  # LVM on LUKS on RAID on a partition is four


def read_disk(store: Path, host: Host) -> Disk:
    """Free and total bytes where `store` is or will be, and whether that disk spins."""
    place = store
    while not os.path.exists(place) and place != place.parent:  # False where we may not look
        place = place.parent
    try:
        usage = shutil.disk_usage(place)
        status = os.stat(place)
    except OSError as error:
        nothing: Fact[int] = unknown(f"{place} cannot be asked: {error.strerror}")
        return Disk(str(store), nothing, nothing, unknown(nothing.how))
    how = f"the file system under {place}"
    return Disk(
        str(store),
        probed(usage.free, how),
        probed(usage.total, how),
        spins(host, os.major(status.st_dev), os.minor(status.st_dev), place)
        if host.system == "linux"
        else unknown("only Linux tells"),
    )


def spins(host: Host, major: int, minor: int, place: Path) -> Fact[bool]:
    """Whether the block device turns, by the kernel's `queue/rotational`.

    File systems with no device number of their own (btrfs, overlay) are looked up by the
    device they are mounted from.
    """
    folder = host.path(f"/sys/dev/block/{major}:{minor}")
    if major == 0:
        device = mounted_from(host.read("/proc/self/mountinfo") or "", str(place))
        if device is None:
            return unknown("the file system is on no block device that the kernel names")
        folder = host.path(f"/sys/class/block/{device}")
    flags = _flags(folder, 0)
    if not flags:
        return unknown("the kernel does not tell for this device")
    name = folder.resolve().name
    virtual = re.match(r"(vd|xvd|nbd|rbd)[a-z0-9]", name)
    if virtual:
        # Hypervisors leave the flag at its default, so it tells nothing of the real disk.
        return unknown(f"{name} is a virtual disk")
    return known(any(flags), f"queue/rotational of {name}")


def _flags(folder: Path, depth: int) -> list[bool]:
    """The flags of the real disks under a device.

    A partition asks its parent, a mapped device each of the devices it is made of.
    """
    device = folder.resolve()
    try:
        under = sorted((device / "slaves").iterdir())
    except OSError:
        under = []
    if under and depth < _DEPTH:
        return [flag for slave in under for flag in _flags(slave, depth + 1)]
    for place in (device, device.parent):
        try:
            return [(place / "queue" / "rotational").read_text().strip() == "1"]
        except OSError:
            continue
    return []


def mounted_from(mountinfo: str, place: str) -> str | None:
    """The kernel's name of the device that `place` is on ("nvme0n1p2"), or None."""
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if len(left) < 5 or len(right) < 2:
            continue
        point = left[4].rstrip("/")
        if (place == point or place.startswith(point + "/")) and (
            not best or len(point) >= best[0]
        ):
            best = (len(point), right[1])
    if best is None or not best[1].startswith("/dev/"):
        return None
    return best[1].removeprefix("/dev/").removeprefix("mapper/")
