"""Bytes of what a model remembers: KV cache, recurrent states, and snapshots of both.

Exact for every kind of attention; `bench/kv_accuracy.py` prints it beside llama.cpp's own.
"""

from collections import Counter
from dataclasses import replace

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Attention, Build, ModelSpec
from snugly.plan.types import Setup

CELL_STEP = 256  # llama.cpp pads every cache to a multiple of this many cells
CACHE_TYPE = "F16"
# Source: llama.cpp common/arg.cpp, kv_cache_types.
CACHE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")
CHECKPOINTS = 3  # snapshots of the sliding caches that we let the engine keep


def cells(
    layer: Attention,
    context: int,
    ubatch: int,
    n_seq: int = 1,
    *,
    unified: bool = True,
    swa_full: bool = False,
) -> int:
    """Cache cells that one layer keeps for `n_seq` sequences with `context` tokens in all.

    Unified, the sequences share one cache; else each has its part of the context to
    itself. A layer with a window keeps it (for each sequence where they share) and one
    micro-batch, never more than the context, unless `swa_full`.
    Source: llama.cpp src/llama-context.cpp, src/llama-kv-cache-iswa.cpp.
    """
    whole = _padded(context)
    streams = 1 if unified else n_seq
    size = whole if unified else _padded(whole // n_seq)
    if layer.compression is not None:  # DeepSeek V4 never shares between sequences
        streams = n_seq
    if layer.window and not swa_full:
        sharing = n_seq if streams == 1 else 1
        return streams * _padded(min(size, layer.window * sharing + ubatch))
    return streams * size


def kv_bytes(
    spec: ModelSpec | Build,
    context: int,
    ubatch: int,
    kv_type: str = CACHE_TYPE,
    v_type: str | None = None,
    n_seq: int = 1,
    *,
    unified: bool = True,
    swa_full: bool = False,
) -> int:
    """Bytes of all that a model remembers of `context` tokens: KV cache and recurrent state.

    K is kept in `kv_type`, V in `v_type` (or as K); states in f32. For `n_seq` sequences
    the context is shared (`unified`) or divided. Flash attention on; layers that only
    draft are not counted. Exact: `bench/kv_accuracy.py` prints it beside llama.cpp's own.

    Raises: ValueError for a type that the engine does not take, or one whose blocks do
    not divide the length of a head.
    Source: llama.cpp src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp.
    """
    types = (kv_type, v_type or kv_type)
    for kept in types:
        if kept not in CACHE_TYPES:
            raise ValueError(f"{kept!r} is no cache type; there are {', '.join(CACHE_TYPES)}")
    return sum(
        count * _layer_bytes(layer, context, ubatch, types, n_seq, unified, swa_full)
        for layer, count in Counter(spec.layers).items()  # most layers are alike
    )


def layer_bytes(layer: Attention, setup: Setup) -> int:
    """Bytes that one layer remembers, caches shared by all sequences.

    Raises: ValueError as `kv_bytes` does for a type whose blocks do not divide a head.
    """
    types = (setup.kv_type, setup.v_type or setup.kv_type)
    return _layer_bytes(layer, setup.context, setup.ubatch, types, setup.n_seq, True, False)


def _layer_bytes(
    layer: Attention,
    context: int,
    ubatch: int,
    types: tuple[str, str],
    n_seq: int,
    unified: bool,
    swa_full: bool,
) -> int:
    one = n_seq * layer.state_bytes
    if layer.cached and layer.kv_heads:
        size = cells(layer, context, ubatch, n_seq, unified=unified, swa_full=swa_full)
        one += size * _cell_bytes(layer, types)
    if layer.cached and (layer.index_key or layer.compression):
        size = cells(replace(layer, window=None), context, ubatch, n_seq, unified=unified)
        one += _second_bytes(layer, types, size, n_seq)
    return one


def _padded(wanted: int) -> int:
    return -(-wanted // CELL_STEP) * CELL_STEP


def _cell_bytes(layer: Attention, types: tuple[str, str]) -> int:
    """Bytes of one cell. A head must be whole blocks, as llama_init_from_model demands."""
    return layer.kv_heads * (
        row_bytes(types[0], layer.key_length) + row_bytes(types[1], layer.value_length)
    )


def _second_bytes(layer: Attention, types: tuple[str, str], whole: int, n_seq: int) -> int:
    """Bytes of a layer's second cache; without a window the first would have `whole` cells."""
    row = row_bytes(types[0], layer.index_key) + row_bytes(types[1], layer.index_value)
    if not layer.compression:
        return whole * row
    row += layer.kv_heads * row_bytes(types[0], layer.key_length)
    return n_seq * _padded(-(-whole // n_seq // layer.compression)) * row


def layer_snapshot(layer: Attention, setup: Setup) -> int:
    """Bytes of one layer in one snapshot that the engine keeps to go back in a chat.

    A snapshot holds what cannot be cut: sliding caches and recurrent states.
    Source: llama.cpp tools/server (LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY).
    """
    kept = layer.state_bytes
    if layer.window and layer.cached:
        types = (setup.kv_type, setup.v_type or setup.kv_type)
        kept += min(setup.context, layer.window) * _cell_bytes(layer, types)
    return kept


def checkpoint_bytes(
    spec: ModelSpec | Build,
    context: int,
    ubatch: int,
    kv_type: str = CACHE_TYPE,
    v_type: str | None = None,
) -> int:
    """Bytes of all snapshots of one sequence; they are in RAM wherever the caches are."""
    setup = Setup(context, kv_type=kv_type, v_type=v_type, ubatch=ubatch)
    return CHECKPOINTS * sum(layer_snapshot(layer, setup) for layer in spec.layers)
