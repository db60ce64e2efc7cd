"""What a model expects, computed in single precision by numpy: the exact first one to compare.

For F16 weights it is twice as fast as llama.cpp on a processor, and without its rounding of
what comes in. For worker processes alone. Weights may be taken from a second file, some or all:
so a quantized tensor is measured in an otherwise exact model.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from snugly.quantize.logits import BATCH, Floats
from snugly.quantize.logits_gguf import GgufModel
from snugly.quantize.reader import Source, read_gguf
from snugly.quantize.sensitivity_net import Net

_AT_ONCE = 4  # texts: 2,048 places take some 300 MB for the widest layer of 1.5 billion weights


class NetModel:
    """A GGUF of Llama's build."""

    def __init__(
        self, path: str, threads: int, over: str = "", names: Collection[str] = ()
    ) -> None:
        """Tensors called `names` come from the file `over`.

        Raises: UserError for another build.
        """
        source = read_gguf(path)
        self._net = Net(overlaid(source, read_gguf(over), names) if over else source, threads)
        self._words = GgufModel(path, BATCH, threads, words_only=True)
        self.n_vocab = self._words.n_vocab
        self._read: dict[tuple[int, ...], Floats] = {}

    @property
    def bos(self) -> int | None:
        """The token that stands before each text, where the model wants one."""
        return self._words.bos

    def tokens(self, text: str) -> list[int]:
        """`text` as tokens, with none added."""
        return self._words.tokens(text)

    def read(self, texts: Sequence[Sequence[int]]) -> None:
        """Texts of equal length, some at once: their weights are decoded once for all of them."""
        for start in range(0, len(texts), _AT_ONCE):
            group = texts[start : start + _AT_ONCE]
            h = self._net.embed(np.array(group, dtype=np.int64))
            for number in range(self._net.shape.layers):
                h = self._net.layer(number).forward(h)
            for text, part in zip(group, h, strict=True):
                self._read[tuple(text)] = self._net.final(part)

    def logits(self, tokens: Sequence[int], first: int = 0) -> Iterator[Floats]:
        """Logits in the same pieces as llama.cpp's."""
        if tuple(tokens) not in self._read:
            self.read([tokens])
        x = self._read.pop(tuple(tokens))
        for start in range(first - first % BATCH, len(tokens), BATCH):
            piece = x[max(start, first) : start + BATCH]
            if len(piece):
                yield self._net.logits(piece)

    def close(self) -> None:
        """Give the memory back."""
        self._words.close()


def overlaid(source: Source, over: Source, names: Collection[str]) -> Source:
    """`source` with the tensors called `names` taken from `over`."""
    others = {item.tensor.name: item for item in over.tensors}
    tensors = [others[item.tensor.name] if item.tensor.name in names else item
               for item in source.tensors]  # fmt: skip
    return replace(source, tensors=tuple(tensors))
