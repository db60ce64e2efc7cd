"""How probable each token of a prompt is to a model, by llama.cpp, in this process.

llama-server tells log probabilities of tokens that it writes, never of those that it reads.
This reads a list of tokens once, keeps the logits of every place, and tells of each token
what the model gave it. For the worker process alone (see `llama_api`).
"""

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snugly.engine import llama_api
from snugly.engine.llama_api import Batch, library
from snugly.errors import BadModelFile, EngineError, UserError
from snugly.model.ggml_types import TENSOR_TYPES

MOST_AT_ONCE = 128  # places; with 512 a 135M and a 0.5B model are no faster (bench)
LEAST_AT_ONCE = 8
_F32 = 4
_LONGEST_PIECE = 256  # bytes of a token's text; a longer one is asked for again
_TYPES = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}

Entry = tuple[int, float]  # a token and its natural log probability


@dataclass(frozen=True, slots=True)
class Place:
    """A token of a prompt, what the model gave it, and what it thought most probable there.

    `logprob` is None for the first token, which nothing stands before.
    """

    token: int
    logprob: float | None
    top: tuple[Entry, ...] = ()


class PromptModel:
    """A loaded model that is asked for the probabilities of prompts, one at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Load as the plan has it; `config` is what `llama_cpp.worker_config` makes.

        Raises: BadModelFile, EngineError.
        """
        api = self._api = library()
        params = api.llama_model_default_params()
        # Experts that are to stay in RAM: then all does (the wheel has Metal alone, whose
        # memory is RAM).
        params.n_gpu_layers = 0 if config["cpu_experts"] else config["gpu_layers"]
        params.use_extra_bufts = config["repack"]
        split = config.get("tensor_split", [])
        if len(split) > 1:
            self._split = (ctypes.c_float * api.llama_max_devices())(*split)
            params.tensor_split = ctypes.cast(self._split, ctypes.c_void_p)
        path = config["model_path"]
        self._model = api.llama_model_load_from_file(path.encode(), params)
        if not self._model:
            raise BadModelFile(f"{path} cannot be loaded.", llama_api.last_words())
        self._vocab = api.llama_model_get_vocab(self._model)
        self.n_vocab: int = api.llama_vocab_n_tokens(self._vocab)
        self.context: int = config["context"]
        self.at_once = at_once(config["compute_bytes"], config["ubatch"], self.n_vocab)
        self._context = self._opened(config)
        self._memory = api.llama_get_memory(self._context)
        self._batch: Batch = api.llama_batch_init(self.at_once, 0, 1)
        self._told: list[Place] = []  # of the last prompt, as far as the cache holds it
        self._top = 0  # alternatives that these have
        self._cached = 0

    def _opened(self, config: dict[str, Any]) -> int:
        wanted = self._api.llama_context_default_params()
        wanted.n_ctx = config["context"]
        wanted.n_batch = wanted.n_ubatch = self.at_once
        wanted.n_threads = wanted.n_threads_batch = config["threads_batch"]
        wanted.type_k, wanted.type_v = _TYPES[config["kv_type"]], _TYPES[config["v_type"]]
        wanted.flash_attn_type = int(config["flash_attention"])
        wanted.offload_kqv = config["kv_on_gpu"]
        context = self._api.llama_init_from_model(self._model, wanted)
        if not context:
            raise EngineError(f"{config['model_path']} cannot be run.", llama_api.last_words())
        return int(context)

    # ---- words

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """A prompt as tokens, with those that the model wants before it."""
        raw = text.encode()
        room = len(raw) + 16  # a token has at least a byte
        found = (ctypes.c_int32 * room)()
        count = self._api.llama_tokenize(self._vocab, raw, len(raw), found, room, True, special)
        if count < 0:
            raise EngineError("The text cannot be cut into tokens.", llama_api.last_words())
        return list(found[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of a token; special ones as they are written."""
        for room in (_LONGEST_PIECE, 65536):
            buffer = ctypes.create_string_buffer(room)
            count = self._api.llama_token_to_piece(self._vocab, token, buffer, room, 0, True)
            if count >= 0:
                return buffer.raw[:count]
        return b""

    def ends(self, token: int) -> bool:
        """Whether an answer ends with this token."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    # ---- probabilities

    def check(self, tokens: Sequence[int]) -> None:
        """Raise UserError for tokens that the model does not have."""
        wrong = next((token for token in tokens if not 0 <= token < self.n_vocab), None)
        if wrong is not None:
            raise UserError(
                f"{wrong} is no token of this model.", f"They go from 0 to {self.n_vocab - 1:,}."
            )

    def places(self, tokens: Sequence[int], top: int) -> Iterator[list[Place]]:
        """Every token with its probability, some places at a time; then what would come next.

        That one's `token` is the most probable. What a prompt shares with the one before it
        is not computed again, but for models whose memory cannot be taken back.

        Raises: EngineError.
        """
        kept = self._taken_back(tokens, top)
        yield [replace(place, top=place.top[:top]) for place in self._told]
        for start in range(kept, len(tokens), self.at_once):
            piece = tokens[start : start + self.at_once]
            following = [*tokens, None][start + 1 : start + 1 + len(piece)]
            rows = self._decoded(piece, start)
            found = [place_of(row, token, top) for row, token in zip(rows, following, strict=True)]
            self._told += found[: len(tokens) - len(self._told)]
            yield found

    @property
    def cached(self) -> int:
        """Tokens of the last prompt that were not computed again."""
        return self._cached

    def _taken_back(self, tokens: Sequence[int], top: int) -> int:
        """Shorten the cache to what this prompt shares with the last; how many that are.

        Of the last shared token the logits are needed again: it is computed anew.
        """
        shared, held = 0, [place.token for place in self._told]
        if top <= self._top and self._api.llama_memory_seq_pos_min(self._memory, 0) == 0:
            shared = len(os.path.commonprefix([held, list(tokens)]))
        kept = max(0, shared - 1)
        if kept == 0 or not self._api.llama_memory_seq_rm(self._memory, 0, kept, -1):
            self._api.llama_memory_clear(self._memory, True)
            kept = 0
        self._told = self._told[: kept + 1] if kept else [Place(tokens[0], None)]
        self._top = top
        self._cached = kept
        return kept

    def _decoded(self, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        """Logits [places, vocabulary]; the library's own memory until the next call."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, start + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = 1
        code = self._api.llama_decode(self._context, batch)
        if code:
            self._told = []
            raise EngineError(
                "The prompt could not be computed.",
                f"llama_decode answered {code}. {llama_api.last_words()}".strip(),
            )
        pointer = self._api.llama_get_logits_ith(self._context, 0)
        return np.ctypeslib.as_array(pointer, (len(tokens), self.n_vocab))


def place_of(logits: NDArray[np.float32], token: int | None, top: int) -> Place:
    """What a row of logits says of `token`, or of the most probable one for None. Pure.

    A token's log probability is its logit less the logarithm of all logits' exponentials'
    sum; the largest is taken off first, so that none overflows.
    """
    most = logits.max()
    whole = float(most) + float(np.log(np.exp(logits - most).sum(dtype=np.float64)))
    best: list[int] = [int(logits.argmax())]
    if top > 1:
        some = np.argpartition(logits, -min(top, logits.size))[-min(top, logits.size) :]
        best = [int(i) for i in some[np.argsort(-logits[some], kind="stable")]]
    entries = tuple((i, float(logits[i]) - whole) for i in best[:top])
    chosen = best[0] if token is None else token
    return Place(chosen, float(logits[chosen]) - whole, entries)


def at_once(compute_bytes: int, ubatch: int, n_vocab: int) -> int:
    """Places that are computed together, so that they take no more than was planned. Pure.

    Of each place the logits are held twice: where they are computed and where they are
    read. `compute_bytes` were planned for `ubatch` tokens.
    """
    places = MOST_AT_ONCE
    while places > LEAST_AT_ONCE and (
        2 * _F32 * n_vocab * places + compute_bytes * places // ubatch > compute_bytes
    ):
        places //= 2
    return places
