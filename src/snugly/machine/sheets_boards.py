"""Data sheets of boards and small computers whose memory is soldered."""

import re
from pathlib import Path
from typing import NamedTuple


class Board(NamedTuple):
    """One board. `gpu` is a name for `sheets_gpus`, empty where the GPU is of no use to a model."""

    name: str
    processor: str
    cores: int
    fast: int
    clock: float
    f32_flops: float
    isa: str  # key of sheets_cpus.INSTRUCTION_SETS
    memory: str
    bandwidth_bytes_per_s: float
    ram_gb: tuple[float, ...]
    gpu: str


def _rows() -> list[list[str]]:
    text = Path(__file__).with_name("sheets_boards.csv").read_text("utf-8")
    return [line.split(";") for line in text.splitlines() if not line.startswith("#")][1:]


def boards() -> tuple[Board, ...]:
    """Every board of the table."""
    return tuple(_board(row) for row in _rows())


def board_of(text: str) -> Board | None:
    """The board that a text names, or None."""
    low = text.lower()
    return next((_board(row) for row in _rows() if re.search(row[0], low)), None)


def _board(row: list[str]) -> Board:
    (_, name, processor, cores, fast, ghz, slow, f32, slow_f32, isa, memory, gbs, ram, gpu) = row
    saving = int(cores) - int(fast)
    flops = int(fast) * float(ghz) * int(f32) + saving * float(slow) * int(slow_f32)
    sizes = tuple(float(size) for size in ram.split())
    return Board(
        name, processor, int(cores), int(fast), float(ghz) * 1e9, flops * 1e9, isa, memory,
        float(gbs) * 1e9, sizes, gpu,
    )  # fmt: skip
