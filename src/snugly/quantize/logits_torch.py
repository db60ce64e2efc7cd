"""What a transformers checkpoint expects at every place of a text. Needs torch: an extra.

For worker processes alone: imports are heavy, and bitsandbytes prints what it likes.
"""

from collections.abc import Iterator, Sequence

from snugly.quantize.logits import BATCH, Floats
from snugly.quantize.transformers_libraries import libraries
from snugly.quantize.transformers_loading import loaded, tokenizer_of


class TorchModel:
    """A checkpoint in the type that it is stored in, or quantized as its config says."""

    def __init__(self, path: str, threads: int) -> None:
        torch, transformers = libraries(threads)
        self._torch = torch
        self._tokenizer = tokenizer_of(transformers, path)
        self._model = loaded(transformers, path, dtype="auto")
        self._model.eval()
        self.n_vocab = int(self._model.config.get_text_config().vocab_size)

    @property
    def bos(self) -> int | None:
        """The token that the tokenizer puts before a text, if any."""
        with_it = self._tokenizer("a")["input_ids"]
        bos = self._tokenizer.bos_token_id
        return bos if bos is not None and with_it[:1] == [bos] else None

    def tokens(self, text: str) -> list[int]:
        """`text` as tokens, with none added."""
        return [int(n) for n in self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    def logits(self, tokens: Sequence[int], first: int = 0) -> Iterator[Floats]:
        """Logits in the same pieces as a GGUF's."""
        torch = self._torch
        with torch.inference_mode():
            # One pass up to the last layer; the head, which takes the memory, in pieces.
            inputs = torch.tensor([list(tokens)])
            kept = self._model(inputs, logits_to_keep=len(tokens) - first).logits[0]
            for start in range(first - first % BATCH, len(tokens), BATCH):
                piece = kept[max(start - first, 0) : start + BATCH - first]
                if len(piece):
                    yield piece.float().numpy()

    def close(self) -> None:
        """Give the memory back."""
        self._model = None
