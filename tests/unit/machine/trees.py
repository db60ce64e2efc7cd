"""Machines made of files: a root folder with the /proc and /sys that a test wants."""

from collections.abc import Mapping
from pathlib import Path

from snugly.machine.host import Host, NoAnswer

CPUINFO = "".join(
    f"processor : {n}\nvendor_id : GenuineIntel\nmodel name : Test CPU\nphysical id : 0\n"
    f"core id : {n}\nflags : fpu lm avx avx2 fma\n\n"
    for n in range(4)
)
MEMINFO = f"MemTotal: {16 * 1024**2} kB\nMemFree: 1000 kB\nMemAvailable: {12 * 1024**2} kB\n"
BASE = {"/proc/cpuinfo": CPUINFO, "/proc/meminfo": MEMINFO, "/proc/stat": "cpu  1 1 1 1 1 1 1 0\n"}


def write_tree(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


def no_tools(tool: str, *args: str) -> str:
    raise NoAnswer(f"{tool} is not installed")


def fake_host(root: Path, files: Mapping[str, str]) -> Host:
    """A Linux box with 16 GiB (12 available), 4 cores, no tools, and these files."""
    write_tree(root, {**BASE, **files})
    return Host(root=root, run=no_tools, env={}, system="linux")
