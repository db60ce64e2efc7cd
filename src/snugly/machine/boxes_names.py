"""Names of boxes: for completion, and what a person may have meant."""

import difflib
import re
from functools import lru_cache

from snugly.machine import sheets_apple, sheets_boards, sheets_cpus, sheets_gpus

# Versions that nobody asks for by name: the chip inside, boards of Apple's old towers, doubles.
_INNER = re.compile(sheets_gpus.SILENT.pattern + r"|\b(mac edition|x2|oem|refresh)\b")


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    chips = {
        f"{chip.name} {ram}GB".lower(): None for chip in sheets_apple.chips() for ram in chip.ram_gb
    }
    boards = [
        f"{board.name} {size:g}GB".lower()
        for board in sheets_boards.boards()
        for size in board.ram_gb
    ]
    names = (_short(sheet) for sheet in sheets_gpus.sheets() if sheet.kind != "shared")
    gpus = {name: None for name in names if not _INNER.search(name)}
    models = [model.name.lower() for model in sheets_cpus.models()]
    clouds = ["colab t4", "colab l4", "colab a100", "kaggle 2x t4", "kaggle p100"]
    return (*chips, *boards, *clouds, *models, *gpus)


def _short(sheet: sheets_gpus.Sheet) -> str:
    name = re.sub(r"^(GeForce|Radeon(?= RX| PRO| Pro| AI| Instinct)|Tesla) ", "", sheet.name)
    return name.replace(" GB", "GB").replace("Mobile", "laptop").lower()


def known(pattern: str = "") -> tuple[str, ...]:
    """Names that `box` understands and that hold every word of `pattern`."""
    words = pattern.lower().split()
    return tuple(name for name in _names() if all(word in name for word in words))


def near(piece: str, count: int = 4) -> list[str]:
    """Names that look like `piece`, the nearest first."""
    text = piece.lower().strip()
    starts = [name for name in known(text)][:count]
    return starts or difflib.get_close_matches(text, _names(), count, 0.6)
