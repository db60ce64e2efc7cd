"""What quantizations were measured to lose, kept so that plans use it: a small file of facts.

It lies beside the history. Of two commands that end at once one may be forgotten; nothing is
lost by that but a measurement. A file that cannot be read counts as empty.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from snugly.model import sidecar
from snugly.settings import settings

_NAME = "losses.json"
_MOST = 1000  # facts that are kept, the latest ones: some 200 kB


@dataclass(frozen=True, slots=True)
class KnownLoss:
    """One file's loss against its unquantized model, in nats per token with its standard error.

    A file is known by the model's name, its quantization and its size in bytes.
    """

    model: str
    quant: str
    file_bytes: int
    kld: float
    error: float
    text: str  # what it was measured on
    places: int


def remember(loss: KnownLoss, path: Path | None = None) -> None:
    """Keep a measured loss, instead of an earlier one of the same file.

    Raises: OSError.
    """
    where = _where(path)
    others = [known for known in _read(where) if _key(known) != _key(loss)]
    where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = [asdict(known) for known in (*others, loss)[-_MOST:]]
    sidecar.write_text(where, json.dumps(told, indent=0), 0o600)


def known_loss(
    model: str, quant: str, file_bytes: int, path: Path | None = None
) -> KnownLoss | None:
    """What a file was measured to lose, if it was."""
    wanted = (model, quant, file_bytes)
    return next((known for known in _read(_where(path)) if _key(known) == wanted), None)


def _where(path: Path | None) -> Path:
    return path or settings().history.with_name(_NAME)


def _key(loss: KnownLoss) -> tuple[str, str, int]:
    return loss.model, loss.quant, loss.file_bytes


def _read(where: Path) -> list[KnownLoss]:
    try:
        found = [KnownLoss(**row) for row in json.loads(where.read_text(encoding="utf-8"))]
        return [known for known in found if known.kld >= 0]  # also raises for what is no number
    except (OSError, ValueError, TypeError):
        return []
