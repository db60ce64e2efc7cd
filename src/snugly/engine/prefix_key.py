"""What must be the same for a saved state to be one of the model that runs."""

import hashlib
import json
import os
from pathlib import Path

from snugly.model.attention import layers_of
from snugly.model.fields import Fields
from snugly.model.gguf import read_header
from snugly.model.spec import split_parts
from snugly.model.types import AttentionKind
from snugly.plan.types import Plan

_SAMPLES, _SAMPLE_BYTES = 16, 4096  # a hard disk finds so many places in a fifth of a second
_FORMAT = 1  # of what this package keeps; a new one forgets all that was kept


def key_of(plan: Plan, build: str) -> str:
    """The model's files, the engine's build, and how the cache lies in memory.

    The chat template and the vocabulary are in the model's file. Threads, batches, and the
    length of the context change nothing that is kept.

    Raises: OSError where the model cannot be read.
    """
    setup = plan.setup
    told = [
        _FORMAT, build, [_identity(path) for path in split_parts(plan.model_path)],
        setup.kv_type, setup.v_type or setup.kv_type, setup.flash_attention,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]


def rewinds(model_path: str) -> bool:
    """Whether an engine can go back in a saved state, to where another prompt branches off.

    Not where layers keep only a window, or a state that every token changes.

    Raises: BadModelFile.
    """
    layers = layers_of(Fields(read_header(model_path)))
    kinds = (AttentionKind.RECURRENT, AttentionKind.SLIDING)
    return not any(layer.window or layer.kind in kinds for layer in layers)


def _identity(path: str) -> list[str | int]:
    """A file: its size, when it was written, and 16 places of it.

    Its SHA-256 would take longer than to load the model.
    """
    known = os.stat(path)
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        for index in range(_SAMPLES):
            file.seek(known.st_size * index // _SAMPLES)
            digest.update(file.read(_SAMPLE_BYTES))
    return [known.st_size, known.st_mtime_ns, digest.hexdigest()]
