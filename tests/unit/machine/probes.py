"""The captured outputs, and short ways to say what they must give."""

from functools import cache
from pathlib import Path

from snugly.machine.captures import machine_from, read_capture
from snugly.machine.types import Capture, Machine

FOLDER = Path(__file__).parents[2] / "golden" / "probes"
FILES = sorted(path.name for path in FOLDER.iterdir() if "__" in path.name)


@cache
def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def capture(name: str) -> Capture:
    return read_capture(text(name), name)


def machine(name: str) -> Machine:
    return machine_from([capture(name)])
