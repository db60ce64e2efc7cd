"""Which installed model could guess ahead for another: a much smaller one of the same words."""

import os
from collections.abc import Iterator
from functools import lru_cache

from snugly.errors import SnuglyError
from snugly.machine.types import Machine
from snugly.model.gguf import read_header
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.types import ModelSpec
from snugly.plan.choose import choose
from snugly.plan.speculation import Smaller, best_drafter, worth_looking
from snugly.plan.speculation_types import Speculation
from snugly.plan.types import EngineFacts, Need, Plan

# A drafter has to be a quarter at most, or it takes as long as it saves (plan.speculation
# decides by its predicted speed; this saves looking).
_SMALLER = 4
# common/speculative.cpp: SPEC_VOCAB_MAX_SIZE_DIFFERENCE, SPEC_VOCAB_CHECK_START_TOKEN_ID
_MOST_MORE_TOKENS, _FIRST_TOKEN = 128, 5
_TOKENS = "tokenizer.ggml.tokens"
_ALIKE = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.bos_token_id",
          "tokenizer.ggml.eos_token_id")  # fmt: skip


def drafter_for(
    plan: Plan, spec: ModelSpec, machine: Machine, facts: EngineFacts, store: Store
) -> Speculation | None:
    """The installed model that promises most as a drafter; None where none is worth it."""
    if not worth_looking(plan):
        return None
    return best_drafter(plan, tuple(_smaller(plan, spec, machine, facts, store)))


def _smaller(
    plan: Plan, spec: ModelSpec, machine: Machine, facts: EngineFacts, store: Store
) -> Iterator[Smaller]:
    for item in store.installed():
        try:
            if len(item.parts) > 1 or os.stat(item.path).st_size > spec.file_bytes // _SMALLER:
                continue
            small = _spec(item.path, os.stat(item.path).st_mtime_ns)
            times = os.stat(spec.path).st_mtime_ns, os.stat(item.path).st_mtime_ns
            if not small.is_causal or not _same_words(spec.path, item.path, times):
                continue
        except (SnuglyError, OSError):
            continue  # `snugly models` says what is wrong with it
        alone = choose(machine, small, Need(plan.context), facts)
        if isinstance(alone, Plan) and alone.speed is not None:
            taken = alone.estimate.total_bytes - alone.estimate.overhead_bytes
            rate = alone.speed.decode_tps.expected
            yield Smaller(item.path, small.name, taken, rate)


# Each load of a model asks again; a file that changed has another time.


@lru_cache(maxsize=16)
def _spec(path: str, written: int) -> ModelSpec:
    return read_spec(path)


@lru_cache(maxsize=64)
def _same_words(path: str, other: str, written: tuple[int, int]) -> bool:
    return same_words(path, other)


def same_words(path: str, other: str) -> bool:
    """Whether two models have the same tokens, as llama.cpp asks of a drafter.

    Raises: BadModelFile.
    Source: common/speculative.cpp, common_speculative_are_compatible.
    """
    ours, theirs = read_header(path).metadata, read_header(other).metadata
    if any(ours.get(name) != theirs.get(name) for name in _ALIKE):
        return False
    keep = frozenset((_TOKENS,))
    words = read_header(path, keep).metadata.get(_TOKENS, ())
    others = read_header(other, keep).metadata.get(_TOKENS, ())
    if not words or abs(len(words) - len(others)) > _MOST_MORE_TOKENS:
        return False
    least = min(len(words), len(others))
    return bool(list(words[_FIRST_TOKEN:least]) == list(others[_FIRST_TOKEN:least]))
