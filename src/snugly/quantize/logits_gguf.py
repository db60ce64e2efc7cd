"""What a GGUF model expects at every place of a text: logits by llama.cpp, in this process.

For worker processes alone (see `llama_api`).
"""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from snugly.engine import llama_api
from snugly.engine.llama_api import EVAL_CALLBACK, Batch, library
from snugly.errors import BadModelFile, EngineError
from snugly.quantize.logits import BATCH, Floats


class GgufModel:
    """A loaded model that is asked for logits."""

    def __init__(
        self, path: str, context: int, threads: int, watch: Any = None, words_only: bool = False
    ) -> None:
        """Load. `watch`: an EVAL_CALLBACK that sees each tensor computed.

        `words_only`: the vocabulary without weights; `logits` must not be asked for then.

        Raises: BadModelFile, EngineError.
        """
        api = library()
        self._api = api
        params = api.llama_model_default_params()
        params.n_gpu_layers, params.vocab_only = 0, words_only
        self._context: Any = None
        self._model = api.llama_model_load_from_file(path.encode(), params)
        if not self._model:
            raise BadModelFile(
                f"{path} cannot be loaded.", llama_api.last_words(), "Is it a whole GGUF model?"
            )
        self._vocab = api.llama_model_get_vocab(self._model)
        self.n_vocab: int = api.llama_vocab_n_tokens(self._vocab)
        if not words_only:
            self._begin(path, context, threads, watch)

    def _begin(self, path: str, context: int, threads: int, watch: Any) -> None:
        api = self._api
        wanted = api.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = context, BATCH, BATCH
        wanted.n_threads = wanted.n_threads_batch = threads
        self._watch = watch or EVAL_CALLBACK()  # kept: the library calls it later
        wanted.cb_eval = self._watch
        self._context = api.llama_init_from_model(self._model, wanted)
        if not self._context:
            raise EngineError(f"{path} cannot be run.", llama_api.last_words())
        self._batch: Batch = api.llama_batch_init(BATCH, 0, 1)

    def close(self) -> None:
        """Give the memory back."""
        if self._context:
            self._api.llama_batch_free(self._batch)
            self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    @property
    def bos(self) -> int | None:
        """The token that stands before each text, where the model wants one."""
        if not self._api.llama_vocab_get_add_bos(self._vocab):
            return None
        return int(self._api.llama_vocab_bos(self._vocab))

    def tokens(self, text: str) -> list[int]:
        """`text` as tokens, with none added."""
        raw = text.encode()
        # A token has at least a byte, mostly: SentencePiece writes a space as three, and a
        # vocabulary without it takes a token for each. Then the number it takes comes back.
        room = len(raw) + 16
        for _ in range(2):
            found = (ctypes.c_int32 * room)()
            count = self._api.llama_tokenize(self._vocab, raw, len(raw), found, room, False, False)
            if count >= 0:
                return list(found[:count])
            room = -count
        raise EngineError("The text cannot be cut into tokens.", llama_api.last_words())

    def logits(self, tokens: Sequence[int], first: int = 0) -> Iterator[Floats]:
        """Logits [places, vocabulary] of the places from `first` on, some at a time.

        Each array is the library's own memory, valid until the next one is asked for.
        Raises: EngineError.
        """
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        for start in range(0, len(tokens), BATCH):
            piece = tokens[start : start + BATCH]
            asked = max(first - start, 0)
            self._decode(piece, start, asked)
            if asked < len(piece):
                pointer = self._api.llama_get_logits_ith(self._context, asked)
                yield np.ctypeslib.as_array(pointer, (len(piece) - asked, self.n_vocab))

    def _decode(self, tokens: Sequence[int], start: int, asked: int) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, start + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = index >= asked
        code = self._api.llama_decode(self._context, batch)
        if code:
            raise EngineError(
                "The model could not be computed.",
                f"llama_decode answered {code}. {llama_api.last_words()}".strip(),
            )
