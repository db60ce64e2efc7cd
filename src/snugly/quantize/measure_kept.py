"""A measured loss is kept, so that `snugly plan` goes by it."""

from snugly.errors import SnuglyError
from snugly.history.losses import KnownLoss, remember
from snugly.model.spec import read_spec
from snugly.model.types import ModelSpec
from snugly.quantize.measure_loss import Loss

_UNQUANTIZED = ("F32", "F16", "BF16")


def keep(base: str, other: str, loss: Loss, text: str) -> bool:
    """Whether the loss of the GGUF `other` was kept.

    It counts only against the unquantized weights of the same model, not of what it was tuned
    from or of a relative.

    `text` names what was measured on. What cannot be written is not worth a failure.
    """
    try:
        against, spec = read_spec(base), read_spec(other)
        if against.file_type not in _UNQUANTIZED or spec.file_type in _UNQUANTIZED:
            return False
        if _identity(against) != _identity(spec):
            return False
        known = KnownLoss(spec.name, spec.file_type, spec.file_bytes, loss.kld.value,
                          loss.kld.error, text, loss.places)  # fmt: skip
        remember(known)
    except (OSError, SnuglyError):
        return False
    return True


def _identity(spec: ModelSpec) -> tuple[str, str, int, int, int]:
    """What every type of one model shares: some files hold the embedding twice, so no counts."""
    shape = len(spec.layers), spec.embedding_length, spec.feed_forward_length
    return spec.own_name, spec.architecture, *shape
