"""Data sheets of Apple's chips: cores, clocks, memory bandwidth and the GPU inside."""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# A core does four (fast) or two (saving) 128-bit multiply-adds per clock: 32 and 16 operations.
# Source: dougallj.github.io/applecpu (M1); unchanged since.
FAST_F32, SAVING_F32 = 32, 16
_CHIP = re.compile(r"\bm([1-9])(?:[ -]?(pro|max|ultra))?\b", re.IGNORECASE)


class Chip(NamedTuple):
    """One version of a chip as sold. Clocks are Hz."""

    name: str  # "M3 Max"
    fast: int
    saving: int
    clock: float
    saving_clock: float
    gpu_cores: int
    bandwidth_bytes_per_s: float
    gpu_flops: float
    ram_gb: tuple[int, ...]

    @property
    def f32_flops(self) -> float:
        """What all cores do with their vector units; the matrix unit is not counted."""
        return self.fast * self.clock * FAST_F32 + self.saving * self.saving_clock * SAVING_F32


@lru_cache(maxsize=1)
def chips() -> tuple[Chip, ...]:
    """Every version of every chip, in the table's order."""
    text = Path(__file__).with_name("sheets_apple.csv").read_text("utf-8")
    lines = [line.split(";") for line in text.splitlines() if not line.startswith("#")]
    return tuple(
        Chip(
            name, int(fast), int(saving), float(clock) * 1e9, float(slow) * 1e9, int(cores),
            float(gbs) * 1e9, float(tflops) * 1e12, tuple(map(int, ram.split())),
        )
        for name, fast, saving, clock, slow, cores, gbs, tflops, ram in lines[1:]
    )  # fmt: skip


def chip_name(text: str) -> str | None:
    """The chip that a text names ("Apple M3 Max" is "M3 Max"), or None."""
    match = _CHIP.search(text)
    if match is None:
        return None
    return f"M{match[1]}" + (f" {match[2].capitalize()}" if match[2] else "")


def versions(text: str, gpu_cores: int = 0, cores: int = 0, ram_gb: float = 0) -> tuple[Chip, ...]:
    """The versions that a name, cores of GPU and processor and the RAM leave possible.

    What is 0 is not known. A RAM or a count that no version has is passed over.
    """
    found = [chip for chip in chips() if chip.name == chip_name(text)]
    if gpu_cores:
        found = [chip for chip in found if chip.gpu_cores == gpu_cores] or found
    if cores:
        found = [chip for chip in found if chip.fast + chip.saving == cores] or found
    if ram_gb:
        found = [chip for chip in found if round(ram_gb) in chip.ram_gb] or found
    return tuple(found)
