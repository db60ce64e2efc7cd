"""Anything that gives logits for a text: a GGUF by llama.cpp, a checkpoint by transformers."""

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Places whose logits are held at once: 74 MiB for a vocabulary of 152,000.
BATCH = 128


class Model(Protocol):
    """A loaded model."""

    n_vocab: int

    @property
    def bos(self) -> int | None:
        """The token that stands before each text, where the model wants one."""
        ...

    def tokens(self, text: str) -> list[int]:
        """`text` as tokens, with none added."""
        ...

    def logits(self, tokens: Sequence[int], first: int = 0) -> Iterator[Floats]:
        """Logits [places, vocabulary] of the places from `first` on, piece by piece.

        Pieces end at multiples of `BATCH` places, so that those of two models are alike; each
        array is valid until the next is asked for.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


def open_model(
    path: str,
    context: int,
    threads: int,
    *,
    exact: bool = False,
    over: str = "",
    names: Sequence[str] = (),
) -> Model:
    """A GGUF file, or a folder with a Hugging Face checkpoint.

    `exact`: in single precision by numpy, with the tensors called `names` from the file `over`.

    Raises: BadModelFile, EngineError, UserError when an extra is missing.
    """
    if os.path.isdir(path):
        from snugly.quantize.logits_torch import TorchModel

        return TorchModel(path, threads)
    if exact:
        from snugly.quantize.logits_net import NetModel

        return NetModel(path, threads, over, names)
    from snugly.quantize.logits_gguf import GgufModel

    return GgufModel(path, context, threads)
